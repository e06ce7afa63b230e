"""What every store does, its writing and its reading side. A new store is one more row of STORES."""

import tempfile
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landed.domain.lifecycle import Fact, Message, Source, message_of, receipt_key
from landed.domain.receipt import Api, Inbound, Outcome, Part, Receipt, Segment, Status, Workflow
from landed.domain.rollups import counted
from landed.errors import FoldStopped
from landed.store import Changes, Filter, Kept, KeptInbound, Period, Tally, sqlite
from landed.store.rows import hash_of
from landed.store.sqlite import DIMENSIONS, SqliteReader, SqliteStore

STORES = {"sqlite": (SqliteStore, SqliteReader)}
NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
EPOCH = "a journal's name"
ALL_HOURS = Period(since=0, until=2**31)
ACCOUNT = "default"

texts = st.text(max_size=30)
maybe_texts = st.none() | texts
moments = st.datetimes(timezones=st.just(UTC))
maybe_moments = st.none() | moments
prices = st.none() | st.decimals(-(10**12), 10**12, allow_nan=False, allow_infinity=False, places=8)
maybe_counts = st.none() | st.integers(0, 9_999)
parts = st.none() | st.builds(Part, group=texts, number=st.integers(1, 255), of=st.integers(1, 255))
receipts = st.builds(
    Receipt,
    api=st.sampled_from(Api),
    message_id=texts,
    channel=maybe_texts,
    status=st.sampled_from(Status),
    provider_status=texts,
    to=maybe_texts,
    sender=maybe_texts,
    network=maybe_texts,
    code=maybe_texts,
    detail=maybe_texts,
    client_ref=maybe_texts,
    occurred_at=maybe_moments,
    pushed_at=maybe_moments,
    zone_assumed=st.booleans(),
    price=prices,
    currency=maybe_texts,
    segments=maybe_counts,
    segment_receipts=st.lists(st.builds(Segment, provider_status=texts, occurred_at=maybe_moments), max_size=3).map(
        tuple
    ),
    workflow=st.none() | st.builds(Workflow, workflow_id=texts, items_number=maybe_texts, items_total=maybe_texts),
    part=parts,
    api_key=maybe_texts,
    verified=st.booleans(),
    stale=st.booleans(),
    raw=st.just({}),
)
facts = st.builds(
    Fact,
    receipt=receipts,
    key=st.binary(min_size=16, max_size=16),
    received_at=moments,
    source=st.sampled_from(Source),
    copies=st.integers(1, 2**40),
)
messages = st.builds(
    Message,
    account=texts,
    message_id=texts,
    outcome=st.sampled_from(Outcome),
    status=st.sampled_from(Status),
    provider_status=texts,
    api=st.sampled_from(Api),
    channel=maybe_texts,
    to=maybe_texts,
    sender=maybe_texts,
    client_ref=maybe_texts,
    network=maybe_texts,
    code=maybe_texts,
    conflict=st.booleans(),
    verified=st.booleans(),
    receipts=st.integers(0, 2**40),
    seen_at=moments,
    sent_at=maybe_moments,
    first_at=maybe_moments,
    final_at=maybe_moments,
    price=prices,
    currency=maybe_texts,
    segments=maybe_counts,
    part=parts,
)
inbounds = st.builds(
    Inbound,
    api=st.sampled_from(Api),
    message_id=texts,
    channel=maybe_texts,
    message_type=maybe_texts,
    text=maybe_texts,
    to=maybe_texts,
    sender=maybe_texts,
    occurred_at=maybe_moments,
    zone_assumed=st.booleans(),
    api_key=maybe_texts,
    verified=st.booleans(),
    stale=st.booleans(),
    raw=st.just({}),
)


