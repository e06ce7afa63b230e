"""Faults planted in real files, and that the doctor finds each of them, and nothing on a sound set-up."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import apsw
import pytest

from landed.domain.events import EventType
from landed.gate.meter import Meter
from landed.journal.quarantine import SqliteQuarantine, Suspect
from landed.journal.record import Ids, RequestRecord, SentRecord, TickRecord, encode
from landed.journal.sqlite import SqliteJournal
from landed.onboarding.doctor import BEHIND_RECORDS_MAX, examine
from landed.run import (
    journal_path,
    look_around,
    prepare,
    quarantine_path,
    store_path,
)
from landed.settings import load
from landed.store.outbox import Ask, DeliveryState, Kind, Note, Origin, SecretKept, Subscriber, SubscriberState
from landed.store.rows import EVENT_NUMBERS
from landed.store.sqlite import SqliteStore
from landed.store.sqlite_outbox import SqliteOutbox
from landed.work import LOCK_FILE, only_worker
from landed.worker.fold import Fold
from landed.worker.subscribing import enrol

NUMBERED = "ValueError: no customer 447700900001 (app.py:7)"
SECRET = "a-signature-secret"
IDS = Ids()


def as_us(at):
    return int(at.timestamp() * 1_000_000)


def request(body, at, *, verified=True):
    return RequestRecord(
        id=IDS.next(),
        at_us=as_us(at),
        received_us=as_us(at),
        account="default",
        api_key=None,
        coverage="body" if verified else "nothing",
        verified=verified,
        stale=False,
        answer=200,
        method="POST",
        path="/webhooks/message-status",
        query=b"",
        headers=(),
        body=body,
    )


def receipt(name, at, *, made_at=None, **more):
    made_at = (made_at or at - timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"message_uuid": name, "status": "delivered", "channel": "sms", "to": "447700900001", "timestamp": made_at}
    return request(json.dumps(fields | more).encode(), at)


def sms_receipt(name, at):
    body = f"msisdn=447700900001&to=AcmeInc&messageId={name}&status=delivered&err-code=0&scts=2603221200"
    return request(body.encode(), at)


def sent(name, at, *, sent_at):
    return SentRecord(
        id=IDS.next(),
        at_us=as_us(at),
        account="default",
        message_id=name,
        api="sms",
        channel="sms",
        to="447700900001",
        sender="AcmeInc",
        client_ref=None,
        sent_us=as_us(sent_at),
    )


class Place:
    """A data directory with a journal, folded, a quarantine, a gate's figures, and a worker at work."""

    def __init__(self, data):
        self.now = datetime.now(UTC)
        self.data = data
        self.settings = {"vonage_signature_secret": SECRET}
        self.meter = Meter(data)
        prepare(data)
        self.append(
            *(receipt(f"m{number}", self.now - timedelta(minutes=number)) for number in range(20, 0, -1)),
            receipt("m3", self.now - timedelta(seconds=40), made_at=self.now - timedelta(minutes=3, seconds=2)),
            request(b"?", self.now - timedelta(seconds=30)),
            self.tick(self.now),
        )
        self.fold()

    def tick(self, at):
        return TickRecord(id=IDS.next(), at_us=as_us(at))

    def append(self, *records):
        with closing(SqliteJournal(journal_path(self.data))) as journal:
            journal.append([encode(record) for record in records])
            self.meter.count_for(journal.epoch)
        self.meter.wrote("journal", sum(isinstance(record, RequestRecord) for record in records), 100)
        self.meter.write()

    def fold(self):
        with (
            closing(SqliteJournal(journal_path(self.data))) as journal,
            closing(SqliteStore(store_path(self.data))) as store,
        ):
            fold = Fold(journal, store)
            while fold.step():
                pass

    def hold(self, at, *, signed=True, rows=1):
        suspects = [
            Suspect(content=b"%d" % row, reason="wrong", signed=signed, record=request(b"{}", at, verified=False))
            for row in range(rows)
        ]
        with closing(SqliteQuarantine(quarantine_path(self.data))) as quarantine:
            quarantine.keep(suspects)

    def sql(self, path, statement, values=()):
        with closing(apsw.Connection(str(path))) as db:
            db.execute(statement, values)

    def outbox(self):
        return closing(SqliteOutbox(store_path(self.data)))

    def subscribe(self, name="shop", **more):
        """One that hears of what happens from now on."""
        given = {"kind": Kind.WEBHOOK, "address": f"https://{name}.example.com/?token=hidden"} | more
        with self.outbox() as outbox:
            return outbox.add(Subscriber(name=name, **given))

    def happen(self, count, ago):
        """So many events, so long ago."""
        self.sql(
            store_path(self.data),
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1), "
            "newest (seq) AS (SELECT coalesce(max(seq), 0) FROM event) "
            "INSERT INTO event SELECT seq + n, seq + n >> 16, seq + n, ?2, ?3, '', 'hour ' || (seq + n), 0, 0, x'', ?4 "
            "FROM numbers, newest",
            (
                count,
                EVENT_NUMBERS[EventType.QUARANTINE],
                as_us(self.now - ago),
                '{"held": 1, "came": 1, "reasons": {}}',
            ),
        )

    def try_each(self, subscriber, *answers, state=DeliveryState.WAITING):
        """Take the next events, and note of each what was answered, and how many minutes ago."""
        now_us = as_us(self.now)
        with self.outbox() as outbox:
            several = outbox.step([], [Ask(subscriber=subscriber, count=len(answers))], now_us)
            notes = [
                Note(
                    subscriber=subscriber.row,
                    event=taken.kept.seq,
                    state=state,
                    attempts=1,
                    next_us=now_us + 10**9,
                    at_us=now_us - minutes * 60 * 1_000_000,
                    said=said,
                    failed=True,
                )
                for taken, (said, minutes) in zip(several, answers, strict=True)
            ]
            outbox.step(notes, [], now_us)

    def seen(self):
        return look_around(load(data=self.data, **self.settings), self.now)

    def found(self):
        seen = self.seen()
        return [finding.name for finding in examine(seen)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("LANDED_", "VONAGE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    place = Place(data)
    with only_worker(data):
        yield place
    place.meter.close()


# A file of another program's, of a later version of ours, and one that a disk has spoilt.


def no_database(_place, path):
    path.write_bytes(b"no database, but long enough to be taken for one" * 100)


def of_another_program(place, path):
    path.unlink()
    place.sql(path, "CREATE TABLE theirs (a); PRAGMA application_id = 7")


def of_a_newer_landed(place, path):
    place.sql(path, "PRAGMA user_version = 99")


def spoilt(_place, path):
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xa5" * (path.stat().st_size - 4_096))


@pytest.mark.parametrize("part", ["journal", "store", "quarantine"])
@pytest.mark.parametrize("fault", [no_database, of_another_program, of_a_newer_landed, spoilt])
def test_a_file_that_cannot_be_used_is_named_and_the_rest_looked_at(place, part, fault):
    place.hold(place.now)
    path = {"journal": journal_path, "store": store_path, "quarantine": quarantine_path}[part](place.data)
    fault(place, path)
    seen = look_around(load(data=place.data, **place.settings), place.now)
    findings = examine(seen)
    rest = [] if part == "quarantine" else ["refused"]
    assert [finding.name for finding in findings] == [f"{part}-unusable", *rest]
    assert str(path) in findings[0].what


# Each takes a sound place and plants one fault there.


def no_directory(place):
    shutil.rmtree(place.data)


def a_file_for_a_directory(place):
    shutil.rmtree(place.data)
    place.data.touch()


def an_empty_directory(place):
    shutil.rmtree(place.data)
    place.data.mkdir()


def no_store(place):
    store_path(place.data).unlink()


def no_worker(place):
    (place.data / LOCK_FILE).unlink()


def many_waiting(place):
    place.append(*[place.tick(place.now)] * (BEHIND_RECORDS_MAX + 1))


def one_waiting_for_long(place):
    place.append(receipt("late", place.now - timedelta(minutes=6)), place.tick(place.now))


def a_gate_that_writes_nothing(place):
    place.now += timedelta(minutes=3)


def no_gate(place):
    place.meter.close()
    place.now += timedelta(minutes=3)


def a_clock_set_back(place):
    place.now -= timedelta(minutes=20)


def a_clock_that_is_behind(place):
    place.append(receipt("early", place.now, made_at=place.now + timedelta(minutes=7)))
    place.fold()


def a_clock_that_is_ahead(place):
    for file in place.data.glob("*.db*"):
        file.unlink()
    prepare(place.data)
    late = timedelta(minutes=11)
    place.append(*(receipt(f"m{number}", place.now, made_at=place.now - late) for number in range(6)))
    place.fold()


def little_room(place):
    place.settings["limits"] = {"free_bytes_min": 10**18}


def a_journal_at_its_bound(place):
    place.settings["limits"] = {"journal_bytes_max": journal_path(place.data).stat().st_size}


def a_full_quarantine(place):
    place.settings["limits"] = {"quarantine_rows_max": 5}
    place.hold(place.now, signed=False, rows=5)


def a_refused_signature(place):
    place.hold(place.now)


def noise(place):
    place.hold(place.now, signed=False)


def a_receipt_counted_twice(place):
    place.sql(store_path(place.data), "UPDATE fold SET received = received + 1, folded = folded + 1")


def a_tally_that_does_not_add_up(place):
    place.sql(store_path(place.data), "UPDATE fold SET duplicate = duplicate + 1")


def a_request_gone_from_the_journal(place):
    place.sql(journal_path(place.data), "DELETE FROM record WHERE position = 3")


def a_request_that_a_gate_kept_and_the_journal_has_not(place):
    place.meter.wrote("journal", 1, 100)
    place.meter.write()


def another_journal(place):
    journal_path(place.data).unlink()
    prepare(place.data)
    place.append(*[place.tick(place.now)] * 50)


def an_older_copy_of_the_journal(place):
    shutil.copy(journal_path(place.data), place.data / "copy")
    place.append(receipt("new", place.now))
    place.fold()
    shutil.copy(place.data / "copy", journal_path(place.data))


def no_secret(place):
    del place.settings["vonage_signature_secret"]


def a_secret_in_quotation_marks(place):
    place.settings["vonage_signature_secret"] = f'"{SECRET}"'


def signed_sms(place):
    place.append(sms_receipt("s", place.now))
    place.fold()


def requests_without_a_signature(place):
    place.meter.refused(200, "unverified", 3)
    place.meter.write()


def a_subscriber_that_is_gone(place):
    shop = place.subscribe()
    place.happen(1, ago=timedelta(hours=3))
    place.try_each(shop, ("410", 90))
    with place.outbox() as outbox:
        outbox.stop(shop.row, "it answered that it is gone")


def a_subscriber_that_takes_nothing(place):
    shop = place.subscribe()
    place.happen(2, ago=timedelta(minutes=70))
    place.try_each(shop, ("503", 65))


def a_subscriber_that_nothing_is_brought_to(place):
    place.subscribe()
    place.happen(1, ago=timedelta(minutes=70))


def people_who_are_told_once_an_hour(place):
    place.subscribe("people", kind=Kind.PEOPLE, address="mailto://shop.example.com")
    place.happen(1, ago=timedelta(minutes=70))


def a_dead_letter(place):
    shop = place.subscribe()
    place.happen(1, ago=timedelta(hours=30))
    place.try_each(shop, ("400", 60), state=DeliveryState.DEAD)


def a_subscriber_paused_and_forgotten(place):
    place.subscribe(state=SubscriberState.PAUSED)
    place.happen(1, ago=timedelta(days=2))


def a_handler_that_was_renamed(place):
    with place.outbox() as outbox:
        enrol(outbox, [handler("app:told")], Origin.HANDLERS)
        place.happen(1, ago=timedelta(minutes=1))
        enrol(outbox, [handler("app:tell")], Origin.HANDLERS)


def handler(name):
    return Subscriber(name=name, kind=Kind.HANDLER, address=name, origin=Origin.HANDLERS)


def a_webhook_by_plain_http(place):
    place.subscribe(address="http://shop.example.com/events")


@pytest.mark.parametrize(
    ("plant", "names"),
    [
        (no_directory, ["no-data"]),
        (a_file_for_a_directory, ["no-data"]),
        (an_empty_directory, ["no-journal"]),
        (no_store, ["store-unusable"]),
        (no_worker, ["no-worker"]),
        (many_waiting, ["behind"]),
        (one_waiting_for_long, ["behind"]),
        (a_gate_that_writes_nothing, ["gate-silent"]),
        (no_gate, ["no-gate"]),
        (a_clock_set_back, ["clock"]),
        (a_clock_that_is_behind, ["clock"]),
        (a_clock_that_is_ahead, ["clock"]),
        (little_room, ["disk"]),
        (a_journal_at_its_bound, ["journal-full"]),
        (a_full_quarantine, ["quarantine-full", "quarantined"]),
        (a_refused_signature, ["refused"]),
        (noise, ["quarantined"]),
        (a_receipt_counted_twice, ["ledger"]),
        (a_tally_that_does_not_add_up, ["ledger"]),
        (a_request_gone_from_the_journal, ["ledger", "ledger-of-gates"]),
        (a_request_that_a_gate_kept_and_the_journal_has_not, ["ledger-of-gates"]),
        (another_journal, ["other-journal"]),
        (an_older_copy_of_the_journal, ["journal-went-back"]),
        (no_secret, ["no-secret"]),
        (a_secret_in_quotation_marks, ["odd-secret"]),
        (signed_sms, ["sms-signature"]),
        (requests_without_a_signature, ["unverified"]),
        (a_subscriber_that_is_gone, ["subscriber-stopped"]),
        (a_subscriber_that_takes_nothing, ["events-late"]),
        (a_subscriber_that_nothing_is_brought_to, ["events-late"]),
        (people_who_are_told_once_an_hour, []),
        (a_dead_letter, ["dead-letters"]),
        (a_subscriber_paused_and_forgotten, ["subscriber-paused"]),
        (a_handler_that_was_renamed, ["subscriber-absent"]),
        (a_webhook_by_plain_http, ["webhook-plain"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_planted_fault_is_found(place, plant, names):
    assert place.found() == []
    plant(place)
    assert place.found() == names


# What looks like a fault and is none.


def an_unverified_receipt_from_the_future(place):
    body = b'{"message_uuid":"u","status":"read","channel":"sms","timestamp":"2099-01-01T00:00:00Z"}'
    place.append(request(body, place.now, verified=False))


def a_receipt_that_names_no_zone(place):
    hours_ahead = (place.now + timedelta(hours=5)).strftime("%Y-%m-%d %H:%M:%S")
    body = {"message_uuid": "z", "status": "read", "channel": "sms", "timestamp": hours_ahead}
    place.append(request(json.dumps(body).encode(), place.now))


def a_clock_that_was_wrong_yesterday(place):
    yesterday = place.now - timedelta(days=1)
    place.append(receipt("y", yesterday, made_at=yesterday + timedelta(hours=2)), place.tick(place.now))


def sends_that_were_tracked_late(place):
    for each in range(10):
        place.append(sent(f"s{each}", place.now, sent_at=place.now + timedelta(hours=1)))


def subscribers_of_all_kinds_that_have_all(place):
    place.happen(5, ago=timedelta(days=3))
    place.subscribe()
    place.subscribe("queue", kind=Kind.NATS, address="nats://queue.example.com/events")
    place.subscribe("people", kind=Kind.PEOPLE, address="json://people.example.com")
    place.subscribe("here", address="http://localhost:8000/events")
    place.subscribe("here-too", address="http://[::1]:8000/events")


def a_subscriber_that_waits_for_its_next_attempt(place):
    shop = place.subscribe()
    place.happen(9, ago=timedelta(minutes=50))
    place.try_each(shop, ("503", 49))


def a_subscriber_paused_today(place):
    place.subscribe(state=SubscriberState.PAUSED)
    place.happen(9, ago=timedelta(hours=23))


def a_handler_that_left_nothing_behind(place):
    with place.outbox() as outbox:
        enrol(outbox, [handler("app:told")], Origin.HANDLERS)
        enrol(outbox, [], Origin.HANDLERS)


@pytest.mark.parametrize(
    "plant",
    [
        an_unverified_receipt_from_the_future,
        a_receipt_that_names_no_zone,
        a_clock_that_was_wrong_yesterday,
        sends_that_were_tracked_late,
        subscribers_of_all_kinds_that_have_all,
        a_subscriber_that_waits_for_its_next_attempt,
        a_subscriber_paused_today,
        a_handler_that_left_nothing_behind,
    ],
    ids=lambda plant: plant.__name__,
)
def test_what_is_no_fault_is_not_taken_for_one(place, plant):
    plant(place)
    place.fold()
    assert place.found() == []


def test_looking_leaves_all_files_as_they_were(place):
    place.hold(place.now, signed=False)
    before = {file.name: file.read_bytes() for file in place.data.iterdir() if not file.name.endswith("-shm")}
    assert place.found() == ["quarantined"]
    after = {file.name: file.read_bytes() for file in place.data.iterdir() if not file.name.endswith("-shm")}
    assert {name: data for name, data in after.items() if data or name in before} == before


def test_of_a_subscriber_the_newest_answer_is_seen_and_neither_address_nor_secret(place):
    shop = place.subscribe(secrets=(SecretKept("whsec_hidden"),))
    place.happen(600, ago=timedelta(hours=3))
    place.try_each(shop, ("503", 9), ("connection refused", 7), ("500", 8))
    (seen,) = place.seen().subscribers
    assert (seen.name, seen.kind, seen.state, seen.origin) == (
        "shop",
        Kind.WEBHOOK,
        SubscriberState.ACTIVE,
        Origin.COMMAND,
    )
    assert (seen.said, place.now - seen.said_at) == ("connection refused", timedelta(minutes=7))
    assert (seen.backlog.waiting, seen.backlog.unseen) == (3, 597)
    assert place.now - seen.backlog.oldest_at == timedelta(hours=3)
    assert "hidden" not in repr(place.seen())


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Kind.HANDLER, "ValueError: no customer 4477•••••001 (app.py:7)"), (Kind.WEBHOOK, NUMBERED)],
    ids=["a handler's own words", "ours"],
)
def test_numbers_in_the_words_of_an_application_are_masked(place, kind, said):
    told = place.subscribe("told", kind=kind)
    place.happen(1, ago=timedelta(hours=3))
    place.try_each(told, (NUMBERED, 1))
    assert place.seen().subscribers[0].said == said


def test_the_doctor_is_quick_with_a_million_events_waiting(place):
    for number in range(20):
        place.subscribe(f"shop-{number}")
    place.happen(1_000_000, ago=timedelta(hours=3))
    place.sql(
        store_path(place.data),
        "INSERT INTO delivery SELECT 1, seq, 3 * (seq % 2), 1, 0, 1, '503', 0 FROM event WHERE data <> ''",
    )
    began = time.perf_counter()
    names = place.found()
    took = time.perf_counter() - began
    assert names == ["events-late"] * 20 + ["dead-letters"]
    assert took < 2, "a twentieth of that where it was made"
