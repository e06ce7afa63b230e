"""The control API: what it shows, what it changes, and how it says no, in one sentence."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest

from landed.domain.receipt import Api
from landed.simulator.account import NUMBER, messages_capability
from landed.simulator.app import create_app
from landed.simulator.fates import CARDS, FATES, REFUSED
from landed.simulator.faults import KINDS, FaultKind
from landed.simulator.networks import ELSEWHERE, NETWORKS
from landed.simulator.simulator import Send
from landed.simulator.wire import Client

KEY, SECRET = "abcd1234", "Secret0of0the0tests"
TEXT = {"channel": "sms", "message_type": "text", "to": "447700900001", "from": "ACME", "text": "Hello"}
ROUTES = {
    "/_sim": ["GET"],
    "/_sim/messages": ["GET"],
    "/_sim/messages/{message_id}": ["GET"],
    "/_sim/callbacks": ["GET"],
    "/_sim/faults": ["GET", "POST"],
    "/_sim/faults/{fault_id:int}": ["DELETE"],
    "/_sim/fates": ["GET", "PUT"],
    "/_sim/account": ["GET", "PATCH"],
    "/_sim/time": ["GET", "POST"],
    "/_sim/networks": ["GET"],
}


class Asking:
    """The control API of a simulator, and its receiver: what it answers is JSON."""

    def __init__(self, client, simulator, receiver):
        self.client = client
        self.simulator = simulator
        self.receiver = receiver

    async def get(self, path="", **params):
        return await self._told("GET", path, 200, params=params)

    async def post(self, path, what, status=200):
        return await self._told("POST", path, status, json=what)

    async def put(self, path, what):
        return await self._told("PUT", path, 200, json=what)

    async def patch(self, path, what):
        return await self._told("PATCH", path, 200, json=what)

    async def delete(self, path, status=204):
        return await self._told("DELETE", path, status)

    async def send(self, **fields):
        """Send a message through Vonage's own API; its id."""
        answer = await self.client.post("/v1/messages", json=TEXT | fields, auth=(KEY, SECRET))
        assert answer.status_code == 202, answer.text
        return answer.json()["message_uuid"]

    async def _told(self, method, path, status, **what):
        answer = await self.client.request(method, f"/_sim{path}", **what)
        assert answer.status_code == status, answer.text
        if answer.content:
            assert answer.headers["content-type"] == "application/json"
            return answer.json()
        return None


