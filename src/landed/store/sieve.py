"""What may be among many keys, and what is certainly not: a Bloom filter, asked for a whole batch at once.

A key is a 64-bit hash. Its low bits choose up to four bits of one 64-bit word, its high bits choose the word:
one look into memory a key, and what is looked for is worked out once for however many sieves.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable
from itertools import compress
from operator import and_, eq

# Sixteen bits of memory a key: of keys that are not there, one in a hundred and fifty passes.
KEYS_A_WORD = 4
PAIR_BITS = 12
PAIRS = [1 << (pair & 63) | 1 << (pair >> 6) for pair in range(1 << PAIR_BITS)]
_LOW = (1 << PAIR_BITS) - 1
_WORD_SHIFT = 2 * PAIR_BITS


class Sought:
    """Keys, with where in a sieve for `keys_max` keys each of them would be. A power of two, at least four."""

    def __init__(self, keys: Collection[int], keys_max: int) -> None:
        self.keys = list(keys)
        last = keys_max // KEYS_A_WORD - 1
        self.words = [key >> _WORD_SHIFT & last for key in self.keys]
        self.masks = [PAIRS[key & _LOW] | PAIRS[key >> PAIR_BITS & _LOW] for key in self.keys]


class Sieve:
    """A sieve for so many keys. What was added always passes."""

    def __init__(self, keys_max: int, kept: bytes | None = None) -> None:
        self._keys_max = keys_max
        self._words = array("Q", bytes(keys_max // KEYS_A_WORD * 8) if kept is None else kept)

    def add(self, keys: Iterable[int]) -> None:
        """Let these pass from now on."""
        words, sought = self._words, Sought(list(keys), self._keys_max)
        for at, mask in zip(sought.words, sought.masks, strict=True):
            words[at] |= mask

    def passing(self, sought: Sought) -> list[int]:
        """The keys that may have been added."""
        # No turn of Python's own loop: this is done for each sieve that there is, and most keys pass none.
        found = map(and_, map(self._words.__getitem__, sought.words), sought.masks)
        return list(compress(sought.keys, map(eq, found, sought.masks)))

    def to_bytes(self) -> bytes:
        """What a sieve like this one is made from."""
        return self._words.tobytes()
