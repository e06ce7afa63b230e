"""What is not trusted, over a real socket: its answer, and that it is in quarantine before it is given."""

import json
from urllib.parse import urlencode

import apsw
import pytest

from landed.gate.judge import Policy
from landed.gate.keeper import CUT_BYTES
from landed.journal.quarantine import SqliteQuarantine
from landed.settings import Limits
from landed.vonage.signing import Account, Keyring, sign_jwt, sign_sig

SECRET = "secret"
ONE = Keyring.of(SECRET)
KEYED = Keyring([Account(name="ours", api_key="key-a", secrets=(b"secret",))])
STATUS = json.dumps({"message_uuid": "u", "channel": "sms", "status": "delivered", "timestamp": "2025-02-03"}).encode()
RECEIPT = {"messageId": "m", "msisdn": "1", "to": "2", "status": "delivered", "err-code": "0"}
HOST = b"Host: a\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
PATH = b"/webhooks/message-status"


def post(body=STATUS, *fields, path=PATH, length=None):
    head = b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n" % (path, HOST, len(body) if length is None else length)
    return head + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def signed(body=STATUS, secret=SECRET, at=1, api_key=None):
    token = sign_jwt(body, secret, issued_at=at, token_id="j", api_key=api_key)
    return post(body, b"Authorization: Bearer " + token.encode())


def get(secret=None, at="1", nonce="n", **fields):
    params = RECEIPT | fields | ({"timestamp": at, "nonce": nonce} if secret else {})
    sig = {"sig": sign_sig(params, secret, "sha256")} if secret else {}
    return b"GET /webhooks/delivery-receipt?%s HTTP/1.1\r\n%s\r\n" % (urlencode(params | sig).encode(), HOST)


def held(gate):
    return gate.held.read(0, 1_000)


ROWS = [
    # name, keyring, what came, answer, why it is in quarantine
    pytest.param(ONE, signed(), 200, None, id="signed"),
    pytest.param(ONE, get(SECRET), 204, None, id="sig"),
    pytest.param(ONE, get(), 204, None, id="unsigned-where-none-is-required"),
    pytest.param(ONE, post(), 503, "missing", id="unsigned-where-one-is-required"),
    pytest.param(ONE, signed(secret="other"), 401, "wrong", id="token-of-another-secret"),
    pytest.param(ONE, get("other"), 401, "wrong", id="sig-of-another-secret"),
    pytest.param(ONE, signed().replace(b'"delivered"', b'"rejected_"'), 401, "body", id="another-body"),
    pytest.param(ONE, post(STATUS, b"Authorization: Bearer e30.e30.x"), 401, "algorithm", id="no-algorithm"),
    pytest.param(ONE, post(STATUS, b"Authorization: Bearer \xff"), 401, "malformed", id="token-that-is-none"),
    pytest.param(KEYED, signed(api_key="key-x"), 401, "account", id="unknown-account"),
    pytest.param(KEYED, get(**{"api-key": "key-x"}), 401, "account", id="unsigned-of-an-unknown-account"),
]


