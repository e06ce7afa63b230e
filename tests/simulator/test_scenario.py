"""Scenarios and faults: what their files and options may say, and what each kind of fault does to the calls."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate, chain, pairwise, repeat
from urllib.parse import parse_qs

import jwt
import msgspec
import pytest

import landed
from landed.domain.receipt import Api
from landed.errors import SettingsError
from landed.simulator import scenario
from landed.simulator.account import SmsSetting, Transport
from landed.simulator.clock import STEPPED
from landed.simulator.dice import Dice
from landed.simulator.faults import KINDS, FaultKind, Wanted, wanted, wanted_of
from landed.simulator.networks import NETWORKS, Networks
from landed.simulator.scenario import STEPPED_BEGAN, Scenario, load_scenario, speed_of
from landed.simulator.simulator import Send

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
# The time of the tests' signatures, which is the real one as the simulation has it.
REAL = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = "a signature secret of the tests"
TOLL_FREE = "18885550100"


@pytest.fixture
def loaded(tmp_path):
    """The scenario of a file with this text."""

    def load(text):
        file = tmp_path / "scenario.toml"
        file.write_text(text, "utf-8")
        return load_scenario(file)

    return load


def sentence_of(error, *named):
    """Whether what an error says is one sentence, and names these."""
    text = str(error.value)
    assert text.endswith(".")
    assert ". " not in text
    assert "\n" not in text
    assert all(name in text for name in named), text


# Scenarios.


def test_no_file_is_the_usual_scenario():
    assert load_scenario(None) == Scenario()


def test_an_empty_file_is_the_usual_scenario_too(loaded):
    assert msgspec.to_builtins(loaded("")) == msgspec.to_builtins(Scenario())


def test_what_the_module_shows_is_all_read(loaded):
    read = loaded(scenario.__doc__.partition("\n\n")[2])
    (network,) = read.networks
    assert (read.seed, read.speed, read.status_url) == (7, 60.0, "http://127.0.0.1:3000/webhooks/message-status")
    assert read.settings.webhook_format is Transport.GET
    assert read.fates == {"447911123456": "buffered"}
    assert (network.code, network.latency_seconds, network.fates) == ("23410", 30.0, {"delivered": 90.0, "lost": 10.0})
    assert read.faults == (Wanted(kind=FaultKind.OUTAGE, from_seconds=600, for_seconds=3_600),)


def test_what_is_not_said_of_a_network_stays(loaded):
    known = next(network for network in NETWORKS if network.code == "23430")
    (network,) = loaded("[network.23430]\nlatency_seconds = 9").networks
    assert network.latency_seconds == 9.0
    assert (network.country, network.share, network.spread, dict(network.fates), network.duplicates) == (
        "GB", known.share, known.spread, dict(known.fates), known.duplicates
    )  # fmt: skip


def test_a_network_of_the_usa_that_is_changed_still_goes_by_the_sender(loaded):
    changed = loaded("[network.310260]\nlatency_seconds = 9").networks
    networks = Networks(Dice(1), changed)
    counted = Counter(networks.fate_of(changed[0], TOLL_FREE, "12125550100", str(number)) for number in range(1_000))
    assert counted["delivered"] > 900


def test_an_account_may_be_one_s_own(loaded):
    read = loaded(
        """
        receipt_url = "http://127.0.0.1:3000/dr"
        [account]
        api_key = "abcd1234"
        api_secret = "Secret0"
        signature_secret = "of your own"
        balance = "10.00"
        sms_setting = "messages"
        webhook_format = "each"
        signature_method = "sha256"
        signs_receipts = false
        throughput = 5
        """
    )
    assert (read.api_key, read.api_secret, read.signature_secret) == ("abcd1234", "Secret0", "of your own")
    assert (read.balance, read.receipt_url) == (Decimal("10.00"), "http://127.0.0.1:3000/dr")
    settings = read.settings
    assert (settings.sms_setting, settings.webhook_format) == (SmsSetting.MESSAGES, None)
    assert (settings.signature_method, settings.signs_receipts, settings.throughput) == ("sha256", False, 5)


@pytest.mark.parametrize("written", ["2026-08-01T12:00:00", "2026-08-01T12:00:00Z", "2026-08-01T14:00:00+02:00"])
def test_a_begin_without_a_zone_is_utc(loaded, written):
    assert loaded(f"begin = {written}").begins_at(REAL) == NOON


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, REAL), ({"speed": 60.0}, REAL), ({"speed": STEPPED}, STEPPED_BEGAN), ({"began_at": NOON}, NOON)],
)
def test_time_begins_now_unless_it_is_stepped_or_said(options, expected):
    assert Scenario(**options).begins_at(REAL) == expected


@pytest.mark.parametrize(
    ("value", "speed"), [("stepped", STEPPED), (0, STEPPED), ("60", 60.0), (0.5, 0.5), (1_000_000, 1_000_000.0)]
)
def test_a_speed_is_a_number_or_stepped(value, speed):
    assert speed_of(value) == speed


@pytest.mark.parametrize("value", ["fast", "", -1, 1_000_001, "nan", "inf", None, True])
def test_a_speed_that_is_none_is_refused(value):
    with pytest.raises(SettingsError) as error:
        speed_of(value)
    sentence_of(error, "speed")


# A file, and what its error names.
WRONG = {
    "no TOML": ("seed 7", "line 1"),
    "unknown name": ("sped = 60", "sped"),
    "seed": ('seed = "seven"', "seed"),
    "speed": ('speed = "fast"', "fast"),
    "begin": ("begin = 12:00:00", "begin"),
    "status_url": ("status_url = 5", "status_url"),
    "unknown setting": ("[account]\nwebhookformat = 'GET'", "webhookformat"),
    "webhook format": ("[account]\nwebhook_format = 'PUT'", "PUT"),
    "sms setting": ("[account]\nsms_setting = 'both'", "both"),
    "throughput": ("[account]\nthroughput = 'fast'", "throughput"),
    "throughput below 0": ("[account]\nthroughput = -1", "throughput"),
    "signature method": ("[account]\nsignature_method = 'sha3'", "sha3"),
    "receipt url": ("[account]\nreceipt_url = 'example.com/x'", "example.com/x"),
    "balance": ("[account]\nbalance = 'much'", "balance"),
    "balance no number": ("[account]\nbalance = nan", "balance"),
    "fate": ("[fates]\n447911123456 = 'teleported'", "teleported"),
    "empty fate": ("[fates]\n447911123456 = ''", "''"),
    "fate 5": ("[fates]\n447911123456 = 5", "fates"),
    "unknown network": ("[network.00000]\nlatency_seconds = 1", "00000"),
    "unknown name of a network": ("[network.23410]\nlatency = 1", "latency"),
    "latency": ("[network.23410]\nlatency_seconds = 'long'", "latency_seconds"),
    "latency below 0": ("[network.23410]\nlatency_seconds = -1", "23410"),
    "share below 0": ("[network.23410]\nshare = -1", "23410"),
    "weight below 0": ("[network.23410]\nfates = { delivered = 2, lost = -1 }", "23410"),
    "no weights": ("[network.23410]\nfates = {}", "23410"),
    "weights of 0": ("[network.23410]\nfates = { delivered = 0 }", "23410"),
    "fate of a network": ("[network.23410]\nfates = { teleported = 1 }", "teleported"),
    "fault": ("[[fault]]\nkind = 'earthquake'", "earthquake"),
    "fault without kind": ("[[fault]]\nfor = '1h'", "kind"),
    "fault's option": ("[[fault]]\nkind = 'outage'\nby = '1h'", "by"),
    "fault's time": ("[[fault]]\nkind = 'outage'\nfor = 'ever'", "ever"),
}


@pytest.mark.parametrize(("text", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_file_is_said_in_a_sentence_with_its_name(loaded, text, named):
    with pytest.raises(SettingsError) as error:
        loaded(text)
    sentence_of(error, "scenario.toml", named)


@pytest.mark.parametrize("content", [None, b"seed = \xff"], ids=["missing", "no UTF-8"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "scenario.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as error:
        load_scenario(file)
    sentence_of(error, "scenario.toml")


# Faults: as the command line has them, as a mapping of a scenario or the control API, and what is wanted.
FAULTS = [
    ("outage", {"kind": "outage"}, Wanted(kind=FaultKind.OUTAGE)),
    (
        "outage,from=10m,for=1h",
        {"kind": "outage", "from": "10m", "for": "1h"},
        Wanted(kind=FaultKind.OUTAGE, from_seconds=600, for_seconds=3_600),
    ),
    ("wrong-secret,part=0.5", {"kind": "wrong-secret", "part": 0.5}, Wanted(kind=FaultKind.WRONG_SECRET, part=0.5)),
    ("unsigned,part=0", {"kind": "unsigned", "part": 0}, Wanted(kind=FaultKind.UNSIGNED, part=0)),
    ("skew", {"kind": "skew"}, Wanted(kind=FaultKind.SKEW, amount=3_600)),
    ("skew,by=-2d", {"kind": "skew", "by": "-2d"}, Wanted(kind=FaultKind.SKEW, amount=-172_800)),
    ("slow,by=250ms", {"kind": "slow", "by": 0.25}, Wanted(kind=FaultKind.SLOW, amount=0.25)),
    ("slow", {"kind": "slow"}, Wanted(kind=FaultKind.SLOW, amount=2)),
    ("burst,for=90", {"kind": "burst", "for": 90}, Wanted(kind=FaultKind.BURST, for_seconds=90)),
    ("duplicates", {"kind": "duplicates"}, Wanted(kind=FaultKind.DUPLICATES, amount=2)),
    ("duplicates,copies=46", {"kind": "duplicates", "copies": 46}, Wanted(kind=FaultKind.DUPLICATES, amount=46)),
    ("disorder,by=1.5h", {"kind": "disorder", "by": "1.5h"}, Wanted(kind=FaultKind.DISORDER, amount=5_400)),
    (
        " disorder , from = 1 s , part = 0.1 ",
        {"kind": "disorder", "from": 1, "part": "0.1"},
        Wanted(kind=FaultKind.DISORDER, from_seconds=1, part=0.1, amount=60),
    ),
]


@pytest.mark.parametrize(("text", "options", "expected"), FAULTS, ids=[text for text, _, _ in FAULTS])
def test_a_fault_has_three_spellings(loaded, text, options, expected):
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    assert wanted_of(text) == wanted(options) == expected
    assert loaded(f"[[fault]]\n{lines}").faults == (expected,)


def test_every_kind_of_fault_is_in_the_table():
    assert {expected.kind for _, _, expected in FAULTS} == set(KINDS) == set(FaultKind)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "kind"),
        ("earthquake", "earthquake"),
        ("outage,", "outage,"),
        ("outage,for", "outage,for"),
        ("outage,for=", "outage,for="),
        ("outage,=1h", "outage"),
        ("outage,by=1h", "by"),
        ("outage,copies=2", "copies"),
        ("skew,copies=2", "copies"),
        ("outage,for=-1h", "-1h"),
        ("outage,for=ever", "ever"),
        ("outage,for=1w", "1w"),
        ("outage,for=367d", "367d"),
        ("outage,from=1h2m", "1h2m"),
        ("slow,by=-1s", "-1s"),
        ("outage,part=half", "half"),
        ("outage,part=1.5", "1.5"),
        ("outage,part=-0.1", "-0.1"),
        ("outage,part=nan", "part"),
        ("duplicates,copies=0", "46"),
        ("duplicates,copies=47", "46"),
        ("duplicates,copies=nan", "46"),
        ("duplicates,copies=many", "many"),
        ("duplicates,copies=1.5", "1.5"),
        ("burst", "burst"),
    ],
)
def test_a_fault_that_is_none_is_refused_with_a_sentence(text, named):
    with pytest.raises(SettingsError) as error:
        wanted_of(text)
    sentence_of(error, named)


@pytest.mark.parametrize("options", [{}, {"kind": None}, {"kind": "outage", "for": True}, {"kind": "slow", "by": []}])
def test_options_of_other_kinds_are_refused_with_a_sentence(options):
    with pytest.raises(SettingsError) as error:
        wanted(options)
    sentence_of(error)


# What faults do to calls.


def send(api=Api.MESSAGES, to="447700900013"):
    """A message whose one receipt comes at once: the last word on its recipient is `accepted`."""
    return Send(api=api, to=to, sender="ACME", text="Hello")


@pytest.fixture
def calls(simulation):
    """All calls of so many messages while a fault goes on, once all have come."""

    def made(*faults, api=Api.MESSAGES, messages=1, answers=(200,)):
        async def play(simulator, _receiver):
            for _ in range(messages):
                simulator.take(send(api))
            await simulator.clock.settle()
            return simulator.caller.callbacks

        return simulation(play, *answers, faults=tuple(map(wanted_of, faults)), signature_secret=SECRET)

    return made


def seconds(moment):
    return (moment - NOON).total_seconds()


def tried(callback):
    """When a call was tried, in seconds after its first try."""
    return [(attempt.at - callback.attempts[0].at).total_seconds() for attempt in callback.attempts]


def parsed(callback):
    request = callback.request
    return landed.parse(request.method, request.path, request.query, request.headers, request.body, secrets=SECRET)


def signed_at(callback):
    """The time that a call's signature bears, in Unix seconds."""
    if callback.form.api is Api.SMS:
        return int(json.loads(callback.request.body)["timestamp"])
    token = dict(callback.request.headers)[b"authorization"].decode().removeprefix("Bearer ")
    return jwt.decode(token, options={"verify_signature": False})["iat"]


