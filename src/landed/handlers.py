"""An application's own Python that hears events: `from landed import on`, then `@on.delivered` above a function.

A handler is a subscriber, so its name must stay: it is made of the names of its file and its function (`app:arrived`),
and what waits for it waits under that name. A subscriber has one set of filters, and so has a function: several
decorators above one function are one handler that hears the events of all of them, and they must filter alike.
An event comes to a function once, therefore, however many of its decorators it fits.

What is wrong with a decorator or a file is a SettingsError of one sentence that begins with file and line.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from traceback import walk_tb
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack, overload

import msgspec

from landed.domain.events import (
    AnyEvent,
    Data,
    EventType,
    InboundData,
    MessageData,
    ReasonView,
    Wanted,
    check_wanted,
    instead_of,
)
from landed.domain.views import InboundView, MessageView, ReceiptView
from landed.errors import SettingsError

SUFFIX = ".py"
MODULE_PREFIX = "landed_handlers_"
TOLD_CHARACTERS_MAX = 300
WHERE_CHARACTERS_MAX = 60
NAME_CHARACTERS_MAX = 150

# Code that is no application's, though it may lie below its directory: ours, Python's, and what is installed.
FOREIGN = (Path(__file__).parent, Path(os.__file__).parent)
PACKAGES = frozenset({"site-packages", "dist-packages"})

Function = Callable[..., object]
Texts = str | Iterable[str]
_F = TypeVar("_F", bound=Function)


class HandlerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler is called with. `message`, `receipt`, `reason` and `inbound` are None where the event has none.

    `id` stays the same at each attempt, of which `attempt` is the number, from 1. `data` is all of it, as its type has
    it. `is_replay` says that a person asked for it again, `is_sample` that nothing of the kind happened.
    """

    id: str
    type: EventType
    timestamp: datetime
    account: str | None
    message: MessageView | None
    receipt: ReceiptView | None
    reason: ReasonView | None
    inbound: InboundView | None
    data: Data
    attempt: int = 1
    is_replay: bool = False
    is_sample: bool = False

    @classmethod
    def of(cls, event: AnyEvent, *, attempt: int = 1, is_replay: bool = False, is_sample: bool = False) -> HandlerEvent:
        """An event at that attempt."""
        data = event.data
        about = data if isinstance(data, MessageData) else None
        return cls(
            id=event.id,
            type=event.type,
            timestamp=event.timestamp,
            account=data.account if isinstance(data, MessageData | InboundData) else None,
            message=None if about is None else about.message,
            receipt=None if about is None else about.receipt,
            reason=None if about is None else about.reason,
            inbound=data.inbound if isinstance(data, InboundData) else None,
            data=data,
            attempt=attempt,
            is_replay=is_replay,
            is_sample=is_sample,
        )


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A function that wants events. `path` and `line` are where its first decorator stands."""

    name: str
    function: Function
    wanted: Wanted
    is_async: bool
    path: Path
    line: int


# Filters.


class Filter(StrEnum):
    """What may be asked for beside the type; the words are the decorators' keywords."""

    CHANNEL = "channel"
    NETWORK = "network"
    OUTCOME = "outcome"
    REASON = "reason"
    PERMANENCE = "permanence"


class Filters(TypedDict, total=False):
    """The same for those who check types. Python itself lets any keyword come, and each wrong one gets a sentence."""

    channel: Texts
    network: Texts
    outcome: Texts
    reason: Texts
    permanence: Texts


class _WrongUse(SettingsError):
    """A decorator is used wrongly; the sentence begins with file and line."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a decorator stands."""

    file: str
    line: int
    module: str

    @classmethod
    def here(cls) -> _Place:
        """Where this module was called from."""
        frame: FrameType | None = inspect.currentframe()
        while frame is not None and frame.f_globals is globals():
            frame = frame.f_back
        if frame is None:
            return cls(file="<unknown>", line=0, module="")
        module = str(frame.f_globals.get("__name__", ""))
        return cls(file=frame.f_code.co_filename, line=frame.f_lineno, module=module)

    def __str__(self) -> str:
        return f"{_shown(self.file)}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One decorator above one function."""

    place: _Place
    function: Function
    wanted: Wanted


