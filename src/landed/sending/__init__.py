"""Sending through Vonage, so that no crash and no silence makes two messages of one."""
