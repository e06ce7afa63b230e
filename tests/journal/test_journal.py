"""What every journal does. A new journal is one more row of JOURNALS."""

import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from landed.errors import JournalUnable
from landed.journal import BYTES_A_READ_MAX, Journal, Retired
from landed.journal.record import Ids, RequestRecord, SentRecord, TickRecord, encode

JOURNALS = {"sqlite": "landed.journal.sqlite:SqliteJournal"}
SECONDS_MAX = 30
IDS = Ids()
FOR_EVER = 2**62

# Opens the journal named by its arguments, as the tests do.
OPEN = """
import sys
from importlib import import_module
from pathlib import Path
module, _, name = sys.argv[1].partition(":")
journal = getattr(import_module(module), name)(Path(sys.argv[2]))
"""
APPEND_SEVERAL = (
    OPEN
    + """
writer, batches = sys.argv[3], int(sys.argv[4])
sys.stdin.readline()
for batch in range(batches):
    records = [f"{writer} {batch} {record}".encode() for record in range(1 + batch % 200)]
    print(journal.append(records), records[-1].decode())
"""
)
APPEND_FOR_EVER = (
    OPEN
    + """
batch = 0
while True:
    batch += 1
    position = journal.append([b"%d" % batch] * 3)
    print(position, batch, flush=True)
"""
)


def a_request(at_us=1, *, body=b"request"):
    return encode(
        RequestRecord(
            id=IDS.next(),
            at_us=at_us,
            received_us=at_us,
            account="request",
            api_key=None,
            coverage="body",
            verified=True,
            stale=False,
            answer=200,
            method="POST",
            path="/",
            query=b"",
            headers=(),
            body=body,
        )
    )


def a_tick(at_us=1):
    return encode(TickRecord(id=b"request".ljust(16), at_us=at_us))


def a_sent(at_us=1):
    about = {"account": "default", "message_id": "m", "api": "sms", "channel": "sms", "to": None, "sender": None}
    return encode(SentRecord(id=IDS.next(), at_us=at_us, client_ref=None, sent_us=at_us, **about))


class Place:
    """Where a test's journal is, and how it is opened: again, or by another process."""

    def __init__(self, name, path):
        self.name = name
        self.path = path
        self._opened = []

    def open(self, **options) -> Journal:
        module, _, kind = self.name.partition(":")
        journal = getattr(import_module(module), kind)(self.path, **options)
        self._opened.append(journal)
        return journal

    def process(self, program, *arguments):
        command = [sys.executable, "-c", program, self.name, str(self.path), *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self):
        for journal in self._opened:
            journal.close()


@pytest.fixture(params=JOURNALS.values(), ids=JOURNALS)
def place(request, tmp_path):
    place = Place(request.param, tmp_path / "journal.db")
    yield place
    place.close()


@pytest.fixture
def journal(place):
    return place.open()


def test_a_new_journal_is_empty(journal):
    assert journal.last_position() == 0
    assert journal.read(0, 10) == []


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 1_000])
def test_records_are_read_in_the_order_of_their_append_with_rising_positions(journal, count):
    records = [f"record {number}".encode() for number in range(count)]

    last = journal.append(records)
    rows = journal.read(0, count + 1)

    assert [data for _, data in rows] == records
    assert [position for position, _ in rows] == sorted({position for position, _ in rows})
    assert rows[-1][0] == last == journal.last_position()


def test_any_bytes_are_kept_as_they_are(journal):
    records = [b"", b"\0", bytes(range(256)), b"x" * 300_000]

    journal.append(records)

    assert [data for _, data in journal.read(0, 10)] == records


def test_appending_nothing_writes_nothing(journal):
    last = journal.append([b"one"])

    assert journal.append([]) == last
    assert len(journal.read(0, 10)) == 1


def test_reading_goes_on_behind_a_position_and_ends_at_the_limit(journal):
    journal.append([b"%d" % number for number in range(10)])
    first = journal.read(0, 4)
    second = journal.read(first[-1][0], 4)

    assert [data for _, data in first + second] == [b"%d" % number for number in range(8)]
    assert journal.read(journal.last_position(), 4) == []
    assert journal.read(journal.last_position() + 1_000, 4) == []


