"""The two endpoints that take messages, over HTTP: who may send, what is taken, and how each of them says no."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from decimal import Decimal

import httpx
import jwt
import pytest

from landed.simulator.account import NUMBER, Settings, messages_capability
from landed.simulator.app import create_app
from landed.simulator.fates import REFUSED
from landed.simulator.sends import TEXT_CHARACTERS, TTL_SECONDS, TYPES, WITH_URL
from landed.simulator.wire import Client
from landed.vonage.keys import key_pair
from landed.vonage.signing import METHODS, sign_sig

KEY, SECRET, SIGNATURE_SECRET = "abcd1234", "Secret0of0the0tests", "a signature secret of the tests"
KEYS = {"api_key": KEY, "api_secret": SECRET}
CARD = "447700900001"
TEXT = {"channel": "sms", "message_type": "text", "to": CARD, "from": "ACME", "text": "Hello"}
OLD_TEXT = {
    "to": {"type": "sms", "number": CARD},
    "from": {"type": "sms", "number": "447700900002"},
    "message": {"content": {"type": "text", "text": "Hello"}},
}
SMS = {"to": CARD, "from": "ACME", "text": "Hello"}

# The errors of the Messages API, as its specification has them: the end of the type, and the title.
ERRORS = "https://developer.vonage.com/api-errors"
CREDENTIALS = (401, "/#unathorized", "You did not provide correct credentials.")
UNPROVISIONED = (401, "/#unprovisioned", "The crendentials provided do not have access to the requested product")
LOW_BALANCE = (402, "/#low-balance", "Low balance")
INVALID_JSON = (422, "#invalid-json", "The request body did not contain valid JSON")
CHANNEL = (422, "/messages#1100", "Unsupported channel")
OPTIONS = (422, "/messages#1110", "Invalid channel parameters")
SENDER = (422, "/messages#1120", "Invalid sender")
RECIPIENT = (422, "/messages#110", "Invalid recipient")
TYPE = (422, "/messages#1140", "Invalid message type")
PARAMS = (422, "/messages#1150", "Invalid params")
CLIENT_REF = (422, "/messages#1060", "Invalid client reference")
THROTTLED = (429, "/messages#1000", "Rate Limit Hit")
INTERNAL = (500, "/messages#1000", "Internal error")


@pytest.fixture(scope="module")
def pairs():
    """The application's pair of keys, and another one."""
    return key_pair(), key_pair()