@pytest.mark.parametrize(("keyring", "data", "status", "reason"), ROWS)
def test_what_is_not_trusted_is_in_quarantine_when_it_is_answered(start, keyring, data, status, reason):
    gate = start(keyring=keyring)
    with gate.connect() as client:
        client.send(data)
        answer = client.answer()
        kept = [each.reason for each in held(gate)]
    assert (answer.status, kept) == (status, [reason] if reason else [])
    assert len(gate.kept()) == (reason is None)
    assert (b"www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(("keyring", "data", "status", "reason"), ROWS)
def test_a_full_quarantine_turns_401_into_503_and_nothing_else(start, keyring, data, status, reason):
    gate = start(keyring=keyring, quarantine={"rows_max": 1})
    assert gate.statuses(post(b"first")) in ([503], [401])

    expected = 503 if reason else status
    assert gate.statuses(data) == [expected]
    assert len(held(gate)) == 1


def test_what_is_kept_is_the_request_as_it_came(start):
    gate = start(keyring=ONE)
    gate.statuses(signed(secret="other"))

    (each,) = held(gate)
    record = each.record
    assert (record.method, record.path, record.body, record.answer) == ("POST", PATH.decode(), STATUS, 401)
    assert [name for name, _ in record.headers] == [b"Host", b"Content-Length", b"Authorization"]
    assert (record.peer, record.verified, each.signed) == ("127.0.0.1", False, True)


@pytest.mark.parametrize(
    ("first", "second", "contents"),
    [
        pytest.param(signed(secret="x", at=1), signed(secret="y", at=2), 1, id="token-made-anew"),
        pytest.param(post(), signed(secret="x"), 1, id="unsigned-then-signed"),
        pytest.param(get("x", "1", "n"), get("x", "2", "o"), 1, id="sig-made-anew"),
        pytest.param(
            post(json.dumps(RECEIPT | {"sig": "0" * 64, "timestamp": "1"}).encode()),
            post(json.dumps(RECEIPT | {"timestamp": "2", "sig": "1" * 64, "nonce": "n"}).encode()),
            1,
            id="sig-in-json",
        ),
        pytest.param(
            post(urlencode(RECEIPT | {"sig": "0" * 64, "timestamp": "1"}).encode()),
            post(urlencode(RECEIPT | {"timestamp": "2", "sig": "1" * 64}).encode()),
            1,
            id="sig-in-a-form",
        ),
        pytest.param(post(), post(STATUS.replace(b"2025", b"2026")), 2, id="the-messages-timestamp-is-a-fact"),
        pytest.param(post(), post(path=b"/webhooks/message-status/"), 1, id="the-same-path"),
        pytest.param(post(), post(path=b"/webhooks/inbound-message"), 2, id="another-path"),
        pytest.param(get("x"), get("x", status="failed"), 2, id="another-status"),
        pytest.param(post(b"hello"), post(b"hello there"), 2, id="unreadable"),
        pytest.param(post(b"x" * CUT_BYTES), post(b"x" * 300_000), 2, id="whole-and-cut"),
    ],
)
def test_a_copy_of_the_same_content_only_raises_a_count(start, first, second, contents):
    gate = start(keyring=ONE)
    assert not set(gate.statuses(first) + gate.statuses(second)) & {200, 204}

    assert len(held(gate)) == contents
    assert sum(each.copies for each in held(gate)) == 2


def test_of_copies_the_later_signed_one_stands(start):
    gate = start(keyring=ONE)
    for data in (post(), signed(secret="x"), signed(secret="y"), post()):
        gate.statuses(data)

    (each,) = held(gate)
    assert (each.copies, each.record.headers[-1][1]) == (
        4,
        signed(secret="y").split(b"Authorization: ")[1][: -len(STATUS) - 4],
    )


@pytest.mark.parametrize(
    ("data", "kept_bytes"),
    [
        pytest.param(post(b"a" * 300_000), CUT_BYTES, id="declared"),
        pytest.param(post(b"a" * 100, length=300_000), 100, id="declared-and-cut-off"),
        pytest.param(post(b"", length=300_000), 0, id="declared-and-nothing-came"),
        pytest.param(post(b"", b"Expect: 100-continue", length=300_000), 0, id="expecting"),
        pytest.param(
            post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            + b"5000\r\n"
            + b"a" * 0x5000
            + b"\r\n"
            + (b"5000\r\n" + b"a" * 0x5000 + b"\r\n") * 15,
            CUT_BYTES,
            id="chunked",
        ),
    ],
)
@pytest.mark.parametrize("keyring", [ONE, Keyring([])], ids=["secret", "open"])
def test_of_a_body_over_the_limit_the_beginning_is_kept(start, data, kept_bytes, keyring):
    gate = start(keyring=keyring)

    assert gate.statuses(data) == [413]
    (each,) = held(gate)
    assert (each.reason, len(each.record.body), each.record.answer) == ("too-large", kept_bytes, 413)
    assert gate.statuses(HEALTH) == [200]


def test_a_large_body_to_another_path_is_nobodys(start):
    gate = start()
    assert gate.statuses(post(b"a" * 300_000, path=b"/elsewhere")) == [413]
    assert held(gate) == []


def test_a_large_body_for_a_full_quarantine_comes_again(start):
    gate = start(quarantine={"bytes_max": 1})
    assert gate.statuses(post(b"a" * 300_000)) == [503]


def test_a_quarantine_that_is_held_is_503_and_the_journal_goes_on(start):
    gate = start(keyring=ONE, busy_ms=20)
    holder = apsw.Connection(str(gate.quarantine.path))
    holder.execute("BEGIN IMMEDIATE")
    assert gate.statuses(signed(secret="x") + signed() + get("x")) == [503, 200, 503]
    assert gate.statuses(HEALTH) == [200]
    holder.execute("ROLLBACK")
    holder.close()

    assert gate.statuses(signed(secret="x")) == [401]
    assert (len(held(gate)), len(gate.kept())) == (1, 1)


def test_a_journal_that_is_held_does_not_touch_the_quarantine(start):
    gate = start(keyring=ONE, busy_ms=20)
    holder = apsw.Connection(str(gate.path))
    holder.execute("BEGIN IMMEDIATE")
    assert gate.statuses(signed(secret="x") + signed()) == [401, 503]
    holder.execute("ROLLBACK")
    holder.close()
    assert (len(held(gate)), len(gate.kept())) == (1, 0)


def test_answers_keep_the_order_of_their_requests(start):
    gate = start(keyring=ONE)
    pattern = [signed(), signed(secret="x"), HEALTH, post(), get(SECRET), get("x")] * 50

    assert gate.statuses(b"".join(pattern)) == [200, 401, 200, 503, 204, 401] * 50
    assert [each.copies for each in held(gate)] == [100, 50]


def test_a_gate_and_others_use_the_file_at_once(start):
    gate = start(keyring=ONE)
    beside = SqliteQuarantine(gate.quarantine.path, busy_ms=2_000)
    removed = 0
    with gate.connect() as client:
        for number in range(200):
            client.send(signed(b'{"message_uuid":"%d"}' % number, secret="x"))
            assert client.answer().status == 401
            removed += beside.remove(beside.read(0, 1)) if number % 2 else 0
    beside.close()

    assert (removed, len(held(gate))) == (100, 100)


# Rate, disk, prefix and networks.


def test_beyond_its_rate_what_is_not_verified_is_503_and_not_kept(start):
    gate = start(keyring=ONE, policy=Policy(unverified_per_second_max=0.001, unverified_burst_max=3))

    assert gate.statuses(get() + signed(secret="x") + post() + get() + post() + signed() + get(SECRET)) == [
        *(204, 401, 503),
        *(503, 503),
        *(200, 204),
    ]
    (answer,) = gate.ask(get())
    assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
    assert gate.statuses(post(b"a" * 300_000)) == [503]
    assert ([each.copies for each in held(gate)], len(gate.kept())) == ([2], 3)


def test_where_nothing_can_be_verified_there_is_no_such_rate(start):
    gate = start(policy=Policy(unverified_per_second_max=0.001, unverified_burst_max=1))
    assert gate.statuses(get() * 50) == [204] * 50


@pytest.mark.parametrize("bound", [{"free_bytes_min": 2**60}, {"journal_bytes_max": 1}], ids=["free", "journal"])
def test_without_room_on_the_disk_all_is_503_until_there_is_some(start, bound):
    gate = start(keyring=ONE, disk=bound)

    for data in (signed(), signed(secret="x"), get(), HEALTH):
        (answer,) = gate.ask(data)
        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"5")
    assert (held(gate), gate.kept()) == ([], [])

    disk = gate.gate._keeper._disk  # noqa: SLF001 - room is made by moving the bound
    disk._limits = Limits(free_bytes_min=0, unverified_free_bytes_min=0)  # noqa: SLF001
    gate.wait_until(lambda: gate.gate._keeper.able)  # noqa: SLF001
    assert gate.statuses(signed() + HEALTH) == [200, 200]