# The registry.


class Door:
    """One of the attributes of `on`: above a function as it is, or called with filters."""

    def __init__(self, owner: On, event: EventType) -> None:
        self._owner = owner
        self._event = event

    @overload
    def __call__(self, function: _F, /) -> _F: ...
    @overload
    def __call__(self, function: None = None, /, **filters: Unpack[Filters]) -> Callable[[_F], _F]: ...
    def __call__(self, function: object = None, /, **filters: object) -> object:
        """Take a function, or filters to take one with."""
        place = _Place.here()
        if callable(function) and not filters:
            return self._owner.take(place, function, Wanted(events=(str(self._event),)))
        if function is not None:
            raise _WrongUse(f"{place}: filters have names, as in @on.{self._event.name.lower()}(channel='sms').")
        return self._owner.taking(place, (self._event,), filters)


class On:
    """Where handlers register. `on("message.*", …)` takes patterns of event types; `message.accepted` only by name."""

    def __init__(self) -> None:
        self.__name__ = "on"
        self._asked: list[_Asked] = []
        self.accepted = Door(self, EventType.ACCEPTED)
        self.delivered = Door(self, EventType.DELIVERED)
        self.read = Door(self, EventType.READ)
        self.failed = Door(self, EventType.FAILED)
        self.unconfirmed = Door(self, EventType.UNCONFIRMED)
        self.conflict = Door(self, EventType.CONFLICT)
        self.inbound = Door(self, EventType.INBOUND)
        self.quarantine = Door(self, EventType.QUARANTINE)

    def __call__(self, *patterns: str, **filters: Unpack[Filters]) -> Callable[[_F], _F]:
        """Take events of all types that fit one of the patterns."""
        place = _Place.here()
        events = tuple(_pattern(place, each) for each in patterns or (None,))
        return self.taking(place, events, filters)

    # Where types are checked, a misspelt name is one that there is not.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            there_are = ", ".join(each for each, value in vars(self).items() if isinstance(value, Door))
            raise AttributeError(f"on has no {name!r}: there are {there_are}")

    def taking(self, place: _Place, events: tuple[str, ...], filters: Mapping[str, object]) -> Callable[[_F], _F]:
        """A decorator that takes those events."""
        wanted = _wanted(place, events, filters)
        return lambda function: self.take(place, function, wanted)

    def take(self, place: _Place, function: _F, wanted: Wanted) -> _F:
        """Register a function; it is given back as it is."""
        _check_function(place, function)
        self._asked.append(_Asked(place=place, function=function, wanted=wanted))
        return function

    def handlers(self) -> list[Handler]:
        """All that are registered, in the order of their decorators. SettingsError when two have one name."""
        by_name: dict[str, list[_Asked]] = {}
        for asked in self._asked:
            by_name.setdefault(_name(asked), []).append(asked)
        return [_handler(name, several) for name, several in by_name.items()]

    def forget(self) -> None:
        """Be as new: the modules that registered would register again."""
        for name in {asked.place.module for asked in self._asked} - {"__main__"}:
            sys.modules.pop(name, None)
        self._asked.clear()


on = On()


def _pattern(place: _Place, pattern: object) -> str:
    if not isinstance(pattern, str):
        raise _WrongUse(f"{place}: on takes patterns of event types, as in @on('message.*'), or @on.failed.")
    return str(pattern)


