"""An offline Vonage, for whoever has no account: takes sends, and calls back with signed receipts."""
