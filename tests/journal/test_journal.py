"""What every journal does. A new journal is one more row of JOURNALS."""

import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from landed.journal import BYTES_A_READ_MAX, Journal
from landed.journal.record import RequestRecord, TickRecord, encode

JOURNALS = {"sqlite": "landed.journal.sqlite:SqliteJournal"}
SECONDS_MAX = 30

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
    request = RequestRecord(
        id=b"0" * 16,
        at_us=1,
        received_us=1,
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
        body=b"request",
    )
    tick = TickRecord(id=b"request".ljust(16), at_us=1)
    journal.append([encode(each) for each in (request, tick, request, tick, request)])

    assert journal.count_requests(0, 5) == 3
    assert journal.count_requests(1, 4) == 1
    assert journal.count_requests(5, 9) == 0


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
    assert type(caught.value).__name__ == "SurroundingsError"
    assert not Path(tmp_path / "no").exists()