def _wanted(place: _Place, events: tuple[str, ...], filters: Mapping[str, object]) -> Wanted:
    """What those patterns and filters say."""
    given: dict[Filter, tuple[str, ...]] = {}
    for name, value in filters.items():
        if name not in Filter.__members__.values():
            raise _WrongUse(f"{place}: there is no filter {name!r}{instead_of(name, Filter)}.")
        given[Filter(name)] = _texts(place, Filter(name), value)
    wanted = Wanted(
        events=tuple(map(str, events)),
        channels=given.get(Filter.CHANNEL, ()),
        networks=given.get(Filter.NETWORK, ()),
        outcomes=given.get(Filter.OUTCOME, ()),
        reasons=given.get(Filter.REASON, ()),
        permanences=given.get(Filter.PERMANENCE, ()),
    )
    try:
        return check_wanted(wanted)
    except ValueError as error:
        raise _WrongUse(f"{place}: {error}.") from None


def _texts(place: _Place, kind: Filter, value: object) -> tuple[str, ...]:
    given = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    texts = [str(each) for each in given if isinstance(each, str) and each]
    # An empty list would ask for nothing in particular, which is to say for everything.
    if not texts or len(texts) < len(given):
        raise _WrongUse(f"{place}: {kind} is one text or a list of texts, and never empty.")
    return tuple(dict.fromkeys(texts))


