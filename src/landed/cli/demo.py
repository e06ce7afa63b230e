"""`landed demo`."""


def demo() -> None:
    """Demo."""
