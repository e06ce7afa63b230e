"""A receipt of our own making, by which the way is tried: answered and durable like any other, and never a message."""

from datetime import UTC, datetime

import pytest

from landed.gate.judge import CHECK, Judge, Keep
from landed.gate.keeper import Keeper, Readmission
from landed.gate.meter import Meter, figures_in
from landed.journal.quarantine import SqliteQuarantine
from landed.journal.record import CheckRecord, decode
from landed.journal.sqlite import SqliteJournal
from landed.settings import Limits
from landed.store.sqlite import SqliteStore
from landed.vonage.check import PREFIX, messages_check, sms_check
from landed.vonage.request import Request
from landed.vonage.signing import Account, Keyring
from landed.worker.fold import Fold

NOW = datetime.now(UTC)
OURS = Account(name="ours", api_key="key-a", secrets=(b"secret",), method="sha512")
OTHERS = Account(name="others", api_key="key-a", secrets=(b"another",))
NOBODY = Account(name="nobody")
CHECKED, OPEN = Keyring([OURS]), Keyring([NOBODY])


def wire(request: Request) -> bytes:
    target = request.path.encode() + (b"?" + request.query if request.query else b"")
    lines = [b"%s: %s\r\n" % header for header in request.headers]
    lines.append(b"Content-Length: %d\r\n" % len(request.body) if request.body else b"")
    return b"%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n%s" % (request.method.encode(), target, b"".join(lines), request.body)


def both(account):
    return (
        messages_check("/webhooks/message-status", "1", account, NOW),
        sms_check("/webhooks/delivery-receipt", "2", account, NOW),
    )


def records(gate):
    return [decode(data) for _, data in gate.reader.read(0, 100)]


@pytest.mark.parametrize(("keyring", "account"), [(CHECKED, OURS), (OPEN, NOBODY)], ids=["signed", "no secrets"])
def test_it_is_kept_as_what_it_is(start, keyring, account):
    gate = start(keyring=keyring)
    assert [gate.ask(wire(request))[0].status for request in both(account)] == [200, 204]
    kept = [record for record in records(gate) if isinstance(record, CheckRecord)]
    assert [(each.check_id, each.verified) for each in kept] == [
        (PREFIX + "1", keyring is CHECKED),
        (PREFIX + "2", keyring is CHECKED),
    ]
    assert gate.kept() == []
    assert gate.held.read(0, 10) == []


def test_one_with_another_secret_is_refused_like_any_other(start):
    gate = start(keyring=CHECKED)
    assert [gate.ask(wire(request))[0].status for request in both(OTHERS)] == [401, 401]
    assert [held.reason for held in gate.held.read(0, 10)] == ["wrong", "wrong"]


def test_one_without_a_signature_is_refused_where_one_is_required(start):
    gate = start(keyring=CHECKED)
    status, _ = both(NOBODY)
    assert gate.ask(wire(status))[0].status == 503
    assert [held.reason for held in gate.held.read(0, 10)] == ["missing"]


@pytest.mark.parametrize("message_id", ["another-" + PREFIX, "m-1"], ids=["within an id", "another id"])
def test_a_receipt_that_speaks_of_one_is_a_receipt(start, message_id):
    gate = start(keyring=OPEN)
    body = b'{"message_uuid":"%s","status":"delivered","channel":"sms","client_ref":"landed-check-"}'
    body %= message_id.encode()
    gate.ask(wire(Request(method="POST", path="/webhooks/message-status", body=body)))
    assert len(gate.kept()) == 1


def test_nobody_counts_it(tmp_path):
    journal = SqliteJournal(tmp_path / "journal.db")
    quarantine = SqliteQuarantine(tmp_path / "quarantine.db")
    keeper, judge = Keeper(journal, quarantine, Limits(), meter=Meter(tmp_path)), Judge(CHECKED)
    batch = []
    for request in both(OURS):
        verdict = judge.verdict(request, int(NOW.timestamp() * 1e6))
        assert (verdict.keep, verdict.reason, verdict.trust.verified) == (Keep.JOURNAL, CHECK, True)
        batch.append(keeper.judged(request, verdict, 1, ""))
    answers = keeper.commit(batch)
    keeper.note(batch, answers)
    keeper.meter.answered([each.verdict for each in batch], answers, [1, 1], 2)
    keeper.meter.close()
    store = SqliteStore(tmp_path / "store.db")
    fold = Fold(journal, store)
    fold.step()
    assert fold.progress.position == journal.last_position() == 2
    assert (fold.progress.tally.received, journal.count_requests(0, 2)) == (0, 0)
    figures = figures_in(tmp_path)
    assert figures.kept_in == {journal.epoch: 0}
    assert figures.requests == {(CHECK, "200"): 1, (CHECK, "204"): 1}
    for each in (store, quarantine, journal):
        each.close()


def test_one_that_is_let_in_later_is_no_message_either(tmp_path):
    journal, quarantine = SqliteJournal(tmp_path / "journal.db"), SqliteQuarantine(tmp_path / "quarantine.db")
    keeper, judge = Keeper(journal, quarantine, Limits()), Judge(Keyring([OTHERS]))
    batch = [
        keeper.judged(request, judge.verdict(request, int(NOW.timestamp() * 1e6)), int(NOW.timestamp() * 1e6), "")
        for request in both(OURS)
    ]
    assert keeper.commit(batch) == [401, 401]
    let_in = Readmission(quarantine, journal, Judge(CHECKED)).recheck(lambda: 5)
    assert let_in.let_in == 2
    assert [type(decode(data)) for _, data in journal.read(0, 10)] == [CheckRecord, CheckRecord]
    quarantine.close()
    journal.close()