class Place:
    """Where a test's store is, with its writing side open and a short way to write to it."""

    def __init__(self, kind, path):
        self.writer_kind, self.reader_kind = STORES[kind]
        self.path = path
        self.store = self.writer_kind(path)
        self.position = self.store.progress(EPOCH).position

    @contextmanager
    def reading(self):
        with closing(self.reader_kind(self.path)) as reader:
            yield reader

    def save(self, changes, at=NOON):
        before, self.position = self.position, self.position + 1
        with self.store.transaction():
            return self.store.save(changes, epoch=EPOCH, before=before, position=self.position, at=at)

    def keep(self, *several):
        """Write these messages as new ones, each with the one fact that says so."""
        row, kept_row = self.store.next_rows()
        kept = [
            Kept(row=kept_row + at, position=at, first_position=at, fact=_fact_of(message))
            for at, message in enumerate(several)
        ]
        rows = [row + at for at in range(len(several))]
        self.save(
            Changes(
                messages=list(zip(rows, several, strict=True)),
                facts=list(zip(rows, kept, strict=True)),
                cells=counted(several),
                tally=Tally(received=len(several), folded=len(several)),
            )
        )

    def listed(self, *, limit=1_000, after=None, **wanted):
        with self.reading() as reader:
            return [each.message_id for each in reader.messages(Filter(**wanted), limit=limit, after=after)]


def _fact_of(message):
    receipt = Receipt(
        api=message.api,
        message_id=message.message_id,
        channel=message.channel,
        status=message.status,
        provider_status=message.provider_status,
    )
    return Fact(receipt=receipt, key=receipt_key(message.account, receipt), received_at=message.seen_at)


def message(message_id, *, minutes=0, account=ACCOUNT, **fields):
    receipt = Receipt(
        api=Api.SMS, message_id=message_id, channel="sms", status=Status.DELIVERED, provider_status="delivered"
    )
    fact = Fact(receipt=receipt, key=b"0" * 16, received_at=NOON + timedelta(minutes=minutes))
    return msgspec.structs.replace(message_of(account, [fact]), **fields)


@contextmanager
def a_place(kind):
    with tempfile.TemporaryDirectory() as directory:
        place = Place(kind, Path(directory) / "store.db")
        with closing(place.store):
            yield place


@pytest.fixture(params=STORES)
def kind(request):
    return request.param


@pytest.fixture
def place(kind):
    with a_place(kind) as place:
        yield place


# What is kept.


@settings(max_examples=60, deadline=None)
@given(saved=messages, facts=st.lists(facts, max_size=4, unique_by=lambda fact: fact.key))
@pytest.mark.parametrize("kind", STORES)
def test_every_field_of_a_message_and_its_receipts_is_read_as_it_was_written(kind, saved, facts):
    facts = [
        msgspec.structs.replace(fact, receipt=msgspec.structs.replace(fact.receipt, message_id=saved.message_id))
        for fact in facts
    ]
    kept = [Kept(row=row, position=row * 7, first_position=row * 5, fact=fact) for row, fact in enumerate(facts, 1)]
    key = (saved.account, saved.message_id)
    with a_place(kind) as place:
        place.save(Changes(messages=[(1, saved)], facts=[(1, each) for each in kept]))
        known = place.store.load([key])
        with place.reading() as reader:
            assert reader.find(saved.message_id, limit=5) == [saved]
            assert reader.messages(Filter(), limit=5) == [saved]
            assert sorted(reader.facts(saved), key=lambda each: each.row) == kept
            assert list(reader.receipts_after(0, 9)) == [(each, saved) for each in kept]
            assert reader.newest_receipt() == len(kept)

    assert list(known) == [key]
    assert known[key].row == 1
    assert known[key].facts == {each.fact.key: each for each in kept}


@settings(max_examples=40, deadline=None)
@given(first=messages, second=messages, fact=facts, again=facts)
@pytest.mark.parametrize("kind", STORES)
def test_what_is_written_again_takes_the_place_of_what_was(kind, first, second, fact, again):
    second = msgspec.structs.replace(second, account=first.account, message_id=first.message_id)
    again = msgspec.structs.replace(again, key=fact.key)
    fact, again = (
        msgspec.structs.replace(each, receipt=msgspec.structs.replace(each.receipt, message_id=first.message_id))
        for each in (fact, again)
    )
    with a_place(kind) as place:
        place.save(Changes(messages=[(1, first)], facts=[(1, Kept(row=1, position=1, first_position=1, fact=fact))]))
        place.save(Changes(messages=[(1, second)], facts=[(1, Kept(row=1, position=2, first_position=1, fact=again))]))
        with place.reading() as reader:
            assert reader.messages(Filter(), limit=5) == [second]
            assert reader.facts(second) == [Kept(row=1, position=2, first_position=1, fact=again)]