def is_signed(request):
    return b"authorization" in dict(request.headers) or b'"sig"' in request.body


def is_unsigned(callback):
    return not is_signed(callback.request)


def is_refused(callback):
    try:
        parsed(callback)
    except landed.BadSignature:
        return True
    return False


def is_skewed(callback):
    return signed_at(callback) != REAL.timestamp()


def test_in_an_outage_nobody_is_called_and_after_it_all_are_by_their_schedules(simulation):
    async def play(simulator, receiver):
        for _ in range(60):
            for api in Api:
                simulator.take(send(api))
            await simulator.clock.step(timedelta(minutes=1))
        during = len(receiver.requests)
        await simulator.clock.settle()
        return during, len(receiver.requests), simulator.caller.callbacks

    during, after, callbacks = simulation(play, faults=(wanted_of("outage,for=1h"),))
    assert (during, after) == (0, 120)
    schedules = {
        Api.MESSAGES: list(accumulate(chain([0], (5 * 2**number for number in range(8)), repeat(900, 94)))),
        Api.SMS: [60 * number for number in range(72 * 60)],
    }
    for callback in callbacks:
        began = seconds(callback.attempts[0].at)
        at = next(number for number, wait in enumerate(schedules[callback.form.api]) if began + wait >= 3_600)
        assert tried(callback) == schedules[callback.form.api][: at + 1]
        assert {attempt.error for attempt in callback.attempts[:-1]} <= {"outage"}
        assert callback.state == "taken"