@pytest.fixture
def asking(simulation):
    """Play a coroutine function that asks a simulator: `asking(play, *answers, **scenario)`."""

    def run(play, *answers, **options):
        async def playing(simulator, receiver):
            transport = httpx.ASGITransport(create_app(simulator, Client()), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://vonage") as client:
                return await play(Asking(client, simulator, receiver))

        return simulation(playing, *answers, **({"api_key": KEY, "api_secret": SECRET} | options))

    return run


@pytest.fixture
def refusal(asking):
    """What a request is refused with."""

    def refused(method, path, content, status=400):
        async def play(sim):
            return await sim.client.request(method, f"/_sim{path}", content=content)

        answer = asking(play)
        assert answer.status_code == status, answer.text
        told = answer.json()
        assert list(told) == ["error"]
        return told["error"]

    return refused


def test_what_it_answers_is_what_it_says_it_does(asking):
    async def play(sim):
        answers = {
            (method, path): (
                await sim.client.request(
                    method, path.replace("{message_id}", "x").replace("{fault_id:int}", "7"), content=b"{}"
                )
            ).status_code
            for path in ROUTES
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        }
        return await sim.get(), answers

    told, answers = asking(play)
    assert told["routes"] == sorted(ROUTES)
    allowed = {each for each, status in answers.items() if status != 405}
    assert allowed == {(method, path) for path, methods in ROUTES.items() for method in methods}
    assert max(answers.values()) < 500


def test_the_overview_has_the_state_of_all(asking):
    async def play(sim):
        before = await sim.get()
        await sim.send()
        await sim.post("/faults", {"kind": "skew", "for": "1h"}, 201)
        await sim.post("/time", {"step": 1})
        return before, await sim.get()

    before, after = asking(play, seed=7)
    assert (before["messages"], before["callbacks"], before["faults"], before["balance"]) == (0, {}, [], "100.00")
    assert (before["now"], before["speed"], before["seed"]) == ("2026-08-01T12:00:00Z", 0.0, 7)
    assert (after["messages"], after["callbacks"], after["balance"]) == (1, {"taken": 1}, "99.9667")
    assert [fault["kind"] for fault in after["faults"]] == ["skew"]
    assert after["now"] == "2026-08-01T12:00:01Z"


# What was sent.


def test_a_message_is_shown_with_its_truth_beside_what_was_said(asking):
    async def play(sim):
        message_id = await sim.send(to="447700900009", client_ref="order-7")
        first = await sim.get(f"/messages/{message_id}")
        await sim.post("/time", {"step": "1m"})
        return message_id, first, await sim.get(f"/messages/{message_id}")

    message_id, first, then = asking(play)
    assert first["said"] == []
    assert then == {
        "message_id": message_id,
        "api": "messages",
        "channel": "sms",
        "to": "447700900009",
        "from": "ACME",
        "text": "Hello",
        "client_ref": "order-7",
        "segments": 1,
        "network": then["network"],
        "price": "0.0333",
        "sent_at": "2026-08-01T12:00:00Z",
        "truth": {"arrived_at": None, "read_at": None, "fate": "false", "differs": ["false receipt"]},
        "said": [
            {"status": "submitted", "code": None, "occurred_at": "2026-08-01T12:00:00Z"},
            {"status": "delivered", "code": None, "occurred_at": "2026-08-01T12:00:03Z"},
        ],
    }


@pytest.mark.parametrize(
    ("number", "truth", "said"),
    [
        ("447700900001", ("2026-08-01T12:00:03Z", []), [("submitted", None), ("delivered", None)]),
        ("447700900002", (None, []), [("submitted", None), ("rejected", "1180")]),
        ("447700900006", ("2026-08-01T12:00:03Z", ["no final receipt"]), [("submitted", None), ("rejected", "1360")]),
        ("447700900022", (None, ["no final receipt"]), [("submitted", None), ("rejected", "1360")]),
        (
            "447700900024",
            ("2026-08-01T12:00:03Z", ["a failure said of what arrived"]),
            [("submitted", None), ("rejected", "1230")],
        ),
    ],
)
def test_the_truth_is_not_what_was_said_where_the_two_differ(asking, number, truth, said):
    async def play(sim):
        message_id = await sim.send(to=number)
        await sim.post("/time", {"settle": True})
        return await sim.get(f"/messages/{message_id}")

    told = asking(play)
    assert (told["truth"]["arrived_at"], told["truth"]["differs"]) == truth
    assert [(each["status"], each["code"]) for each in told["said"]] == said


def test_where_a_channel_tells_it_is_known_when_a_message_was_read(asking):
    async def play(sim):
        message_id = await sim.send(to="447700900014", channel="whatsapp")
        await sim.post("/time", {"settle": True})
        return await sim.get(f"/messages/{message_id}")

    told = asking(play)
    assert told["truth"]["arrived_at"] < told["truth"]["read_at"]
    assert [each["status"] for each in told["said"]] == ["submitted", "delivered", "read"]


def test_messages_are_listed_in_order_by_pages_and_by_recipient(asking):
    async def play(sim):
        ids = [await sim.send(to=f"44770090000{1 + number % 2}") for number in range(5)]
        return ids, [
            await sim.get("/messages", **params)
            for params in ({}, {"offset": 1, "limit": 2}, {"offset": 9}, {"to": "447700900002"}, {"to": "1"})
        ]

    ids, pages = asking(play)
    assert [(page["total"], [ids.index(each["message_id"]) for each in page["items"]]) for page in pages] == [
        (5, [0, 1, 2, 3, 4]),
        (5, [1, 2]),
        (5, []),
        (2, [1, 3]),
        (0, []),
    ]


def test_a_page_has_a_hundred_unless_another_number_is_wanted(asking):
    async def play(sim):
        for _ in range(101):
            sim.simulator.take(Send(api=Api.SMS, to="447700900001", sender="ACME", text="Hello"))
        pages = [await sim.get("/messages", **params) for params in ({}, {"limit": 10_000}, {"offset": 100})]
        return [len(page["items"]) for page in pages]

    assert asking(play) == [100, 101, 1]


@pytest.mark.parametrize("path", ["/messages", "/callbacks"])
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=10001", "limit=-1", "limit=ten", "offset=-1", "offset=", "offset=1.5", "limit=%D9%A1"]
)
def test_a_page_that_is_none_is_refused(refusal, path, query):
    assert refusal("GET", f"{path}?{query}", None).startswith("offset and limit are whole numbers")