SPARING = [{"unverified_free_bytes_min": 2**60}, {"journal_bytes_max": 200_000, "unverified_journal_share_max": 0.01}]


@pytest.mark.parametrize("bound", SPARING, ids=["free", "journal"])
def test_the_last_room_on_the_disk_is_for_what_is_signed(start, bound):
    gate = start(keyring=ONE, disk=bound)

    assert gate.statuses(get() + signed(secret="x") + post() + signed() + get(SECRET) + HEALTH) == [
        *(503, 503, 503),
        *(200, 204, 200),
    ]
    assert ([record.verified for record in gate.kept()], held(gate)) == ([True, True], [])


@pytest.mark.parametrize("bound", SPARING[:1])
def test_where_nothing_can_be_verified_no_room_is_kept_from_it(start, bound):
    assert start(disk=bound).statuses(get()) == [204]


@pytest.mark.parametrize(
    ("request_of", "status"),
    [(lambda n: signed(b'{"message_uuid":"%d"}' % n), 200), (lambda n: get(SECRET, messageId=str(n)), 204)],
    ids=["token", "sig"],
)
def test_of_one_signature_only_so_many_copies_are_kept_and_all_are_answered_alike(start, request_of, status):
    gate = start(keyring=ONE, copies_max=3)
    with gate.connect() as client:
        for _ in range(20):
            client.send(request_of(1))
            assert client.answer().status == status
    assert len(gate.kept()) == 3

    assert gate.statuses(request_of(2)) == [status]
    assert len(gate.kept()) == 4


def test_a_copy_counts_only_when_it_is_durable(start):
    gate = start(keyring=ONE, copies_max=2, disk={"free_bytes_min": 2**60})
    for _ in range(5):
        assert gate.statuses(signed()) == [503]
    gate.gate._keeper._disk._limits = Limits(free_bytes_min=0)  # noqa: SLF001 - room is made by moving the bound
    gate.wait_until(lambda: gate.gate._keeper.able)  # noqa: SLF001

    for _ in range(5):
        assert gate.statuses(signed()) == [200]
    assert len(gate.kept()) == 2


def test_copies_of_what_is_not_signed_are_all_kept(start):
    gate = start(keyring=ONE, copies_max=2)
    assert gate.statuses(get() * 5) == [204] * 5
    assert len(gate.kept()) == 5


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/hooks/vonage/webhooks/delivery-receipt", 204),
        (b"//hooks//vonage/webhooks/delivery-receipt/", 204),
        (b"http://a/hooks/vonage/webhooks/delivery-receipt", 204),
        (b"/hooks/vonage/healthz", 200),
        (b"/webhooks/delivery-receipt", 404),
        (b"/healthz", 404),
        (b"/hooks/vonage", 404),
        (b"/hooks/vonagewebhooks/delivery-receipt", 404),
        (b"/hooks/vonage/hooks/vonage/webhooks/delivery-receipt", 404),
    ],
)
def test_behind_a_prefix_and_nowhere_else(start, target, status):
    gate = start(path_prefix="/hooks/vonage")
    assert gate.statuses(b"GET %s?messageId=m&status=delivered HTTP/1.1\r\n%s\r\n" % (target, HOST)) == [status]
    assert [record.path for record in gate.kept()] == ["/webhooks/delivery-receipt"] * (status == 204)
