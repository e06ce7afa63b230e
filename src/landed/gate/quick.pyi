from landed.gate.judge import Judge
from landed.gate.keeper import Judged, Keeper
from landed.gate.plain import Plain
from landed.gate.usual import UsualRequests

class QuickWay:
    by_openssl: bool

    def __init__(self, other: UsualRequests, judge: Judge, keeper: Keeper, *, by_openssl: bool = True) -> None: ...
    def taken(self, data: bytes, now_us: int, peer: str) -> Judged | Plain | None: ...