@pytest.mark.parametrize("name", ["offset", "limit"])
def test_a_page_of_thousands_of_digits_is_refused(refusal, name):
    assert refusal("GET", f"/messages?{name}={'9' * 5_000}", None)


def test_a_message_that_there_is_not_is_not_found(refusal):
    assert refusal("GET", "/messages/nobody", None, 404) == "There is no message of that id."


# What was called.


def test_a_call_is_shown_with_each_try_and_its_last_request(asking):
    async def play(sim):
        message_id = await sim.send()
        await sim.post("/time", {"step": "6s"})
        return message_id, sim.receiver.url, await sim.get("/callbacks")

    message_id, url, told = asking(play, 503, 200, 204)
    assert told["total"] == 2
    call = told["items"][0]
    (first, second), headers, body = call.pop("attempts"), call.pop("headers"), call.pop("body")
    assert call == {
        "number": 1,
        "message_id": message_id,
        "api": "messages",
        "url": url,
        "state": "taken",
        "says": "submitted",
        "method": "POST",
        "query": "",
    }
    assert (first["at"], first["status"], first["verdict"], first["error"]) == (
        *("2026-08-01T12:00:00.200000Z", 503, "again", None),
    )
    assert (second["at"], second["status"], second["verdict"]) == ("2026-08-01T12:00:05.200000Z", 204, "taken")
    assert second["took_ms"] > 0
    assert (headers["content-type"], headers["authorization"][:7]) == ("application/json", "Bearer ")
    assert json.loads(body)["message_uuid"] == message_id


def test_calls_are_listed_by_message_and_by_state(asking):
    async def play(sim):
        one, other = await sim.send(), await sim.send(to="447700900013")
        before = await sim.get("/callbacks", state="waiting")
        await sim.post("/time", {"step": "1m"})
        queries = (
            {},
            {"message_id": one},
            {"message_id": other},
            {"state": "dropped"},
            {"message_id": one, "state": "taken"},
        )
        pages = [await sim.get("/callbacks", **query) for query in (*queries, {"state": "nothing"}, {"limit": 1})]
        return before["total"], [(page["total"], len(page["items"])) for page in pages]

    assert asking(play, 400, 200) == (0, [(3, 3), (2, 2), (1, 1), (1, 1), (1, 1), (0, 0), (3, 1)])


@pytest.mark.parametrize(("status", "state"), [(200, "taken"), (404, "dropped"), (503, "given up")])
def test_a_call_ends_in_a_state(asking, status, state):
    async def play(sim):
        await sim.send(to="447700900013")
        await sim.post("/time", {"step": "10s"})
        (waiting,) = (await sim.get("/callbacks"))["items"]
        await sim.post("/time", {"settle": True})
        (ended,) = (await sim.get("/callbacks"))["items"]
        return waiting["state"], ended["state"]

    assert asking(play, status) == ("waiting" if status == 503 else state, state)


# Faults.