kept_inbounds = st.builds(
    KeptInbound,
    key=st.binary(min_size=16, max_size=16),
    position=st.integers(1, 2**40),
    first_position=st.integers(1, 2**40),
    received_at=moments,
    account=texts,
    inbound=inbounds,
    copies=st.integers(1, 99),
)


@settings(max_examples=40, deadline=None)
@given(kept=kept_inbounds, other=inbounds)
@pytest.mark.parametrize("kind", STORES)
def test_every_field_of_an_inbound_message_is_read_as_it_was_written(kind, kept, other):
    # What its key covers never changes; the rest does.
    inbound = msgspec.structs.replace(
        kept.inbound,
        channel=other.channel,
        occurred_at=other.occurred_at,
        zone_assumed=other.zone_assumed,
        api_key=other.api_key,
        verified=other.verified,
        stale=other.stale,
    )
    later = msgspec.structs.replace(kept, inbound=inbound, copies=kept.copies + 1, position=kept.position + 1)
    with a_place(kind) as place:
        place.save(Changes(inbound=[kept]))
        assert place.store.load_inbound([kept.key, b"x" * 16]) == {kept.key: kept}
        place.save(Changes(inbound=[later]))
        assert place.store.load_inbound([kept.key]) == {kept.key: later}


def test_what_is_not_known_is_not_in_the_answer(place):
    place.keep(message("a"))

    assert list(place.store.load([(ACCOUNT, "a"), (ACCOUNT, "b"), ("other", "a")])) == [(ACCOUNT, "a")]
    assert place.store.load([]) == {}
    assert place.store.load_inbound([b"0" * 16]) == {}


def test_what_is_certainly_new_is_told_from_what_may_be_known(place):
    names = [f"m{number}" for number in range(100)]
    place.keep(*map(message, names))
    new = {hash_of(f"n{number}") for number in range(1_000)}

    assert place.store.may_know({*map(hash_of, names[:50]), *new}) >= set(map(hash_of, names[:50]))
    assert len(place.store.may_know(new)) < 100


def test_a_message_is_known_by_its_account_too(place):
    place.keep(message("a"), message("a", account="other", client_ref="theirs"))
    known = place.store.load([(ACCOUNT, "a"), ("other", "a")])

    assert {key: each.row for key, each in known.items()} == {(ACCOUNT, "a"): 1, ("other", "a"): 2}
    with place.reading() as reader:
        found = reader.find("a", limit=5)
        assert sorted(each.account for each in found) == [ACCOUNT, "other"]
        assert all(len(reader.facts(each)) == 1 for each in found)


def test_many_are_written_and_read_at_once(place):
    several = [message(f"m{number}", minutes=number) for number in range(1_000)]
    place.keep(*several)
    known = place.store.load([(ACCOUNT, each.message_id) for each in several])

    assert len(known) == 1_000
    assert all(len(each.facts) == 1 for each in known.values())
    assert place.store.next_rows() == (1_001, 1_001)


# Progress.


def test_a_new_store_begins_with_the_journal_that_it_sees_first(place):
    progress = place.store.progress(EPOCH)

    assert (progress.epoch, progress.position, progress.at, progress.tally) == (EPOCH, 0, None, Tally())


def test_progress_and_ledger_move_with_what_is_saved(place):
    given_at = NOON + timedelta(microseconds=1)
    place.save(Changes(tally=Tally(received=4, folded=2, duplicate=1, unreadable=1)))
    given_progress = place.save(Changes(tally=Tally(received=1, duplicate=1)), at=given_at)

    assert given_progress == place.store.progress(EPOCH)
    assert (given_progress.position, given_progress.at) == (2, given_at)
    assert given_progress.tally == Tally(received=5, folded=2, duplicate=2, unreadable=1)
    assert given_progress.tally.is_even
    with place.reading() as reader:
        assert reader.progress() == given_progress


def test_a_store_of_another_journal_is_refused(place):
    with pytest.raises(FoldStopped, match=r"landed rebuild"):
        place.store.progress("another journal's name")

    assert place.store.progress(EPOCH).position == 0


