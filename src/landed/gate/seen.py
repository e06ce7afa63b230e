"""Which signatures were made durable lately, and how often.

A copy of a signed request says nothing new, and the join knows it; but whoever once saw a signed request
could fill the disk with it. So of one signature only so many copies are kept. A further one is answered as
before without being kept, which loses nothing: what it says is on disk. Copies count once they are durable,
so that what could not be kept is never taken for kept.

A bounded number of signatures is remembered, those seen last; with a restart they are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable


class Seen:
    """Counts durable copies. Two generations of half the size each: the older one goes as a whole."""

    def __init__(self, *, copies_max: int, signatures_max: int) -> None:
        self.copies_max = copies_max
        self._generation_max = max(1, signatures_max // 2)
        self.newer: dict[int, int] = {}
        self.older: dict[int, int] = {}

    def is_kept_often_enough(self, signature: bytes) -> bool:
        """Whether no further copy needs to be kept."""
        # By Python's keyed hash of them, in a tenth of the room. Two alike would have to be alike for all copies.
        key = hash(signature)
        return (self.newer.get(key) or self.older.get(key, 0)) >= self.copies_max

    def note(self, signatures: Iterable[bytes]) -> None:
        """Copies with these signatures are durable now."""
        newer = self.newer
        for signature in signatures:
            key = hash(signature)
            newer[key] = (newer.get(key) or self.older.get(key, 0)) + 1
        if len(newer) >= self._generation_max:
            self.newer, self.older = {}, newer