def test_a_fault_is_begun_shown_and_ended(asking):
    async def play(sim):
        begun = await sim.post("/faults", {"kind": "outage", "from": "1m", "for": "1h", "part": 0.5}, 201)
        await sim.post("/time", {"step": "2m"})
        on = await sim.get("/faults")
        await sim.delete(f"/faults/{begun['id']}")
        return begun, on, await sim.get("/faults")

    begun, on, off = asking(play)
    assert begun == {
        "id": 1,
        "kind": "outage",
        "began_at": "2026-08-01T12:01:00Z",
        "ends_at": "2026-08-01T13:01:00Z",
        "part": 0.5,
        "amount": 0.0,
        "is_on": False,
    }
    assert on["faults"] == [begun | {"is_on": True}]
    assert off["faults"] == [begun | {"ends_at": "2026-08-01T12:02:00Z"}]
    assert set(on["kinds"]) == set(FaultKind)
    assert on["kinds"]["duplicates"] == {"does": KINDS[FaultKind.DUPLICATES].does, "option": "copies", "usual": 2}


def test_a_fault_goes_on_for_good_until_it_is_ended(asking):
    async def play(sim):
        fault = await sim.post("/faults", {"kind": "outage"}, 201)
        await sim.send(to="447700900013")
        await sim.post("/time", {"step": "10m"})
        during = len(sim.receiver.requests)
        await sim.delete(f"/faults/{fault['id']}")
        await sim.post("/time", {"step": "15m"})
        return fault["ends_at"], during, len(sim.receiver.requests)

    assert asking(play) == (None, 0, 1)


def test_a_fault_that_has_ended_stays_ended_when_it_was(asking):
    async def play(sim):
        fault = await sim.post("/faults", {"kind": "outage", "for": "1m"}, 201)
        await sim.post("/time", {"step": "1h"})
        await sim.client.delete(f"/_sim/faults/{fault['id']}")
        return (await sim.get("/faults"))["faults"][0]["ends_at"]

    assert asking(play) == "2026-08-01T12:01:00Z"


@pytest.mark.parametrize("number", ["7", "0"])
def test_a_fault_that_there_is_not_cannot_be_ended(refusal, number):
    assert refusal("DELETE", f"/faults/{number}", None, 404) == "There is no fault of that number."


# Fates.


def test_a_fate_is_put_and_taken_away(asking):
    async def play(sim):
        put = await sim.put("/fates", {"447911123456": "false", "+44 7911 123457": "lost"})
        await sim.send(to="447911123457")
        taken_away = await sim.put("/fates", {"447911123456": "", "4479111234 57": "late"})
        await sim.send(to="447911123457")
        messages = (await sim.get("/messages"))["items"]
        return put, taken_away, await sim.get("/fates"), [each["truth"]["fate"] for each in messages]

    put, taken_away, got, fates = asking(play)
    assert put["chosen"] == {"447911123456": "false", "447911123457": "lost"}
    assert taken_away == got
    assert got["chosen"] == {"447911123457": "late"}
    assert fates == ["lost", "late"]
    assert (got["numbers"], got["refused"]) == (CARDS, REFUSED)
    assert got["fates"] == {name: fate.what for name, fate in FATES.items()}


def test_a_fate_may_be_given_to_a_well_known_number_too(asking):
    async def play(sim):
        await sim.put("/fates", {"447700900001": "lost"})
        return (await sim.get(f"/messages/{await sim.send()}"))["truth"]["fate"]

    assert asking(play) == "lost"


def test_of_several_fates_with_a_wrong_one_none_is_put(asking):
    async def play(sim):
        answer = await sim.client.put("/_sim/fates", json={"447911123456": "lost", "447911123457": "teleported"})
        return answer.status_code, (await sim.get("/fates"))["chosen"]

    assert asking(play) == (400, {})


# The account.