@pytest.mark.parametrize(("bytes_max", "expected"), [(1, 1), (99, 1), (100, 1), (101, 2), (350, 4), (10_000, 5)])
def test_a_read_ends_with_the_record_that_reaches_its_size(journal, bytes_max, expected):
    journal.append([b"x" * 100] * 5)

    assert len(journal.read(0, 10, bytes_max)) == expected


def test_large_records_are_read_in_parts_that_fit_the_memory(journal):
    record = b"x" * (256 * 1024)
    journal.append([record] * 40)
    sizes, position = [], 0
    while rows := journal.read(position, 2_000):
        sizes.append(len(rows))
        position = rows[-1][0]

    assert sum(sizes) == 40
    assert max(sizes) * len(record) <= BYTES_A_READ_MAX


def test_what_one_connection_appends_another_reads_at_once(place, journal):
    other = place.open()

    position = journal.append([b"one"])

    assert other.read(0, 10) == [(position, b"one")]
    assert other.last_position() == position


def test_the_epoch_is_the_journals_own_and_never_changes(place, journal, tmp_path):
    other = Place(place.name, tmp_path / "other.db")

    assert journal.epoch == place.open().epoch
    assert len(journal.epoch) >= 32
    assert other.open().epoch != journal.epoch
    other.close()


def test_requests_are_counted_between_two_positions_and_nothing_else_is(journal):
    journal.append([a_request(), a_tick(), a_request(), a_tick(), a_request()])

    assert journal.count_requests(0, 5) == 3
    assert journal.count_requests(1, 4) == 1
    assert journal.count_requests(5, 9) == 0


def positions(journal):
    return [position for position, _ in journal.read(0, 1_000_000, 1 << 30)]


def retire_all(journal, upto, before_us):
    counts = []
    while count := journal.retire(upto, before_us):
        counts.append(count)
    return counts


@pytest.mark.parametrize(
    ("upto", "before_us", "left"),
    [
        pytest.param(4, 35, [4, 5, 6], id="as-old-as-that"),
        pytest.param(2, 35, [3, 4, 5, 6], id="never-past-that-position"),
        pytest.param(4, 40, [4, 5, 6], id="not-of-that-very-time"),
        pytest.param(0, 100, [1, 2, 3, 4, 5, 6], id="nothing-read"),
        pytest.param(6, 10, [1, 2, 3, 4, 5, 6], id="nothing-old-enough"),
        pytest.param(6, FOR_EVER, [6], id="never-the-newest"),
        pytest.param(99, FOR_EVER, [6], id="a-position-that-is-not-there"),
    ],
)
def test_the_oldest_are_retired_up_to_a_position_and_an_age_and_the_newest_never_is(journal, upto, before_us, left):
    journal.append([a_request(10), a_tick(20), a_sent(30), a_request(40), a_request(50), a_request(60)])

    counts = retire_all(journal, upto, before_us)

    assert positions(journal) == left
    assert sum(counts) == 6 - len(left)
    assert journal.last_position() == 6


def test_behind_one_that_is_young_none_is_retired_however_old(journal):
    journal.append([a_request(10), a_request(99), a_request(10), a_request(10)])

    assert retire_all(journal, 4, 50) == [1]
    assert positions(journal) == [2, 3, 4]


def test_what_was_retired_stays_counted(place, journal):
    assert journal.retired() == Retired()
    journal.append([a_request(10), a_tick(20), a_sent(30), a_request(40), a_request(50), a_tick(60)])
    counts = [journal.count_requests(0, upto) for upto in (4, 5, 6)]

    journal.retire(2, FOR_EVER)
    assert journal.retired() == Retired(records=2, requests=1, position=2)
    journal.retire(4, FOR_EVER)
    assert journal.retired() == place.open().retired() == Retired(records=4, requests=2, position=4)

    assert [journal.count_requests(0, upto) for upto in (4, 5, 6)] == counts == [2, 3, 3]
    assert [journal.count_requests(4, upto) for upto in (5, 6)] == [1, 1]
    assert journal.append([a_request(70)]) == 7
    assert journal.count_requests(0, 7) == 4


def test_an_empty_journal_has_nothing_to_retire(journal):
    assert journal.retire(FOR_EVER, FOR_EVER) == 0
    assert journal.retired() == Retired()