def _check_function(place: _Place, function: object) -> None:
    """Whether it can be called with an event, and whether that does anything."""
    name = getattr(function, "__qualname__", None)
    if not callable(function) or inspect.isclass(function) or not isinstance(name, str):
        raise _WrongUse(f"{place}: a handler is a function, and {type(function).__name__} is none.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _WrongUse(f"{place}: {name} yields, so to call it would do nothing: a handler is a plain function.")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise _WrongUse(f"{place}: {name} is called with one event, and cannot be: {error}.") from None
    except ValueError:
        # What is written in C need not say what it takes.
        return


def _name(asked: _Asked) -> str:
    path = Path(asked.place.file)
    stem = path.parent.name if path.stem == "__init__" else path.stem
    name = f"{stem}:{asked.function.__qualname__}"
    if len(name) > NAME_CHARACTERS_MAX:
        raise _WrongUse(f"{asked.place}: the handler's name {name} is longer than {NAME_CHARACTERS_MAX} characters.")
    return name


def _handler(name: str, several: list[_Asked]) -> Handler:
    """The one handler of all decorators above one function."""
    first = several[0]
    for other in several[1:]:
        if other.function is not first.function:
            raise _WrongUse(_twice(name, first.place, other.place))
        if msgspec.structs.replace(other.wanted, events=first.wanted.events) != first.wanted:
            raise _WrongUse(
                f"{other.place}: {name} filters otherwise at {first.place}, and a handler has one set of filters: "
                "make it two functions."
            )
    events = tuple(dict.fromkeys(event for asked in several for event in asked.wanted.events))
    return Handler(
        name=name,
        function=first.function,
        wanted=msgspec.structs.replace(first.wanted, events=events),
        is_async=inspect.iscoroutinefunction(first.function),
        path=Path(first.place.file),
        line=first.place.line,
    )


def _twice(name: str, first: _Place, other: _Place) -> str:
    if str(first) == str(other):
        return f"{first}: {name} is made more than once: give each a name of its own, and import the file nowhere else."
    return f"{other}: there is a handler {name} already, at {first}: give one of them another name."


# Loading.


def load(target: Path | str) -> list[Handler]:
    """The handlers that a file registers, or a module by its dotted name. SettingsError says what is wrong, and where.

    Each load begins afresh. The file's directory is put on `sys.path`, or the working directory for a module.
    """
    named = str(target)
    on.forget()
    root = Path.cwd()
    try:
        if _is_file(named):
            path = Path(named).resolve()
            root = path.parent
            _run(path)
        else:
            _import(named)
    except _WrongUse:
        raise
    except BaseException as error:
        # Even SystemExit: a file that ends the process as it is imported would end every start without a word.
        raise SettingsError(_unloadable(named, root, error)) from error
    handlers = on.handlers()
    if not handlers:
        raise SettingsError(
            f"{_shown(named)} has no handlers: put @on.delivered or the like above a function, or start without "
            "--handlers."
        )
    return handlers


def _is_file(named: str) -> bool:
    """Whether it is a file to run. A module's name has no slash and does not end as a file's."""
    path = Path(named)
    is_module = all(part.isidentifier() for part in named.split(".")) and path.suffix != SUFFIX
    if path.is_dir() and not is_module:
        raise _WrongUse(f"{named} is a directory: name the file with your handlers, as in --handlers app{SUFFIX}.")
    if path.is_file() and path.suffix != SUFFIX:
        raise _WrongUse(f"{named} is no {SUFFIX} file: name the file with your handlers.")
    if not is_module and not path.exists():
        raise _WrongUse(f"{named} does not exist: name the file with your handlers, as in --handlers app{SUFFIX}.")
    return not is_module


class _Fresh(SourceFileLoader):
    """Reads the source each time: what is cached is told by whole seconds, and leaves a directory behind."""

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _run(path: Path) -> None:
    """Import a file under a name of its own, so that it hides no module and none hides it."""
    _put_on_path(path.parent)
    name = MODULE_PREFIX + path.stem
    loader = _Fresh(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None, "there is a loader"  # noqa: S101 - a mistake of ours
    module: ModuleType = module_from_spec(spec)
    # Where dataclasses, pickle and typing look for it.
    sys.modules[name] = module
    loader.exec_module(module)


def _import(named: str) -> None:
    _put_on_path(Path.cwd())
    sys.modules.pop(named, None)
    try:
        import_module(named)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{named}.".startswith(f"{error.name}."):
            raise _WrongUse(
                f"There is no file and no module {named}: name one, as in --handlers app{SUFFIX}."
            ) from None
        raise


def _put_on_path(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _unloadable(named: str, root: Path, error: BaseException) -> str:
    place = place_of(error, root)
    at = _shown(named) if place is None else f"{_shown(place[0])}:{place[1]}"
    return f"{at} does not load: {told_of(error).rstrip('.')}. Mend it, or start without --handlers."


# Errors in code that is not ours.


def place_of(error: BaseException, root: Path) -> tuple[str, int] | None:
    """File and line of the innermost frame in a file under that directory; None where there is none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno and _is_own(error.filename, root):
        return error.filename, error.lineno
    own = [
        (frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if _is_own(frame.f_code.co_filename, root)
    ]
    return own[-1] if own else None


def _is_own(file: str, root: Path) -> bool:
    path = Path(file)
    is_foreign = any(path.is_relative_to(each) for each in FOREIGN) or not PACKAGES.isdisjoint(path.parts)
    return path.is_relative_to(root) and not is_foreign


def told_of(error: BaseException, characters_max: int = TOLD_CHARACTERS_MAX) -> str:
    """An error's type and text, in one line of bounded length."""
    try:
        # SyntaxError's text has file and line once more.
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except BaseException as second:  # noqa: BLE001 - whatever it is, it is the application's
        text = f"its text is {kind_of(second)}"
    kind = kind_of(error)
    return bounded(f"{kind}: {text[:characters_max]}" if text else kind, characters_max)


def kind_of(error: BaseException) -> str:
    """The name of an error's type."""
    return bounded(type(error).__name__, WHERE_CHARACTERS_MAX)


def where_of(handler: Handler, error: BaseException | None = None) -> str:
    """The file's name and the line that an error came from, or else where the handler stands, in a few characters."""
    place = None if error is None else place_of(error, handler.path.parent)
    file, line = place or (handler.path, handler.line)
    return f"{bounded(Path(file).name, WHERE_CHARACTERS_MAX)}:{line}"


def bounded(text: str, characters_max: int) -> str:
    """A text in one line that every terminal and every encoding can take."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: characters_max + 1]).split())
    return line if len(line) <= characters_max else line[: characters_max - 1] + "…"


def _shown(file: str) -> str:
    """A file as a person would name it here."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