@pytest.mark.parametrize("api", Api)
def test_an_outage_begins_and_ends_when_it_says(simulation, api):
    async def play(simulator, receiver):
        came = []
        for _ in range(4):
            simulator.take(send(api))
            await simulator.clock.step(timedelta(seconds=30))
            came.append(len(receiver.requests))
        return came

    assert simulation(play, faults=(wanted_of("outage,from=30s,for=30s"),))[:2] == [1, 1]


@pytest.mark.parametrize("api", Api)
def test_a_wrong_secret_is_a_signature_that_does_not_hold(calls, api):
    (callback,) = calls("wrong-secret", api=api)
    with pytest.raises(landed.BadSignature) as refused:
        parsed(callback)
    assert refused.value.reason == "wrong"


@pytest.mark.parametrize("api", Api)
def test_unsigned_is_without_a_signature(calls, api):
    (callback,) = calls("unsigned", api=api)
    assert not is_signed(callback.request)
    assert is_signed(calls(api=api)[0].request)


@pytest.mark.parametrize(("option", "expected"), [("", 3_600), (",by=-2h", -7_200), (",by=90s", 90), (",by=0", 0)])
@pytest.mark.parametrize("api", Api)
def test_skew_is_the_time_of_the_signature_and_of_nothing_else(calls, api, option, expected):
    (callback,) = calls(f"skew{option}", api=api)
    assert signed_at(callback) - REAL.timestamp() == expected
    assert parsed(callback)[0].verified
    assert seconds(callback.attempts[0].at) == 0.2


