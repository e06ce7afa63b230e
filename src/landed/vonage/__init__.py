"""All that knows Vonage's wire; nothing else does."""
