-- Which part of which long text a message is, where the sender said so.
ALTER TABLE message ADD COLUMN group_id TEXT;
ALTER TABLE message ADD COLUMN part INTEGER;
ALTER TABLE message ADD COLUMN parts INTEGER;
CREATE INDEX message_by_group ON message (generation, group_id) WHERE group_id IS NOT NULL;
