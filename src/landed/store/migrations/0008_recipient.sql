-- What was sent to a number is found without reading all messages.
CREATE INDEX message_by_recipient ON message (generation, recipient) WHERE recipient IS NOT NULL;
