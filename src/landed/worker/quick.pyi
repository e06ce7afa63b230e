from collections.abc import Callable

from landed.store import First
from landed.worker.fold import ReadRecord

class QuickReader:
    def __init__(self, other: Callable[[int, bytes], First | ReadRecord]) -> None: ...
    def read(self, position: int, data: bytes) -> First | ReadRecord: ...
