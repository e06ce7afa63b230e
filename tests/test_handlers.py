"""An application's own Python registers handlers; what is wrong with it is one sentence with file and line."""

import os
import sys
from datetime import UTC, datetime

import pytest

from landed.domain.events import (
    Event,
    EventType,
    InboundData,
    MessageData,
    QuarantineData,
    ReasonView,
    Wanted,
    message_data,
)
from landed.domain.lifecycle import Fact, message_of, receipt_key
from landed.domain.receipt import Api, Receipt, Status
from landed.domain.views import InboundView
from landed.errors import SettingsError
from landed.handlers import HandlerEvent, On, bounded, load, told_of

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
ONE = "from landed import on\n\n@on.delivered\ndef arrived(event): ...\n"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch, tmp_path):
    """Loading puts directories on the path and modules beside ours: each test has its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def loaded(directory, text, name="app.py"):
    """The handlers of a file with that text."""
    (directory / name).write_text(text)
    return load(directory / name)


def event_of(receipt):
    key = receipt_key("default", receipt)
    fact = Fact(receipt=receipt, key=key, received_at=NOON)
    data = message_data(message_of("default", [fact]), fact)
    return Event(id="evt_1", type=EventType.FAILED, timestamp=NOON, data=data)


# Each by the decorator: what the handler wants.
WANTED = {
    "bare": ("@on.delivered", Wanted(events=("message.delivered",))),
    "called-without-filters": ("@on.read()", Wanted(events=("message.read",))),
    "accepted": ("@on.accepted", Wanted(events=("message.accepted",))),
    "unconfirmed": ("@on.unconfirmed", Wanted(events=("message.unconfirmed",))),
    "conflict": ("@on.conflict", Wanted(events=("message.conflict",))),
    "inbound-of-a-channel": ("@on.inbound(channel='sms')", Wanted(events=("inbound.received",), channels=("sms",))),
    "quarantine": ("@on.quarantine", Wanted(events=("quarantine.growing",))),
    "filters": (
        "@on.failed(channel='SMS', permanence='temporary', reason=['handset-busy', 'network-error'])",
        Wanted(
            events=("message.failed",),
            channels=("sms",),
            reasons=("handset-busy", "network-error"),
            permanences=("temporary",),
        ),
    ),
    "a-pattern": (
        "@on('message.*', network=['26201', '26202', '26201'])",
        Wanted(events=("message.*",), networks=("26201", "26202")),
    ),
    "patterns": ("@on('*', 'message.accepted')", Wanted(events=("*", "message.accepted"))),
    "an-enumeration": (
        "from landed import Outcome\n@on.conflict(outcome={Outcome.FAILED})",
        Wanted(events=("message.conflict",), outcomes=("failed",)),
    ),
    "several-decorators": (
        "@on.failed(channel='sms')\n@on.delivered(channel='sms')",
        Wanted(events=("message.delivered", "message.failed"), channels=("sms",)),
    ),
}


@pytest.mark.parametrize(("decorator", "wanted"), WANTED.values(), ids=WANTED)
def test_a_decorator_says_what_a_handler_wants(tmp_path, decorator, wanted):
    (handler,) = loaded(tmp_path, f"from landed import on\n{decorator}\ndef heard(event): ...\n")

    assert handler.wanted == wanted
    assert handler.name == "app:heard"
    assert all(type(pattern) is str for pattern in handler.wanted.events)


def test_a_decorator_gives_the_function_back_as_it_is():
    on = On()

    def heard(event):
        return event

    assert on.failed(heard) is heard
    assert on.failed(channel="sms")(heard) is heard
    assert on("message.*")(heard) is heard


def test_a_coroutine_function_is_known_by_its_definition(tmp_path):
    text = "from landed import on\n@on.read\nasync def a(event): ...\n@on.read\ndef b(event): ...\n"

    assert [(each.name, each.is_async) for each in loaded(tmp_path, text)] == [("app:a", True), ("app:b", False)]


def test_a_handler_has_the_name_of_its_file_and_of_its_function_in_full(tmp_path):
    text = "from landed import on\nclass Shop:\n    @staticmethod\n    @on.read\n    def seen(event): ...\n"

    assert [each.name for each in loaded(tmp_path, text, "orders.py")] == ["orders:Shop.seen"]


def test_a_module_beside_the_file_may_have_handlers_too(tmp_path):
    (tmp_path / "tasks.py").write_text(ONE)

    handlers = loaded(tmp_path, "import tasks\n" + ONE)

    assert [each.name for each in handlers] == ["tasks:arrived", "app:arrived"]
    assert [each.name for each in load(tmp_path / "app.py")] == ["tasks:arrived", "app:arrived"]


def test_a_second_load_starts_afresh(tmp_path):
    loaded(tmp_path, ONE)

    assert [each.name for each in loaded(tmp_path, ONE.replace("arrived", "changed"))] == ["app:changed"]


def test_a_load_after_one_that_failed_starts_afresh(tmp_path):
    with pytest.raises(SettingsError):
        loaded(tmp_path, ONE + "1 / 0\n")

    assert [each.name for each in loaded(tmp_path, ONE)] == ["app:arrived"]


def test_a_file_neither_hides_a_module_of_its_name_nor_leaves_anything_behind(tmp_path):
    handlers = loaded(tmp_path, "import json\n" + ONE + "assert json.dumps\n", "json_.py")

    assert [each.name for each in handlers] == ["json_:arrived"]
    assert "json_" not in sys.modules
    assert [path.name for path in tmp_path.iterdir()] == ["json_.py"]


def test_dataclasses_work_in_the_file(tmp_path):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n"

    assert loaded(tmp_path, text + ONE.replace("from landed", "from landed"))


def test_a_module_is_loaded_by_its_dotted_name(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "hears.py").write_text("from . import words\n" + ONE)
    (tmp_path / "shop" / "words.py").write_text("")

    assert [each.name for each in load("shop.hears")] == ["hears:arrived"]
    assert [each.name for each in load("shop.hears")] == ["hears:arrived"]


def test_handlers_in_a_package_itself_have_its_name(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(ONE)

    assert [each.name for each in load("shop")] == ["shop:arrived"]


HEAD = "from landed import on\n\n"
FUNCTION = "\ndef heard(event): ...\n"
# Each by the text of app.py: how the sentence begins, and what else is in it.
WRONG = {
    "a-name-that-there-is-not": (
        "import os\n\nx()\n",
        "app.py:3 does not load: NameError: name 'x' is not defined. Mend",
    ),
    "a-syntax-error": ("def heard(:\n", "app.py:1 does not load: SyntaxError: "),
    "an-indentation-error": ("def heard(event):\npass\n", "app.py:2 does not load: IndentationError: "),
    "a-null-byte": ("\0", "app.py does not load: "),
    "a-missing-module": ("\nimport no_such_module_at_all\n", "app.py:2 does not load: ModuleNotFoundError: No module"),
    "an-error-deep-in-a-library": (
        "import json\ndef f():\n    json.loads('')\nf()\n",
        "app.py:3 does not load: JSONDec",
    ),
    "sys-exit": ("import sys\nsys.exit('enough')\n", "app.py:2 does not load: SystemExit: enough. Mend it"),
    "sys-exit-without-a-word": ("raise SystemExit\n", "app.py:1 does not load: SystemExit. Mend it, or start without"),
    "an-interruption": ("raise KeyboardInterrupt\n", "app.py:1 does not load: KeyboardInterrupt. Mend it"),
    "a-text-that-raises": (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E\n",
        "app.py:3 does not load: E: its text is ValueError",
    ),
    "settings-of-its-own": (
        "from landed.errors import SettingsError\nraise SettingsError('no')\n",
        "app.py:2 does not",
    ),
    "no-handlers": ("import os\n", "app.py has no handlers: "),
    "an-unknown-attribute": (
        HEAD + "@on.delivred" + FUNCTION,
        "app.py:3 does not load: AttributeError: on has no 'deli",
    ),
    "a-misspelt-filter": (
        HEAD + "@on.failed(chanel='sms')" + FUNCTION,
        "app.py:3: there is no filter 'chanel': 'chann",
    ),
    "an-unknown-permanence": (
        HEAD + "@on.failed(permanence='for ever')" + FUNCTION,
        "app.py:3: no permanence is 'for ",
    ),
    "an-unknown-outcome": (
        HEAD + "@on.failed(outcome=['lost'])" + FUNCTION,
        "app.py:3: no outcome is 'lost': there are ",
    ),
    "an-unknown-reason": (
        HEAD + "@on.failed(reason='opted')" + FUNCTION,
        "app.py:3: no reason is 'opted': 'opted-out'",
    ),
    "a-reason-like-none": (
        HEAD + "@on.failed(reason='zzz')" + FUNCTION,
        "app.py:3: no reason is 'zzz': see docs/reasons",
    ),
    "no-text": (HEAD + "@on.failed(network=26201)" + FUNCTION, "app.py:3: network is one text or a list of texts"),
    "an-empty-list": (HEAD + "@on.failed(channel=[])" + FUNCTION, "app.py:3: channel is one text or a list of texts"),
    "an-empty-text": (HEAD + "@on.failed(channel=['sms', ''])" + FUNCTION, "app.py:3: channel is one text or a list"),
    "what-inbound-has-not": (HEAD + "@on.inbound(network='1')" + FUNCTION, "app.py:3: inbound.received has no network"),
    "what-quarantine-has-not": (
        HEAD + "@on('q*', channel='a')" + FUNCTION,
        "app.py:3: quarantine.growing has no channel",
    ),
    "a-filter-without-its-name": (
        HEAD + "@on.failed('sms')" + FUNCTION,
        "app.py:3: filters have names, as in @on.failed(",
    ),
    "an-unknown-pattern": (
        HEAD + "@on('delivered')" + FUNCTION,
        "app.py:3: no event is 'delivered': 'message.delivered",
    ),
    "accepted-by-a-pattern": (
        HEAD + "@on('message.acc*')" + FUNCTION,
        "app.py:3: no event is 'message.acc*': 'message.acc",
    ),
    "no-pattern": (HEAD + "@on()" + FUNCTION, "app.py:3: on takes patterns of event types"),
    "on-alone": (HEAD + "@on" + FUNCTION, "app.py:3: on takes patterns of event types"),
    "a-decorator-of-several-lines": (
        HEAD + "@on.failed(\n    channel='sms',\n    reason='x',\n)" + FUNCTION,
        "app.py:3: no reason is 'x'",
    ),
    "a-class": (HEAD + "@on.failed\nclass A: ...\n", "app.py:3: a handler is a function, and type is none."),
    "a-thing": (HEAD + "on.failed(channel='sms')(3)\n", "app.py:3: a handler is a function, and int is none."),
    "a-generator": (HEAD + "@on.failed\ndef f(event): yield\n", "app.py:3: f yields, so to call it would do nothing"),
    "no-argument": (
        HEAD + "@on.failed\ndef f(): ...\n",
        "app.py:3: f is called with one event, and cannot be: too many",
    ),
    "two-arguments": (
        HEAD + "@on.failed\ndef f(a, b): ...\n",
        "app.py:3: f is called with one event, and cannot be: miss",
    ),
    "a-name-twice": (
        HEAD + "@on.failed" + FUNCTION + "@on.read" + FUNCTION,
        "app.py:5: there is a handler app:heard already, at app.py:3: give one of them another name.",
    ),
    "made-in-a-loop": (
        HEAD + "for _ in '12':\n    @on.failed\n    def heard(event): ...\n",
        "app.py:4: app:heard is made more than once: ",
    ),
    "imported-once-more": (
        HEAD + "@on.failed" + FUNCTION + "import app\n",
        "app.py:3: app:heard is made more than once",
    ),
    "two-sets-of-filters": (
        HEAD + "@on.failed(channel='sms')\n@on.read" + FUNCTION,
        "app.py:3: app:heard filters otherwise at app.py:4, ",
    ),
    "an-endless-name": (
        HEAD + "@on.failed\ndef " + "f" * 200 + "(event): ...\n",
        "app.py:3: the handler's name app:fff",
    ),
}


@pytest.mark.parametrize(("text", "beginning"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_sentence_with_its_line(tmp_path, text, beginning):
    with pytest.raises(SettingsError) as raised:
        loaded(tmp_path, text)

    assert str(raised.value).startswith(beginning)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_an_error_in_a_module_beside_the_file_is_told_with_the_line_there(tmp_path):
    (tmp_path / "tasks.py").write_text("\n\n1 / 0\n")

    with pytest.raises(SettingsError, match=r"^tasks\.py:3 does not load: ZeroDivisionError: division by zero\."):
        loaded(tmp_path, "import tasks\n")


def test_a_syntax_error_in_a_module_beside_the_file_is_told_with_the_line_there(tmp_path):
    (tmp_path / "tasks.py").write_text("\n(\n")

    with pytest.raises(SettingsError, match=r"^tasks\.py:2 does not load: SyntaxError"):
        loaded(tmp_path, "import tasks\n")


def test_a_file_elsewhere_is_named_in_full(tmp_path):
    (tmp_path / "here").mkdir()
    os.chdir(tmp_path / "here")

    with pytest.raises(SettingsError) as raised:
        loaded(tmp_path, "1 / 0\n")

    assert str(raised.value).startswith(f"{tmp_path / 'app.py'}:1 does not load: ")


# Each by what is named: what is said.
NOT_THERE = {
    "no-file": ("app.py", "app.py does not exist: "),
    "no-file-in-a-directory": ("shop/app.py", "shop/app.py does not exist: "),
    "no-module": ("shop.hears", "There is no file and no module shop.hears: "),
    "no-module-in-a-package": ("package.hears", "There is no file and no module package.hears: "),
    "no-python": ("notes.txt", "notes.txt is no .py file: "),
    "no-suffix": ("notes", "notes is no .py file: "),
    "a-directory": ("./package", "./package is a directory: "),
    "nothing": ("", " is a directory: "),
}


@pytest.mark.parametrize(("named", "beginning"), NOT_THERE.values(), ids=NOT_THERE)
def test_what_is_no_file_with_handlers_is_told(tmp_path, named, beginning):
    for name in ("notes.txt", "notes"):
        (tmp_path / name).write_text("")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")

    with pytest.raises(SettingsError) as raised:
        load(named)

    assert str(raised.value).startswith(beginning)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "app.py").write_text(ONE)
    (tmp_path / "app.py").chmod(0)

    with pytest.raises(SettingsError, match=r"^app\.py does not load: PermissionError"):
        load("app.py")


def test_an_unknown_attribute_is_an_attribute_error_for_who_asks():
    assert not hasattr(On(), "delivred")


def test_a_failed_message_comes_with_its_receipt_and_reason():
    receipt = Receipt(
        api=Api.SMS,
        message_id="m",
        channel="sms",
        status=Status.FAILED,
        provider_status="failed",
        code="7",
        to="491701234567",
    )

    event = HandlerEvent.of(event_of(receipt), attempt=3, is_replay=True)

    assert (event.id, event.type, event.timestamp, event.account) == ("evt_1", "message.failed", NOON, "default")
    assert (event.message.to, event.message.outcome) == ("491701234567", "failed")
    assert event.receipt.code == "7"
    assert isinstance(event.reason, ReasonView)
    assert (event.reason.slug, event.reason.permanence) == ("handset-busy", "temporary")
    assert event.inbound is None
    assert isinstance(event.data, MessageData)
    assert (event.attempt, event.is_replay, event.is_sample) == (3, True, False)


def test_an_inbound_message_comes_alone():
    inbound = InboundView(
        message_id="m",
        api="sms",
        channel="sms",
        message_type="text",
        text="hello",
        to="1",
        sender="2",
        occurred_at=NOON,
        verified=True,
        stale=False,
    )
    data = InboundData(account="other", inbound=inbound)

    event = HandlerEvent.of(Event(id="evt_2", type=EventType.INBOUND, timestamp=NOON, data=data))

    assert (event.account, event.inbound.text, event.inbound.sender) == ("other", "hello", "2")
    assert (event.message, event.receipt, event.reason) == (None, None, None)


def test_a_quarantine_that_grows_is_of_no_account():
    data = QuarantineData(held=3, came=2, reasons={"wrong": 2})

    event = HandlerEvent.of(Event(id="evt_3", type=EventType.QUARANTINE, timestamp=NOON, data=data))

    assert (event.account, event.message, event.inbound) == (None, None, None)
    assert event.data.held == 3


# Each by a text: what is told of it in twelve characters.
BOUNDED = {
    "short": ("as it is", "as it is"),
    "exact": ("twelve chars", "twelve chars"),
    "long": ("thirteen chars", "thirteen ch…"),
    "lines": ("a\n  b\tc", "a b c"),
    "a-terminal's-commands": ("a\x1b[31mb", "a [31mb"),
    "half-a-character": ("a\ud800b", "a b"),
    "enormous": ("x" * 10_000_000, "xxxxxxxxxxx…"),
}


@pytest.mark.parametrize(("text", "told"), BOUNDED.values(), ids=BOUNDED)
def test_what_is_told_is_one_line_of_bounded_length(text, told):
    assert bounded(text, 12) == told


def test_an_error_is_told_by_its_type_and_text():
    assert told_of(ValueError("no\nnumber")) == "ValueError: no number"
    assert told_of(KeyError("a")) == "KeyError: 'a'"
    assert told_of(ValueError()) == "ValueError"
    assert len(told_of(ValueError("x" * 1_000), 50)) == 50