@pytest.mark.parametrize(("body", "count"), [(b"x", 10_000), (b"x" * 256 * 1024, 40)], ids=["many", "large"])
def test_a_bounded_part_is_retired_at_a_time(journal, body, count):
    record = a_request(10, body=body)
    journal.append([record] * count)

    counts = retire_all(journal, count, 50)

    assert sum(counts) == count - 1
    assert max(counts) <= 2_000
    assert (max(counts) - 1) * len(record) <= 2 * 1024 * 1024
    assert journal.retired() == Retired(records=count - 1, requests=count - 1, position=count - 1)


def test_a_damaged_record_is_not_retired_and_is_said(journal):
    journal.append([a_request(10), b"damaged", a_request(10)])

    with pytest.raises(JournalUnable, match=r"Record 2 .* damaged"):
        retire_all(journal, 3, 50)
    assert positions(journal)[-2:] == [2, 3]
    assert len(positions(journal)) + journal.retired().records == 3


def test_what_retired_records_took_is_used_again_and_no_longer_counted(journal):
    empty = journal.used_bytes()
    for _ in range(2):
        last = journal.append([a_request(10, body=b"x" * 1_000)] * 2_000)
        journal.checkpoint()
        full = journal.used_bytes()
        assert full > empty + 2_000 * 1_000
        retire_all(journal, last, 50)
        journal.checkpoint()
        assert full - journal.used_bytes() > 1_900 * 1_000


def test_a_checkpoint_changes_nothing_that_is_read(place, journal):
    journal.append([b"one"])
    place.open().checkpoint()
    journal.append([b"two"])
    journal.checkpoint()

    assert [data for _, data in journal.read(0, 10)] == [b"one", b"two"]


def test_several_processes_append_at_once_and_nothing_is_lost_or_torn(place, journal):
    writers = {name: place.process(APPEND_SEVERAL, name, "60") for name in "abcd"}
    for process in writers.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {name: process.communicate(timeout=SECONDS_MAX)[0].splitlines() for name, process in writers.items()}
    rows = dict(journal.read(0, 100_000))

    assert [process.returncode for process in writers.values()] == [0] * 4
    assert list(rows) == list(range(1, len(rows) + 1))
    for name in writers:
        expected = [f"{name} {batch} {record}" for batch in range(60) for record in range(1 + batch % 200)]
        assert [data.decode() for data in rows.values() if data.decode()[0] == name] == expected
        # The position that an append gives is that of its own last record.
        assert [rows[int(line.split(" ", 1)[0])].decode() for line in said[name]] == [
            line.split(" ", 1)[1] for line in said[name]
        ]
    # The records of one append stand together.
    assert sum(1 for before, after in _neighbours(rows) if before != after) < 4 * 60


def _neighbours(rows):
    batches = [data.decode().rsplit(" ", 1)[0] for data in rows.values()]
    return pairwise(batches)


def test_every_position_that_was_given_is_there_after_kill_9(place):
    process = place.process(APPEND_FOR_EVER)
    lines = [process.stdout.readline() for _ in range(50)]
    process.kill()
    rest, _ = process.communicate(timeout=SECONDS_MAX)
    lines += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    rows = dict(place.open().read(0, 1_000_000, 1 << 30))

    for line in lines:
        position, batch = (int(part) for part in line.split())
        assert [rows[position - back] for back in range(3)] == [b"%d" % batch] * 3
    assert len(rows) % 3 == 0


def test_opened_by_several_processes_at_once_it_is_made_once(place):
    program = "import sys; sys.stdin.readline()\n" + OPEN + "print(journal.epoch, journal.append([b'one']))"
    processes = [place.process(program) for _ in range(6)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=SECONDS_MAX)[0].split() for process in processes]

    assert len({epoch for epoch, _ in said}) == 1
    assert sorted(int(position) for _, position in said) == [1, 2, 3, 4, 5, 6]


def test_a_journal_that_cannot_be_opened_says_so(place, tmp_path):
    place.path = tmp_path / "no" / "such" / "directory" / "journal.db"

    with pytest.raises(Exception, match="cannot be opened") as caught:
        place.open()
    assert type(caught.value).__name__ == "Unable"
    assert not Path(tmp_path / "no").exists()
