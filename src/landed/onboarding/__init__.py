"""Getting from nothing to receipts that come, and finding out why they do not."""