def test_of_two_skews_the_greater_one_counts(calls):
    (callback,) = calls("skew,by=1m", "skew,by=-1h")
    assert signed_at(callback) - REAL.timestamp() == -3_600


def test_slow_takes_longer_in_real_time_and_not_in_simulated(calls):
    began = time.perf_counter()
    (callback,) = calls("slow,by=30ms")
    assert time.perf_counter() - began >= 0.03
    assert [seconds(attempt.at) for attempt in callback.attempts] == [0.2]


def test_a_burst_holds_all_back_and_lets_them_go_at_once(simulation):
    async def play(simulator, receiver):
        for _ in range(9):
            simulator.take(send())
            await simulator.clock.step(timedelta(minutes=1))
        during = len(receiver.requests)
        await simulator.clock.settle()
        return during, [seconds(callback.attempts[0].at) for callback in simulator.caller.callbacks]

    assert simulation(play, faults=(wanted_of("burst,for=10m"),)) == (0, [600.0] * 9)


def test_a_burst_that_is_ended_early_lets_them_go_then(simulation):
    async def play(simulator, receiver):
        fault = simulator.caller.begin(wanted_of("burst,for=1h"))
        simulator.take(send())
        await simulator.clock.step(timedelta(minutes=1))
        simulator.caller.end(fault.id)
        await simulator.clock.step(timedelta(seconds=1))
        return len(receiver.requests)

    assert simulation(play) == 1