@pytest.mark.parametrize(("epoch", "before"), [(EPOCH, 7), ("another journal's name", 0)], ids=["position", "journal"])
def test_a_position_that_is_not_there_saves_nothing(place, epoch, before):
    changes = Changes(messages=[(1, message("a"))], tally=Tally(received=1, folded=1))

    with pytest.raises(FoldStopped, match="only one worker"), place.store.transaction():
        place.store.save(changes, epoch=epoch, before=before, position=8, at=NOON)

    assert place.store.load([(ACCOUNT, "a")]) == {}
    assert place.store.progress(EPOCH).tally == Tally()


def test_two_writers_cannot_both_go_on(place):
    other = place.writer_kind(place.path)
    before = other.progress(EPOCH).position
    place.save(Changes())

    with pytest.raises(FoldStopped), other.transaction():
        other.save(Changes(), epoch=EPOCH, before=before, position=before + 1, at=NOON)
    other.close()


def test_a_transaction_that_fails_writes_nothing(place):
    def fail():
        with place.store.transaction():
            place.store.save(Changes(messages=[(1, message("a"))]), epoch=EPOCH, before=0, position=1, at=NOON)
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert place.listed() == []
    assert place.store.progress(EPOCH).position == 0


# What people read.

LISTED = {
    "old": message("old", minutes=-9, outcome=Outcome.FAILED, status=Status.FAILED, provider_status="undeliverable"),
    "mms": message("mms", minutes=1, channel="mms", network="26201", to="491701234567"),
    "ref": message("ref", minutes=2, client_ref="order-7", network="26202", to="491701234567"),
    "odd": message("odd", minutes=3, channel=None, to=None, outcome=Outcome.PENDING, status=Status.UNRECOGNISED),
}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param({}, ["odd", "ref", "mms", "old"], id="all-newest-first"),
        pytest.param({"outcome": "failed"}, ["old"], id="outcome"),
        pytest.param({"status": "unrecognised"}, ["odd"], id="our-status"),
        pytest.param({"status": "undeliverable"}, ["old"], id="vonage's-status"),
        pytest.param({"channel": "mms"}, ["mms"], id="channel"),
        pytest.param({"network": "26202"}, ["ref"], id="network"),
        pytest.param({"to": "491701234567"}, ["ref", "mms"], id="to"),
        pytest.param({"client_ref": "order-7"}, ["ref"], id="client-ref"),
        pytest.param({"since": NOON + timedelta(minutes=2)}, ["odd", "ref"], id="since-is-included"),
        pytest.param({"until": NOON + timedelta(minutes=2)}, ["mms", "old"], id="until-is-not"),
        pytest.param({"outcome": "delivered", "to": "491701234567", "network": "26201"}, ["mms"], id="together"),
        pytest.param({"outcome": "failed", "channel": "mms"}, [], id="nothing-fits-all"),
        pytest.param({"channel": "MMS"}, [], id="letter-case-counts"),
    ],
)
def test_a_list_has_what_fits_every_filter(place, wanted, expected):
    place.keep(*LISTED.values())

    assert place.listed(**wanted) == expected
    # Each page alone gives the same, and no page goes on for ever.
    pages, after = [], None
    while page := place.listed(limit=1, after=after, **wanted):
        pages += page
        after = page[-1]
        assert len(pages) <= len(expected)
    assert pages == expected


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=25), st.integers(1, 6))
@pytest.mark.parametrize("kind", STORES)
def test_pages_are_complete_and_repeat_nothing_even_at_equal_times(kind, minutes, limit):
    with a_place(kind) as place:
        if minutes:
            place.keep(*(message(f"m{number}", minutes=at) for number, at in enumerate(minutes)))
        pages, after = [], None
        while page := place.listed(limit=limit, after=after):
            assert len(page) <= limit
            pages += page
            after = page[-1]
            assert len(pages) <= len(minutes)

    newest_first = sorted(range(len(minutes)), key=lambda number: (minutes[number], number), reverse=True)
    assert pages == [f"m{number}" for number in newest_first]


def test_behind_a_message_that_is_not_known_there_is_nothing(place):
    place.keep(message("a"))

    assert place.listed(after="b") == []


