"""The usual requests: whole, plain, and with a signature that holds. Nearly all that Vonage sends is that.

They are read, judged and encoded the quick way where it was compiled and knows their heads, else the short way. All
else is the business of the parser, the judge and the keeper. Properties hold that each way comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from landed.gate.judge import Judge
from landed.gate.keeper import Judged, Keeper
from landed.gate.plain import Plain, PlainReader
from landed.gate.short import ShortWay
from landed.settings import Limits

if TYPE_CHECKING:
    from landed.gate.quick import QuickWay


class UsualRequests:
    """Takes the usual requests by this judge's secrets. `path_of` gives a path as we call it."""

    def __init__(self, judge: Judge, keeper: Keeper, limits: Limits, path_of: Callable[[str], str]) -> None:
        self._reader = PlainReader(limits)
        self._short = ShortWay(judge, keeper, path_of)
        self.bytes_max = self._reader.bytes_max

    def taken(self, data: bytes, now_us: int, peer: str) -> Judged | Plain | None:
        """The request that these bytes are, judged, and to be kept in the journal.

        Undecided where it is plain and not usual, and None where it is not plain.
        """
        plain = self._reader.read(data)
        return None if plain is None else self._short.judged(plain, now_us, peer) or plain


def quickest(usual: UsualRequests, judge: Judge, keeper: Keeper) -> UsualRequests | QuickWay:
    """The same, compiled, where it was."""
    way = quick_way()
    return usual if way is None else way(usual, judge, keeper)


def quick_way() -> type[QuickWay] | None:
    """The compiled way, if there is one."""
    try:
        from landed.gate.quick import QuickWay  # noqa: PLC0415 - it need not be there
    except ImportError:
        return None
    return QuickWay