@pytest.mark.parametrize(("option", "copies"), [("", 2), (",copies=46", 46), (",copies=1", 1)])
@pytest.mark.parametrize("api", Api)
def test_duplicates_are_the_same_receipt_so_many_times(calls, api, option, copies):
    callbacks = calls(f"duplicates{option}", api=api)
    assert len(callbacks) == copies
    assert len({callback.number for callback in callbacks}) == copies
    assert len({callback.message_id for callback in callbacks}) == 1
    assert all(callback.state == "taken" and len(callback.attempts) == 1 for callback in callbacks)
    assert len({parsed(callback)[0].provider_status for callback in callbacks}) == 1


def test_duplicates_in_a_burst_come_when_it_ends(calls):
    at = [seconds(callback.attempts[0].at) for callback in calls("burst,for=10m", "duplicates,copies=3")]
    assert len(at) == 3
    assert min(at) == 600
    assert max(at) < 660


def test_disorder_loses_the_order_and_holds_back_no_longer_than_it_says(simulation):
    async def play(simulator, _receiver):
        for _ in range(40):
            simulator.take(send())
            await simulator.clock.step(timedelta(seconds=10))
        await simulator.clock.settle()
        return [seconds(callback.attempts[0].at) for callback in simulator.caller.callbacks]

    at = simulation(play, faults=(wanted_of("disorder,by=5m"),))
    held = [each - (10 * number + 0.2) for number, each in enumerate(at)]
    assert all(-1e-3 < each < 300 for each in held)
    assert max(held) > 200
    assert sum(one > other for one, other in pairwise(at)) > 10


@pytest.mark.parametrize("fault", ["unsigned", "wrong-secret", "skew", "duplicates"])
def test_a_part_of_a_half_hits_about_half_and_the_same_ones_each_time(calls, fault):
    def hit():
        callbacks = calls(f"{fault},part=0.5", messages=200)
        if fault == "duplicates":
            return {each for each, copies in Counter(call.message_id for call in callbacks).items() if copies > 1}
        is_hit = {"unsigned": is_unsigned, "wrong-secret": is_refused, "skew": is_skewed}[fault]
        return {each.message_id for each in callbacks if is_hit(each)}

    first = hit()
    assert 75 < len(first) < 125
    assert hit() == first


@pytest.mark.parametrize(("part", "hit"), [("0", 0), ("1", 50)])
def test_a_part_of_none_or_all_hits_none_or_all(calls, part, hit):
    callbacks = calls(f"unsigned,part={part}", messages=50)
    assert sum(not is_signed(callback.request) for callback in callbacks) == hit


def test_every_try_of_a_call_is_hit_or_none_is(simulation):
    async def play(simulator, receiver):
        for _ in range(20):
            simulator.take(send(Api.SMS))
        await simulator.clock.settle()
        return receiver.requests

    requests = simulation(play, *[503] * 60, 200, faults=(wanted_of("unsigned,part=0.5"),))
    told = {}
    for request in requests:
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        told.setdefault(body["messageId"], []).append("sig" in body)
    assert all(len(each) == 4 and len(set(each)) == 1 for each in told.values())
    assert {each[0] for each in told.values()} == {True, False}


def test_an_outage_of_a_part_lets_the_others_through(simulation):
    async def play(simulator, receiver):
        for _ in range(30):
            simulator.take(send())
        await simulator.clock.step(timedelta(seconds=4))
        return len(receiver.requests)

    assert 5 < simulation(play, faults=(wanted_of("outage,part=0.5"),)) < 25


def test_a_signature_in_a_form_is_hit_as_one_in_json_is(simulation):
    async def play(simulator, _receiver):
        simulator.account.settings.webhook_format = Transport.GET
        simulator.take(send(Api.SMS))
        await simulator.clock.settle()
        return parse_qs(simulator.caller.callbacks[0].request.query.decode())

    assert "sig" in simulation(play)
    assert "sig" not in simulation(play, faults=(wanted_of("unsigned"),))


def test_a_fault_of_a_scenario_counts_from_the_beginning(loaded, simulation):
    read = loaded("[[fault]]\nkind = 'outage'\nfrom = '10m'\nfor = '1h'")

    async def play(simulator, _receiver):
        (fault,) = simulator.caller.faults
        return seconds(fault.began_at), seconds(fault.ends_at)

    assert simulation(play, faults=read.faults) == (600, 4_200)


def test_fates_of_a_scenario_are_those_of_its_numbers_however_they_are_written(loaded, simulation):
    read = loaded('[fates]\n"+44 7911 123456" = "false"')

    async def play(simulator, _receiver):
        (message,) = simulator.take(send(to="447911123456"))
        return message.fate

    assert simulation(play, fates=read.fates) == "false"