def test_a_message_is_found_by_its_id_or_else_by_its_client_reference(place):
    place.keep(message("a", client_ref="b"), message("b", client_ref="order"), message("c", client_ref="order"))
    with place.reading() as reader:
        assert [each.message_id for each in reader.find("b", limit=5)] == ["b"]
        assert [each.message_id for each in reader.find("order", limit=5)] == ["c", "b"]
        assert [each.message_id for each in reader.find("order", limit=1)] == ["c"]
        assert reader.find("nobody", limit=5) == []
        assert reader.find("ORDER", limit=5) == []


def test_receipts_are_read_on_from_a_row(place):
    place.keep(*(message(f"m{number}") for number in range(5)))
    with place.reading() as reader:
        first = reader.receipts_after(0, 3)
        second = reader.receipts_after(first[-1][0].row, 3)

        assert [each.message_id for _, each in first + second] == ["m0", "m1", "m2", "m3", "m4"]
        assert [kept.fact.receipt.message_id for kept, _ in first + second] == ["m0", "m1", "m2", "m3", "m4"]
        assert reader.receipts_after(5, 3) == []
        assert reader.newest_receipt() == 5


def test_a_rollup_that_was_made_otherwise_is_made_again(kind):
    with a_place(kind) as place:
        place.keep(*LISTED.values())
        with place.reading() as reader:
            before = reader.summaries("network", ALL_HOURS)
        place.store._db.execute("UPDATE rollup_made SET version = 'older'; DELETE FROM rollup WHERE span = 1")  # noqa: SLF001
        place.store.close()
        place.store = place.writer_kind(place.path)

        with place.reading() as reader:
            assert reader.summaries("network", ALL_HOURS) == before
            assert reader.summaries("hour", ALL_HOURS)


def test_a_period_is_read_by_days_where_they_are_whole():
    assert Period(since=23, until=49).stretches("network") == [(1, 23, 24), (24, 24, 48), (1, 48, 49)]
    assert Period(since=23, until=49).stretches("hour") == [(1, 23, 49)]
    assert Period(since=25, until=47).stretches("network") == [(1, 25, 47)]


@settings(max_examples=50, deadline=None)
@given(hours=st.lists(st.integers(0, 24 * 5), min_size=1), since=st.integers(0, 24 * 5), length=st.integers(0, 24 * 5))
def test_a_period_has_the_messages_of_its_hours_and_no_others(hours, since, length):
    with a_place("sqlite") as place:
        place.keep(*(message(f"m{at}", minutes=60 * hour + 17) for at, hour in enumerate(hours)))
        first = int(NOON.timestamp()) // 3_600
        wanted = Period(since=first + since, until=first + since + length)
        with place.reading() as reader:
            for by in DIMENSIONS:
                totals = [summary.total for summary in reader.summaries(by, wanted).values()]
                assert sum(totals) == sum(since <= hour < since + length for hour in hours)


@pytest.mark.parametrize("few", [0, 2, 10_000])
def test_a_list_is_the_same_whichever_way_is_quickest(monkeypatch, few):
    monkeypatch.setattr(sqlite, "FEW_MAX", few)
    with a_place("sqlite") as place:
        for number in range(9):
            about = {"client_ref": "campaign" if number % 3 else "one", "to": f"44770090000{number % 2}"}
            place.keep(message(f"m{number}", minutes=-number if number == 4 else number, **about))

        assert place.listed(client_ref="campaign") == ["m8", "m7", "m5", "m2", "m1", "m4"]
        assert place.listed(client_ref="campaign", limit=2, after="m7") == ["m5", "m2"]
        assert place.listed(to="447700900001") == ["m7", "m5", "m3", "m1"]
        assert place.listed(to="447700900001", client_ref="one") == ["m3"]
        assert place.listed(to="447700900009") == []


def test_outcomes_are_counted(place):
    place.keep(*LISTED.values())
    with place.reading() as reader:
        assert reader.outcomes() == {Outcome.FAILED: 1, Outcome.DELIVERED: 2, Outcome.PENDING: 1}


def test_a_reader_sees_what_is_written_while_it_is_open(place):
    with place.reading() as reader:
        assert reader.find("a", limit=1) == []
        place.keep(message("a", price=Decimal("0.0333"), currency="EUR"))
        assert [each.price for each in reader.find("a", limit=1)] == [Decimal("0.0333")]