def test_the_account_is_shown_without_its_secrets(asking):
    async def play(sim):
        application = sim.simulator.account.application
        application.capabilities = messages_capability("http://127.0.0.1:3000/status")
        return application.id, await sim.get("/account")

    application_id, told = asking(play)
    assert told == {
        "receipt_url": told["receipt_url"],
        "inbound_url": "",
        "sms_setting": None,
        "webhook_format": "POST-JSON",
        "signs_receipts": True,
        "signature_method": None,
        "throughput": None,
        "takes_misspelt_urls": True,
        "takes_conversions": True,
        "api_key": KEY,
        "balance": "100.00",
        "applications": {application_id: "http://127.0.0.1:3000/status"},
        "numbers": [NUMBER],
        "conversions": [],
    }


CHANGES = [
    {"webhook_format": "GET"},
    {"webhook_format": None},
    {"sms_setting": "messages"},
    {"sms_setting": None},
    {"signature_method": "sha256"},
    {"signs_receipts": False, "throughput": 5},
    {"throughput": 0},
    {"receipt_url": ""},
    {},
]


@pytest.mark.parametrize("change", CHANGES, ids=json.dumps)
def test_a_setting_is_changed_and_the_others_stay(asking, change):
    async def play(sim):
        before = await sim.get("/account")
        return before, await sim.patch("/account", change), await sim.get("/account")

    before, patched, after = asking(play)
    assert patched == after == before | change


def test_each_webhook_format_in_turn_is_a_setting(asking):
    async def play(sim):
        await sim.patch("/account", {"webhook_format": "each"})
        for _ in range(3):
            sim.simulator.take(Send(api=Api.SMS, to="447700900013", sender="ACME", text="Hello"))
        await sim.post("/time", {"settle": True})
        return [
            (call["method"], call["headers"].get("content-type")) for call in (await sim.get("/callbacks"))["items"]
        ]

    assert asking(play) == [
        ("GET", None),
        ("POST", "application/x-www-form-urlencoded"),
        ("POST", "application/json"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"webhookformat": "GET"},
        {"balance": "7"},
        {"api_key": "abcd1234"},
        {"webhook_format": "PUT"},
        {"sms_setting": "both"},
        {"throughput": "fast"},
        {"throughput": -1},
        {"signature_method": "sha3"},
        {"receipt_url": "example.com/x"},
        {"signs_receipts": "perhaps"},
        {"receipt_url": None},
    ],
    ids=json.dumps,
)
def test_a_setting_that_is_none_is_refused_and_nothing_is_changed(asking, change):
    async def play(sim):
        before = await sim.get("/account")
        answer = await sim.client.patch("/_sim/account", json={"signs_receipts": False} | change)
        return answer, before, await sim.get("/account")

    answer, before, after = asking(play)
    assert answer.status_code == 400
    assert next(iter(change)) in answer.json()["error"] or str(next(iter(change.values()))) in answer.json()["error"]
    assert after == before


# Time.


def test_time_is_stepped_and_stands_still_between(asking):
    async def play(sim):
        await sim.send()
        told = [await sim.get("/time")]
        for step in ("1s", 2.5, "72h"):
            told += [await sim.post("/time", {"step": step}), await sim.get("/time")]
        return told

    told = asking(play)
    assert told[1::2] == told[2::2]
    assert told[0] == {"now": "2026-08-01T12:00:00Z", "speed": 0.0, "waiting": 2}
    assert [(each["now"], each["waiting"]) for each in told[2::2]] == [
        ("2026-08-01T12:00:01Z", 1),
        ("2026-08-01T12:00:03.500000Z", 0),
        ("2026-08-04T12:00:03.500000Z", 0),
    ]


def test_settling_lets_pass_whatever_is_needed(asking):
    async def play(sim):
        await sim.send(to="447700900006")
        return await sim.post("/time", {"settle": True}), len(sim.receiver.requests)

    assert asking(play) == ({"now": "2026-08-04T12:00:00Z", "speed": 0.0, "waiting": 0}, 2)


