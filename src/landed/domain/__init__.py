"""What landed knows about receipts and messages. Pure: no I/O, no clock, no settings."""