@pytest.fixture
def http(simulation, pairs):
    """Play a coroutine function with an HTTP client of a simulator: `http(play, *answers, **scenario)`."""

    def run(play, *answers, **options):
        async def playing(simulator, receiver):
            simulator.account.application.public_key = pairs[0][1]
            transport = httpx.ASGITransport(create_app(simulator, Client()), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://vonage") as client:
                return await play(client, simulator, receiver)

        account = {"api_key": KEY, "api_secret": SECRET, "signature_secret": SIGNATURE_SECRET}
        return simulation(playing, *answers, **(account | options))

    return run


@pytest.fixture
def messages(http):
    """The answer of the Messages API to these fields, or this content."""

    def answer(fields=None, *, path="/v1/messages", content=None, authorization=None, **scenario):
        async def play(client, _simulator, _receiver):
            return await client.post(path, **payload(fields, content), headers={"authorization": authorization})

        authorization = basic() if authorization is None else authorization
        return http(play, **scenario)

    return answer


@pytest.fixture
def sms(http):
    """The entries that the SMS API answers with to these fields."""

    def answer(fields, **scenario):
        async def play(client, _simulator, _receiver):
            return await client.post("/sms/json", data=fields)

        return entries(http(play, **scenario))

    return answer


def payload(fields, content=None):
    return {"json": fields} if content is None else {"content": content}


def basic(key=KEY, secret=SECRET):
    return "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()


def claims_of(application_id, **changes):
    now = int(time.time())
    return {"application_id": application_id, "iat": now, "exp": now + 900, "jti": "1"} | changes


def hs256(claims, key):
    """A token that a library which believes the header's algorithm would take: PyJWT itself makes none such."""
    header, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims)
    )
    digest = hmac.digest(key.encode(), header + b"." + body, hashlib.sha256)
    return (header + b"." + body + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


def entries(answer):
    """The messages in an answer of the SMS API, which is always 200."""
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["message-count"] == str(len(told["messages"]))
    return told["messages"]


def problem(answer):
    """An answer's status, and its error's type and title, in the order of the tables here."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert set(told) - {"invalid_parameters"} == {"type", "title", "detail", "instance"}
    assert told["type"].startswith(ERRORS)
    return answer.status_code, told["type"].removeprefix(ERRORS), told["title"]


def bodies(receiver):
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in receiver.requests]


# Who may send through the Messages API: the scheme and its credentials, made for an application and two pairs of keys.
BEARERS = {
    "token": (None, lambda app, own, _other: jwt.encode(claims_of(app), own[0], "RS256")),
    "expired": (CREDENTIALS, lambda app, own, _: jwt.encode(claims_of(app, exp=time.time() - 60), own[0], "RS256")),
    "not yet": (CREDENTIALS, lambda app, own, _: jwt.encode(claims_of(app, nbf=time.time() + 90), own[0], "RS256")),
    "other key": (CREDENTIALS, lambda app, _, other: jwt.encode(claims_of(app), other[0], "RS256")),
    "unknown application": (UNPROVISIONED, lambda _app, own, _: jwt.encode(claims_of("nobody"), own[0], "RS256")),
    "alg none": (CREDENTIALS, lambda app, *_: jwt.encode(claims_of(app), None, "none")),
    "public key as secret": (CREDENTIALS, lambda app, own, _: hs256(claims_of(app), own[1])),
    "no token": (CREDENTIALS, lambda *_: "no.token.atall"),
    "empty": (CREDENTIALS, lambda *_: ""),
    "no claims": (CREDENTIALS, lambda _app, own, _: jwt.encode({}, own[0], "RS256")),
}


@pytest.mark.parametrize(("expected", "token_of"), BEARERS.values(), ids=BEARERS)
def test_a_token_is_taken_when_its_application_made_it(http, pairs, expected, token_of):
    async def play(client, simulator, _receiver):
        token = token_of(simulator.account.application.id, *pairs)
        return await client.post("/v1/messages", json=TEXT, headers={"authorization": f"Bearer {token}"})

    answer = http(play)
    if expected is None:
        assert answer.status_code == 202
    else:
        assert problem(answer) == expected


BASICS = {
    "good": (basic(), True),
    "small scheme": (basic().replace("Basic", "basic"), True),
    "wrong secret": (basic(secret="wrong"), False),
    "wrong key": (basic(key="wrong"), False),
    "only a key": (basic(secret=""), False),
    "none": ("", False),
    "no base64": ("Basic %%%", False),
    "no ASCII": ("Basic é".encode("latin-1"), False),
    "another scheme": ("Digest abc", False),
    "nothing in it": ("Basic", False),
}


@pytest.mark.parametrize(("authorization", "is_taken"), BASICS.values(), ids=BASICS)
def test_key_and_secret_are_taken_and_nothing_else_is(messages, authorization, is_taken):
    answer = messages(TEXT, authorization=authorization)
    if is_taken:
        assert answer.status_code == 202
    else:
        assert problem(answer) == CREDENTIALS


def test_nobody_at_all_is_told_so(http):
    async def play(client, _simulator, _receiver):
        return await client.post("/v1/messages", json=TEXT)

    assert problem(http(play)) == CREDENTIALS


def test_a_message_is_taken_with_its_id(messages):
    answer = messages(TEXT)
    assert (answer.status_code, list(answer.json())) == (202, ["message_uuid"])


# What a message of each type has in it, under its own name.
CONTENT = {
    "text": "Hello",
    **{kind: {"url": f"https://example.com/a.{kind}"} for kind in ("image", "vcard", "audio", "video", "file")},
    "content": [{"type": "image", "url": "https://example.com/a.jpg"}],
    "card": {"title": "Hello", "text": "Hello"},
    "carousel": {"cards": [{"title": "Hello", "text": "Hello"}]},
    "custom": {"type": "location"},
    "template": {"name": "greeting"},
    "sticker": {"id": "1"},
    "reaction": {"action": "react", "emoji": "😀"},
}
KINDS = [(channel, kind) for channel, kinds in TYPES.items() for kind in sorted(kinds)]


@pytest.mark.parametrize(("channel", "kind"), KINDS)
def test_each_channel_takes_its_types_with_their_content_and_not_without(messages, channel, kind):
    fields = {"channel": channel, "message_type": kind, "to": CARD, "from": "ACME"}
    assert messages(fields | {kind: CONTENT[kind]}).status_code == 202
    without = messages(fields)
    assert problem(without) == PARAMS
    assert [each["name"] for each in without.json()["invalid_parameters"]] in ([kind], [f"{kind}.url"])


@pytest.mark.parametrize("kind", sorted(WITH_URL))
def test_media_are_given_by_their_address(messages, kind):
    fields = {"channel": "mms", "message_type": kind, "to": CARD, "from": "ACME", kind: {"caption": "Hello"}}
    answer = messages(fields)
    assert problem(answer) == PARAMS
    assert answer.json()["invalid_parameters"] == [{"name": f"{kind}.url", "reason": "is required."}]


@pytest.mark.parametrize("channel", TYPES)
def test_a_type_that_a_channel_has_not_is_refused(messages, channel):
    for kind in sorted(set(CONTENT) - TYPES[channel]):
        fields = {"channel": channel, "message_type": kind, "to": CARD, "from": "ACME", kind: CONTENT[kind]}
        assert problem(messages(fields)) == TYPE


# A change of a good message, the problem it makes, and the field that is said to be wrong.
WRONG = {
    "no channel": ({"channel": None}, CHANNEL, "channel"),
    "email": ({"channel": "email"}, CHANNEL, "channel"),
    "channel 5": ({"channel": 5}, CHANNEL, "channel"),
    "no recipient": ({"to": None}, RECIPIENT, "to"),
    "recipient with +": ({"to": "+447700900001"}, RECIPIENT, "to"),
    "recipient of 6 digits": ({"to": "447700"}, RECIPIENT, "to"),
    "recipient of 16 digits": ({"to": "4477009000010000"}, RECIPIENT, "to"),
    "recipient 5": ({"to": 447700900001}, RECIPIENT, "to"),
    "a name as recipient": ({"to": "ACME"}, RECIPIENT, "to"),
    "an id as recipient": ({"channel": "messenger", "to": "x" * 51}, RECIPIENT, "to"),
    "no sender": ({"from": None}, SENDER, "from"),
    "empty sender": ({"from": ""}, SENDER, "from"),
    "long sender": ({"from": "x" * 51}, SENDER, "from"),
    "no type": ({"message_type": None}, TYPE, "message_type"),
    "image by sms": ({"message_type": "image"}, TYPE, "message_type"),
    "no text": ({"text": None}, PARAMS, "text"),
    "empty text": ({"text": ""}, PARAMS, "text"),
    "text 5": ({"text": 5}, PARAMS, "text"),
    "version": ({"webhook_version": "v2"}, PARAMS, "webhook_version"),
    "encoding": ({"sms": {"encoding_type": "utf-8"}}, OPTIONS, "sms.encoding_type"),
    "reference of 101 characters": ({"client_ref": "x" * 101}, CLIENT_REF, None),
    "reference 5": ({"client_ref": 5}, CLIENT_REF, None),
    "webhook no URL": ({"webhook_url": "example.com/x"}, PARAMS, "webhook_url"),
    "webhook 5": ({"webhook_url": 5}, PARAMS, "webhook_url"),
    "webhook with a host that is none": ({"webhook_url": "http://a..b/"}, PARAMS, "webhook_url"),
    "failover no list": ({"failover": TEXT}, PARAMS, "failover"),
    "failover of no messages": ({"failover": ["sms"]}, PARAMS, "failover"),
    "failover with a wrong one": ({"failover": [TEXT | {"to": "1"}]}, RECIPIENT, "to"),
}


@pytest.mark.parametrize(("change", "expected", "field"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_message_is_said_as_documented(messages, change, expected, field):
    answer = messages(TEXT | change)
    assert problem(answer) == expected
    assert [each["name"] for each in answer.json().get("invalid_parameters", [])] == ([field] if field else [])


@pytest.mark.parametrize(("channel", "most"), TEXT_CHARACTERS.items())
def test_a_text_is_as_long_as_its_channel_takes_it(messages, channel, most):
    answers = [messages(TEXT | {"channel": channel, "text": "x" * length}) for length in (most, most + 1)]
    assert answers[0].status_code == 202
    assert problem(answers[1]) == PARAMS


NO_JSON = {
    "empty": b"",
    "form": b"to=447700900001",
    "cut short": b'{"to": "447700900001"',
    "list": b"[]",
    "text": b'"Hello"',
    "no UTF-8": b'{"to": "\xff"}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_object_is_told_so(messages, content):
    assert problem(messages(content=content)) == INVALID_JSON


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_an_sms_whose_parameters_cannot_be_read_has_none(http, content):
    async def play(client, _simulator, _receiver):
        return await client.post("/sms/json", content=content)

    assert [entry["status"] for entry in entries(http(play))] == ["2"]


def test_each_problem_is_an_instance_of_its_own(http):
    async def play(client, _simulator, _receiver):
        return [(await client.post("/v1/messages", json={})).json()["instance"] for _ in range(3)]

    assert len(set(http(play))) == 3


# Whom a send to is refused, and how the Messages API says so.
FORCED = {
    "01": THROTTLED, "02": PARAMS, "03": PARAMS, "04": CREDENTIALS, "05": INTERNAL, "06": PARAMS, "07": RECIPIENT,
    "08": CREDENTIALS, "09": LOW_BALANCE, "12": PARAMS, "14": CREDENTIALS, "15": SENDER, "29": RECIPIENT,
    "32": CREDENTIALS, "33": RECIPIENT,
}  # fmt: skip


@pytest.mark.parametrize(("digits", "expected"), FORCED.items())
def test_a_number_forces_a_problem(messages, digits, expected):
    assert problem(messages(TEXT | {"to": f"4477009007{digits}"})) == expected


@pytest.mark.parametrize("path", ["/v1/messages", "/v0.1/messages"])
def test_who_sends_too_fast_waits_as_long_as_he_is_told(http, path):
    async def play(client, simulator, _receiver):
        fields = TEXT if path == "/v1/messages" else OLD_TEXT
        answers = [await client.post(path, json=fields, auth=(KEY, SECRET)) for _ in range(4)]
        await simulator.clock.step(timedelta(seconds=int(answers[-1].headers["retry-after"])))
        return [*answers, await client.post(path, json=fields, auth=(KEY, SECRET))]

    *taken, refused, again = http(play, settings=Settings(throughput=3))
    assert [answer.status_code for answer in (*taken, again)] == [202] * 4
    assert problem(refused) == THROTTLED


def test_the_number_that_is_always_throttled_says_when_to_try_again(messages):
    answer = messages(TEXT | {"to": "447700900701"})
    assert problem(answer) == THROTTLED
    assert answer.headers["retry-after"] == "1"


def test_without_money_nothing_is_taken(messages):
    assert problem(messages(TEXT, balance=Decimal("0.01"))) == LOW_BALANCE


# Seconds at the ends of what each channel allows.
TTLS = [(channel, allowed.start, allowed.stop - 1) for channel, allowed in TTL_SECONDS.items()]


@pytest.mark.parametrize(("channel", "least", "most"), TTLS)
@pytest.mark.parametrize("where", ["message", "channel"])
def test_a_time_to_live_has_its_limits(messages, channel, least, most, where):
    kind = "text" if "text" in TYPES[channel] else "image"
    fields = TEXT | {"channel": channel, "message_type": kind}

    def status(ttl):
        return messages(fields | ({"ttl": ttl} if where == "message" else {channel: {"ttl": ttl}})).status_code

    assert [status(ttl) for ttl in (least - 1, least, most, most + 1)] == [422, 202, 202, 422]


@pytest.mark.parametrize("ttl", ["60", 60.5, True, -60, [60]], ids=str)
def test_a_time_to_live_is_whole_seconds(messages, ttl):
    assert problem(messages(TEXT | {"ttl": ttl})) == PARAMS


def test_what_does_not_arrive_in_its_time_to_live_expires(http):
    async def play(client, simulator, receiver):
        simulator.choose(CARD, "buffered")
        await client.post("/v1/messages", json=TEXT | {"ttl": 60}, auth=(KEY, SECRET))
        await simulator.clock.settle()
        (message,) = simulator.messages.values()
        return message.arrived_at, bodies(receiver)[-1]

    arrived_at, said = http(play)
    assert (arrived_at, said["status"], said["error"]["title"]) == (None, "rejected", "1360")


def test_a_reference_of_a_hundred_characters_comes_back(http):
    async def play(client, simulator, receiver):
        answer = await client.post("/v1/messages", json=TEXT | {"client_ref": "x" * 100}, auth=(KEY, SECRET))
        await simulator.clock.settle()
        return answer.status_code, [body["client_ref"] for body in bodies(receiver)]

    assert http(play) == (202, ["x" * 100] * 2)


def test_statuses_go_to_the_address_and_in_the_version_that_the_message_names(http):
    async def play(client, simulator, receiver):
        fields = TEXT | {"webhook_url": receiver.url + "own", "webhook_version": "v0.1"}
        await client.post("/v1/messages", json=fields, auth=(KEY, SECRET))
        await simulator.clock.settle()
        return receiver.requests[-1].split(b" ")[1], bodies(receiver)[-1]["to"]

    assert http(play) == (b"/own", {"type": "sms", "number": CARD})


def test_statuses_come_in_the_version_of_the_application(http, pairs):
    async def play(client, simulator, receiver):
        application = simulator.account.application
        application.capabilities = messages_capability(receiver.url)
        application.capabilities["messages"]["version"] = "v0.1"
        token = jwt.encode(claims_of(application.id), pairs[0][0], "RS256")
        await client.post("/v1/messages", json=TEXT, headers={"authorization": f"Bearer {token}"})
        await simulator.clock.settle()
        return bodies(receiver)[-1]["from"]

    assert http(play) == {"type": "sms", "number": "ACME"}


def test_a_workflow_has_an_id_and_goes_on_where_a_message_is_rejected(http):
    async def play(client, simulator, receiver):
        following = TEXT | {"channel": "viber_service"}
        fields = TEXT | {"channel": "whatsapp", "to": "447700900102", "failover": [following]}
        answer = await client.post("/v1/messages", json=fields, auth=(KEY, SECRET))
        await simulator.clock.settle()
        return answer, [body for body in bodies(receiver) if body["status"] != "submitted"]

    answer, said = http(play)
    told = answer.json()
    assert (answer.status_code, set(told)) == (202, {"message_uuid", "workflow_id"})
    assert [(body["channel"], body["status"]) for body in said] == [
        ("whatsapp", "rejected"),
        ("viber_service", "delivered"),
    ]
    assert [body["workflow"] for body in said] == [
        {"workflow_id": told["workflow_id"], "items_number": number, "items_total": "2"} for number in ("1", "2")
    ]
    assert said[0]["message_uuid"] == told["message_uuid"] != said[1]["message_uuid"]


@pytest.mark.parametrize(("encoding", "count"), [("auto", "2"), ("text", "1"), ("unicode", "2")])
def test_the_encoding_that_is_asked_for_says_how_many_segments_a_text_has(http, encoding, count):
    async def play(client, simulator, receiver):
        fields = TEXT | {"text": "ж" * 71, "sms": {"encoding_type": encoding}}
        await client.post("/v1/messages", json=fields, auth=(KEY, SECRET))
        await simulator.clock.settle()
        return bodies(receiver)[0]["sms"]["count_total"]

    assert http(play) == count


OLD_CHANNELS = {
    "sms": ("sms", "number"),
    "mms": ("mms", "number"),
    "whatsapp": ("whatsapp", "number"),
    "viber_service_msg": ("viber_service", "number"),
    "messenger": ("messenger", "id"),
}


@pytest.mark.parametrize(("kind", "channel", "name"), [(kind, *row) for kind, row in OLD_CHANNELS.items()])
def test_the_older_version_has_parties_and_content_that_are_objects(http, kind, channel, name):
    async def play(client, simulator, receiver):
        parties = {side: {"type": kind, name: number} for side, number in (("to", CARD), ("from", "447700900002"))}
        answer = await client.post("/v0.1/messages", json=OLD_TEXT | parties, auth=(KEY, SECRET))
        await simulator.clock.settle()
        (message,) = simulator.messages.values()
        return answer.status_code, message.send, parties, bodies(receiver)

    status, send, parties, said = http(play)
    assert (status, send.channel, send.to, send.sender, send.text) == (202, channel, CARD, "447700900002", "Hello")
    assert len(said) == 2
    assert all({side: body[side] for side in parties} == parties for body in said)


OLD_WRONG = {
    "no JSON": (b"{", INVALID_JSON),
    "no parties": (b"{}", CHANNEL),
    "parties as in v1": (json.dumps(TEXT | {"channel": None}).encode(), CHANNEL),
    "recipient": (json.dumps(OLD_TEXT | {"to": {"type": "sms", "number": "1"}}).encode(), RECIPIENT),
    "sender": (json.dumps(OLD_TEXT | {"from": {"type": "sms"}}).encode(), SENDER),
    "no content": (json.dumps(OLD_TEXT | {"message": {}}).encode(), TYPE),
    "content of no text": (json.dumps(OLD_TEXT | {"message": {"content": {"type": "text"}}}).encode(), PARAMS),
    "reference": (json.dumps(OLD_TEXT | {"client_ref": "x" * 101}).encode(), CLIENT_REF),
    "a number that is refused": (
        json.dumps(OLD_TEXT | {"to": {"type": "sms", "number": "447700900707"}}).encode(),
        RECIPIENT,
    ),
}


@pytest.mark.parametrize(("content", "expected"), OLD_WRONG.values(), ids=OLD_WRONG)
def test_the_older_version_says_400_for_what_the_newer_one_says_422(messages, content, expected):
    assert problem(messages(path="/v0.1/messages", content=content)) == (400, *expected[1:])


@pytest.mark.parametrize(("digits", "expected"), [("01", THROTTLED), ("09", LOW_BALANCE)])
def test_the_older_version_has_the_other_problems_as_they_are(messages, digits, expected):
    fields = OLD_TEXT | {"to": {"type": "sms", "number": f"4477009007{digits}"}}
    assert problem(messages(fields, path="/v0.1/messages")) == expected


# The SMS API. How its parameters may come.
WAYS = {
    "form": lambda fields: ("POST", {"data": fields}),
    "query": lambda fields: ("POST", {"params": fields}),
    "JSON": lambda fields: ("POST", {"json": fields}),
    "GET": lambda fields: ("GET", {"params": fields}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_sms_is_taken_however_its_parameters_come(http, way):
    async def play(client, simulator, _receiver):
        method, how = way(SMS | KEYS)
        (entry,) = entries(await client.request(method, "/sms/json", **how))
        return entry, list(simulator.messages)

    entry, ids = http(play)
    assert ids == [entry.pop("message-id")]
    network = entry.pop("network")
    assert network.startswith("234")
    assert entry == {"to": CARD, "status": "0", "remaining-balance": "99.96670000", "message-price": "0.03330000"}


@pytest.mark.parametrize("typed", ["+447700900001", "00447700900001", "+44 7700 900001"])
def test_a_recipient_is_taken_as_people_write_it(sms, typed):
    (entry,) = sms(SMS | KEYS | {"to": typed})
    assert (entry["status"], entry["to"]) == ("0", CARD)


def signed(method="md5hash", secret=SIGNATURE_SECRET, **changes):
    fields = SMS | {"api_key": KEY, "timestamp": str(int(time.time()))} | changes
    fields = {name: value for name, value in fields.items() if value is not None}
    return fields | {"sig": sign_sig(fields, secret, method)}


def seconds_from_now(seconds):
    return str(int(time.time()) + seconds)


# Made when they are needed, since a signature is old after five minutes.
PROOFS = {
    "key and secret": (lambda: KEYS, "0"),
    "Basic": (basic, "0"),
    **{f"sig by {method}": (lambda method=method: signed(method), "0") for method in METHODS},
    "sig in the other case": (lambda: signed("sha256") | {"sig": signed("sha256")["sig"].lower()}, "0"),
    "sig of & and =": (lambda: signed(text="Fish & chips = 7"), "0"),
    "none": (dict, "2"),
    "wrong secret": (lambda: KEYS | {"api_secret": "wrong"}, "4"),
    "wrong key": (lambda: KEYS | {"api_key": "wrong"}, "4"),
    "wrong Basic": (lambda: basic(secret="wrong"), "4"),
    "Basic of no ASCII": (lambda: "Basic é".encode("latin-1"), "4"),
    "a token": (lambda: "Bearer a.b.c", "4"),
    "sig of four minutes ago": (lambda: signed(timestamp=seconds_from_now(-240)), "0"),
    "sig of an hour ago": (lambda: signed(timestamp=seconds_from_now(-3_600)), "14"),
    "sig of an hour ahead": (lambda: signed(timestamp=seconds_from_now(3_600)), "14"),
    "sig without time": (lambda: signed(timestamp=None), "14"),
    "sig with another secret": (lambda: signed(secret="another"), "14"),
    "sig of another text": (lambda: signed() | {"text": "Goodbye"}, "14"),
    "sig of no ASCII": (lambda: signed() | {"sig": "é" * 16}, "14"),
    "sig of another key": (lambda: signed(api_key="wrong"), "4"),
    "both": (lambda: signed() | {"api_secret": SECRET}, "32"),
}


@pytest.mark.parametrize(("proof", "status"), PROOFS.values(), ids=PROOFS)
def test_who_sends_an_sms_proves_it_in_one_of_three_ways(http, proof, status):
    async def play(client, simulator, _receiver):
        shown = proof()
        fields, headers = (SMS | shown, {}) if isinstance(shown, dict) else (SMS, {"authorization": shown})
        return await client.post("/sms/json", data=fields, headers=headers), len(simulator.messages)

    answer, taken = http(play)
    (entry,) = entries(answer)
    assert (entry["status"], taken) == (status, 1 if status == "0" else 0)
    assert bool(entry.get("error-text")) == (status != "0")


@pytest.mark.parametrize("method", METHODS)
def test_an_account_s_own_method_is_the_only_one_that_is_taken(sms, method):
    options = {"settings": Settings(signature_method=method)}
    statuses = {other: sms(signed(other), **options)[0]["status"] for other in METHODS}
    assert statuses == {other: "0" if other == method else "14" for other in METHODS}


@pytest.mark.parametrize(("number", "status"), REFUSED.items())
def test_an_sms_to_these_is_refused_with_the_status_of_the_last_two_digits(sms, number, status):
    (entry,) = sms(SMS | KEYS | {"to": number})
    assert (entry["status"], set(entry)) == (status, {"status", "error-text"})
    assert entry["error-text"]


MISSING = {
    "to": ({"to": None}, "to"),
    "from": ({"from": None}, "from"),
    "text": ({"text": None}, "text"),
    "empty text": ({"text": ""}, "text"),
    "unicode text": ({"type": "unicode", "text": None}, "text"),
    "body": ({"type": "binary"}, "body"),
    "all": (dict.fromkeys(SMS), "to"),
}


@pytest.mark.parametrize(("change", "name"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_named(sms, change, name):
    fields = {name: value for name, value in (SMS | KEYS | change).items() if value is not None}
    (entry,) = sms(fields)
    assert (entry["status"], name in entry["error-text"].split()) == ("2", True)


WRONG_SMS = {
    "recipient of 6 digits": ({"to": "447700"}, "3"),
    "a name as recipient": ({"to": "ACME"}, "3"),
    "type": ({"type": "wappush"}, "3"),
    "ttl too short": ({"ttl": "19999"}, "3"),
    "ttl too long": ({"ttl": "604800001"}, "3"),
    "ttl no number": ({"ttl": "1h"}, "3"),
    "ttl of thousands of digits": ({"ttl": "9" * 5_000}, "3"),
    "reference of 101 characters": ({"client-ref": "x" * 101}, "3"),
    "text of 3201 characters": ({"text": "x" * 3_201}, "12"),
    "body of 141 octets": ({"type": "binary", "body": "00" * 141}, "12"),
    "body and header of 141 octets": ({"type": "binary", "body": "00" * 135, "udh": "050003010201"}, "12"),
    "callback of 101 characters": ({"callback": "http://127.0.0.1:1/".ljust(101, "x")}, "23"),
    "callback no URL": ({"callback": "example.com/x"}, "23"),
    "callback of ftp": ({"callback": "ftp://example.com/x"}, "23"),
    "callback with a host that is none": ({"callback": "http://a..b/"}, "23"),
}


@pytest.mark.parametrize(("change", "status"), WRONG_SMS.values(), ids=WRONG_SMS)
def test_what_is_wrong_with_an_sms_has_its_status(sms, change, status):
    (entry,) = sms(SMS | KEYS | change)
    assert (entry["status"], set(entry)) == (status, {"status", "error-text"})


RIGHT_SMS = {
    "callback of 100 characters": {"callback": "http://127.0.0.1:1/".ljust(100, "x")},
    "least ttl": {"ttl": "20000"},
    "most ttl": {"ttl": "604800000"},
    "reference of 100 characters": {"client-ref": "x" * 100},
    "body and header of 140 octets": {"type": "binary", "body": "00" * 134, "udh": "050003010201"},
}


@pytest.mark.parametrize("change", RIGHT_SMS.values(), ids=RIGHT_SMS)
def test_what_is_just_right_is_taken(sms, change):
    assert [entry["status"] for entry in sms(SMS | KEYS | change)] == ["0"]


def test_who_sends_sms_too_fast_is_told_for_how_long_to_wait(http):
    async def play(client, simulator, _receiver):
        for _ in range(5):
            assert entries(await client.post("/sms/json", data=SMS | KEYS))[0]["status"] == "0"
        (refused,) = entries(await client.post("/sms/json", data=SMS | KEYS))
        begin, wait_ms, end = refused["error-text"].replace("[", "]").split("]")
        await simulator.clock.step(timedelta(milliseconds=int(wait_ms)))
        (taken,) = entries(await client.post("/sms/json", data=SMS | KEYS))
        return begin, end, refused["status"], taken["status"]

    said = http(play, settings=Settings(throughput=5))
    assert said == ("Throughput Rate Exceeded - please wait ", " and retry", "1", "0")


# A text, its type, and into how many parts it goes: 160 septets or 70 characters alone, 153 or 67 of several.
TEXTS = {
    "GSM 160": ("x" * 160, None, 1),
    "GSM 161": ("x" * 161, None, 2),
    "GSM 306": ("x" * 306, None, 2),
    "GSM 307": ("x" * 307, None, 3),
    "extension 80": ("€" * 80, None, 1),
    "extension 80 and one": ("€" * 80 + "x", None, 2),
    "one extension in 159": ("€" + "x" * 158, None, 1),
    "one extension in 160": ("€" + "x" * 159, None, 2),
    "UCS-2 70": ("ж" * 70, "unicode", 1),
    "UCS-2 71": ("ж" * 71, "unicode", 2),
    "UCS-2 134": ("ж" * 134, "unicode", 2),
    "UCS-2 135": ("ж" * 135, "unicode", 3),
    "beyond the basic plane 35": ("😀" * 35, "unicode", 1),
    "beyond the basic plane 36": ("😀" * 36, "unicode", 2),
    "GSM as unicode 71": ("x" * 71, "unicode", 2),
    "text without GSM 160": ("ж" * 160, "text", 1),
    "text without GSM 161": ("ж" * 161, "text", 2),
}


@pytest.mark.parametrize(("text", "kind", "parts"), TEXTS.values(), ids=TEXTS)
def test_a_long_text_goes_in_parts_with_an_id_and_a_price_each(sms, text, kind, parts):
    fields = SMS | KEYS | {"text": text} | ({"type": kind} if kind else {})
    told = sms(fields)
    assert len({entry["message-id"] for entry in told}) == len(told) == parts
    assert {(entry["status"], entry["to"], entry["message-price"]) for entry in told} == {("0", CARD, "0.03330000")}
    assert min(Decimal(entry["remaining-balance"]) for entry in told) == 100 - parts * Decimal("0.0333")


def test_each_part_has_a_receipt_of_its_own(http):
    async def play(client, simulator, receiver):
        told = entries(await client.post("/sms/json", data=SMS | KEYS | {"text": "x" * 307}))
        await simulator.clock.settle()
        delivered = [body["messageId"] for body in bodies(receiver) if body["status"] == "delivered"]
        return [entry["message-id"] for entry in told], delivered

    ids, delivered = http(play)
    assert sorted(delivered) == sorted(ids)


def test_receipts_go_to_the_callback(http):
    async def play(client, simulator, receiver):
        await client.post("/sms/json", data=SMS | KEYS | {"callback": receiver.url + "own?a=b"})
        await simulator.clock.settle()
        return {request.split(b" ")[1] for request in receiver.requests}

    assert http(play) == {b"/own?a=b"}


@pytest.mark.parametrize(("wanted", "calls"), [("true", 2), ("1", 2), ("", 2), ("false", 0), ("0", 0)])
@pytest.mark.parametrize("way", ["form", "JSON"])
def test_receipts_come_unless_they_are_not_wanted(http, wanted, calls, way):
    async def play(client, simulator, receiver):
        given = {"true": True, "false": False}.get(wanted, wanted) if way == "JSON" else wanted
        method, how = WAYS[way](SMS | KEYS | {"status-report-req": given})
        await client.request(method, "/sms/json", **how)
        await simulator.clock.settle()
        return len(receiver.requests)

    assert http(play) == calls


def test_the_time_to_live_of_an_sms_is_milliseconds(http):
    async def play(client, simulator, receiver):
        simulator.choose(CARD, "buffered")
        await client.post("/sms/json", data=SMS | KEYS | {"ttl": "20000"})
        await simulator.clock.step(timedelta(seconds=19))
        before = [body["status"] for body in bodies(receiver)]
        await simulator.clock.step(timedelta(seconds=3))
        return before, bodies(receiver)[-1]["status"]

    assert http(play) == (["accepted", "buffered"], "expired")


def test_references_come_back_in_each_entry_and_the_client_s_in_receipts(http):
    async def play(client, simulator, receiver):
        fields = SMS | KEYS | {"text": "x" * 161, "client-ref": "order-7", "account-ref": "shop"}
        told = entries(await client.post("/sms/json", data=fields))
        await simulator.clock.settle()
        return [(entry["client-ref"], entry["account-ref"]) for entry in told], bodies(receiver)

    told, said = http(play)
    assert told == [("order-7", "shop")] * 2
    assert {body["client-ref"] for body in said} == {"order-7"}


def test_money_falls_with_each_send_and_then_there_is_none(http):
    async def play(client, _simulator, _receiver):
        return [entries(await client.post("/sms/json", data=SMS | KEYS))[0] for _ in range(4)]

    *taken, refused = http(play, balance=Decimal("0.10"))
    assert [entry["remaining-balance"] for entry in taken] == ["0.06670000", "0.03340000", "0.00010000"]
    assert refused["status"] == "9"


def test_money_is_there_for_the_whole_of_a_text_or_it_is_not_taken(sms):
    long = SMS | KEYS | {"text": "x" * 307}
    assert [entry["status"] for entry in sms(long, balance=Decimal("0.0999"))] == ["0"] * 3
    assert [entry["status"] for entry in sms(long, balance=Decimal("0.0998"))] == ["9"]


def test_the_number_of_the_account_may_send(messages):
    assert messages(TEXT | {"from": NUMBER}).status_code == 202
