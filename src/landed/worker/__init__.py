"""What happens behind the journal: fold, and all that acts on what it finds."""