def test_time_passes_by_itself_at_another_speed_until_it_is_stepped_again(asking):
    async def play(sim):
        fast = await sim.post("/time", {"speed": 100_000})
        await sim.client.get("/_sim")
        passing = await sim.get("/time")
        stepped = await sim.post("/time", {"speed": 0})
        return fast, passing, stepped, await sim.get("/time")

    fast, passing, stepped, still = asking(play)
    assert (fast["speed"], stepped["speed"]) == (100_000, 0.0)
    assert fast["now"] < passing["now"] <= stepped["now"] == still["now"]


def test_time_may_be_stepped_again_by_the_word_for_it(asking):
    async def play(sim):
        await sim.post("/time", {"speed": 60})
        return await sim.client.post("/_sim/time", json={"speed": "stepped"})

    answer = asking(play)
    assert (answer.status_code, answer.json().get("speed")) == (200, 0.0)


def test_the_speed_and_a_step_may_come_together(asking):
    async def play(sim):
        told = await sim.post("/time", {"speed": 60, "step": "1h"})
        return told["speed"], datetime.fromisoformat(told["now"])

    speed, now = asking(play)
    assert speed == 60
    assert now >= datetime(2026, 8, 1, 13, tzinfo=UTC)


# What is wrong in a body, and a word that says so.
WRONG = {
    "time: unknown": ("POST", "/time", b'{"steps": 1}', "steps"),
    "time: step": ("POST", "/time", b'{"step": "soon"}', "soon"),
    "time: step back": ("POST", "/time", b'{"step": -1}', "-1"),
    "time: step of years": ("POST", "/time", b'{"step": "400d"}', "400d"),
    "time: speed": ("POST", "/time", b'{"speed": "fast"}', "speed"),
    "time: speed below 0": ("POST", "/time", b'{"speed": -1}', "-1"),
    "time: speed too high": ("POST", "/time", b'{"speed": 2000000}', "2000000"),
    "time: step true": ("POST", "/time", b'{"step": true}', "True"),
    "fault: none": ("POST", "/faults", b"{}", "kind"),
    "fault: kind": ("POST", "/faults", b'{"kind": "earthquake"}', "earthquake"),
    "fault: option": ("POST", "/faults", b'{"kind": "outage", "copies": 2}', "copies"),
    "fault: part": ("POST", "/faults", b'{"kind": "outage", "part": 2}', "part"),
    "fault: time": ("POST", "/faults", b'{"kind": "outage", "for": "ever"}', "ever"),
    "fault: burst": ("POST", "/faults", b'{"kind": "burst"}', "burst"),
    "fate": ("PUT", "/fates", b'{"447911123456": "teleported"}', "teleported"),
    "fate 5": ("PUT", "/fates", b'{"447911123456": 5}', "5"),
    **{
        f"{method} {path}: {name}": (method, path, content, "JSON")
        for method, path in (("POST", "/time"), ("POST", "/faults"), ("PUT", "/fates"), ("PATCH", "/account"))
        for name, content in (("no JSON", b"{"), ("list", b"[]"), ("no UTF-8", b'{"\xff": 1}'))
    },
}


@pytest.mark.parametrize(("method", "path", "content", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_a_sentence(refusal, method, path, content, named):
    sentence = refusal(method, path, content)
    assert named in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence


def test_a_step_is_not_taken_together_with_a_wrong_speed_nor_the_other_way_round(asking):
    async def play(sim):
        before = await sim.get("/time")
        await sim.client.post("/_sim/time", json={"speed": 60, "step": "soon"})
        await sim.client.post("/_sim/time", json={"speed": "fast", "step": 1})
        return before, await sim.get("/time")

    before, after = asking(play)
    assert after == before


# Networks.


def test_networks_are_shown_as_they_behave(asking):
    async def play(sim):
        return await sim.get("/networks")

    told = asking(play)
    assert [network["code"] for network in told] == [network.code for network in (*NETWORKS, ELSEWHERE)]
    assert set(told[0]) == {
        *("code", "country", "share", "latency_seconds", "spread", "fates", "duplicates", "disorder")
    }
    assert told[0]["fates"]["delivered"] == 955
