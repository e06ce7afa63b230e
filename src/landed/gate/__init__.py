"""The public side: takes requests, makes them durable, answers. It does not know the store."""
