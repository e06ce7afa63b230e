"""Chance that can be had again: every draw is a function of the seed, of what it is drawn for, and of its name.

So how many calls overlap does not change what becomes of a message, and a draw that is added later changes no other
one. What is sent in the same order has the same ids, and the same fates.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping
from statistics import NormalDist
from typing import TypeVar

DRAW_BYTES = 16
_DRAW_MAX = float(1 << 64)
_NORMAL = NormalDist()
# Keeps the quantile of a draw that happens to be 0 or 1 finite.
_SMALL = 1e-9

_T = TypeVar("_T")


class Dice:
    """The draws of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._seeded = hashlib.blake2b(str(seed).encode(), digest_size=DRAW_BYTES)

    def bytes_of(self, name: str, *what: object) -> bytes:
        """Sixteen bytes."""
        hashed = self._seeded.copy()
        hashed.update("\0".join((name, *map(str, what))).encode())
        return hashed.digest()

    def share(self, name: str, *what: object) -> float:
        """A number from 0 to 1, each as likely."""
        return int.from_bytes(self.bytes_of(name, *what)[:8], "big") / _DRAW_MAX

    def happens(self, probability: float, name: str, *what: object) -> bool:
        """Whether what happens in that part of all cases happens in this one."""
        return probability > 0 and self.share(name, *what) < probability

    def pick(self, weights: Mapping[_T, float], name: str, *what: object) -> _T:
        """One of several, each as likely as its weight says."""
        left = self.share(name, *what) * sum(weights.values())
        for each, weight in weights.items():
            left -= weight
            if left < 0:
                return each
        return next(reversed(list(weights)))

    def around(self, median: float, spread: float, name: str, *what: object) -> float:
        """A time around a median, never negative: log-normal, `spread` being 0 for no difference at all."""
        share = min(max(self.share(name, *what), _SMALL), 1 - _SMALL)
        return float(median * math.exp(spread * _NORMAL.inv_cdf(share)))

    def uuid(self, name: str, *what: object) -> str:
        """A UUID, version 4 in form."""
        return str(uuid.UUID(bytes=self.bytes_of(name, *what), version=4))

    def hex(self, digits: int, name: str, *what: object) -> str:
        """So many hexadecimal digits."""
        return self.bytes_of(name, *what).hex()[:digits]
