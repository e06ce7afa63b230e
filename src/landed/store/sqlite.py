"""The embedded store: one SQLite file. SQL is in `queries.sql`, by name; its shape in `migrations`.

Statements take many rows at once: beside a busy thread, row-by-row execution lets go of Python's
lock at each row and falls to a hundredth of its rate (measured). Those with much to do are such that SQLite need not
be able to take back half of one, for which it would copy each page before it changes: they roll back all, give no
row's number where they insert, and do not insert what is there. Messages are looked up by a 64-bit
hash within *generations* of 2^16 messages, newest first, so that the random keys of new messages
touch a few hundred pages of the index however much is stored. What sixteen generations, an *era*, may have
is known by their sieve, which is in memory, so that a new message is hardly ever looked for at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import chain, groupby, starmap
from pathlib import Path

import apsw
import msgspec
import structlog

from landed.domain.brief import KINDS_REMEMBERED_MAX, Kind
from landed.domain.lifecycle import Group, Message, group_of, message_of
from landed.domain.moments import microseconds, moment
from landed.domain.receipt import Outcome
from landed.domain.rollups import CELL_FIELDS, HOURS_A_DAY, Cell, Summary, cells_version, counted, days_of
from landed.domain.sending import Sending
from landed.errors import FoldStopped, StoreUnable, Unable
from landed.journal import Retired
from landed.sqlite import is_unable, open_file, open_to_read, writing
from landed.store import Changes, Filter, First, Kept, KeptInbound, Known, MessageKey, Period, Progress, Sealed, Tally
from landed.store.firsts import event_values, message_values, receipt_values
from landed.store.rows import (
    EVENT_COLUMNS,
    GENERATION_BITS,
    INBOUND_COLUMNS,
    MESSAGE_COLUMNS,
    NO_KIND,
    NO_KIND_ROW,
    RECEIPT_COLUMNS,
    SENDING_COLUMNS,
    Row,
    Value,
    event_row,
    hash_of,
    inbound_of_row,
    inbound_row,
    kept_of_row,
    key_of,
    kind_row,
    message_of_row,
    message_row,
    numbered_row,
    receipt_row,
    sending_of_row,
    sending_row,
    unreadable_row,
)
from landed.store.sieve import Sieve, Sought

log = structlog.get_logger("landed.store")

FILE = "store.db"
APPLICATION_ID = 0x6C6E6473
ERA_BITS = 4
ROWS_A_STATEMENT = 256
# Bigger than SQLite's own 1,000, since each batch touches many pages; bounded, since it stalls.
WAL_PAGES_MAX = 4_096
# Room for the part of the index that new messages fall into, a generation of random keys.
CACHE_KIB = 64 * 1024
VIEWS = ("message", "receipt", "inbound", "unreadable", "sending", "fold", "era_filter", "rollup", "rollup_made")

# What is known by retired records alone: each receipt that they were the first to tell, and its message.
CARRY = (
    "INSERT INTO main.receipt SELECT * FROM older.receipt WHERE first_position <= :through",
    "INSERT INTO main.message SELECT * FROM older.message WHERE id IN (SELECT message FROM main.receipt)",
    "INSERT INTO main.inbound SELECT * FROM older.inbound WHERE first_position <= :through",
    "INSERT INTO main.unreadable SELECT * FROM older.unreadable WHERE position <= :through",
    "INSERT INTO main.sending SELECT * FROM older.sending WHERE position <= :through",
)
CARRIED = (
    "SELECT (SELECT count(*) FROM main.message), (SELECT count(*) FROM main.unreadable), (SELECT count(*) FROM ("
    "SELECT first_position FROM main.receipt WHERE source = 'webhook' UNION SELECT first_position FROM main.inbound))"
)
STRADDLING = (
    "SELECT account, message_id FROM main.message "
    "WHERE id IN (SELECT message FROM older.receipt WHERE first_position > :through)"
)
MESSAGES_A_TIME = 1_000

ALWAYS_US = -(2**63)
NEVER_US = 2**63 - 1

ROLLUP_COLUMNS = ", ".join(("span", *CELL_FIELDS, "count"))
HOURS, DAYS = 1, HOURS_A_DAY
# A campaign has one reference for all its messages: to sort so many would take longer than to look at the newest.
FEW_MAX = 10_000
# How messages are listed: by when they were seen, or by what few of them have.
_WITHIN = "generation IN (SELECT value FROM json_each(:generations))"
SOUGHT: Mapping[str, tuple[str, str]] = {
    "seen": ("", ""),
    "recipient": (
        "INDEXED BY message_by_recipient",
        f"{_WITHIN} AND recipient IN (:recipient, '+' || :recipient, '00' || :recipient) AND",
    ),
    "client_ref": ("INDEXED BY message_by_client_ref", f"{_WITHIN} AND client_ref = :client_ref AND"),
}
# By what a report may be summed, and the columns that tell it.
DIMENSIONS: Mapping[str, str] = {
    "network": "network",
    "country": "network, country",
    "channel": "channel",
    "sender": "sender",
    "reason": "reason",
    "hour": "hour",
    "account": "account",
}


@contextmanager
def transaction(db: apsw.Connection, path: Path) -> Iterator[None]:
    """All that is done within is written to the store at that path, or nothing. StoreUnable: nothing."""
    try:
        with writing(db):
            yield
    except apsw.Error as error:
        if is_unable(error):
            raise StoreUnable(f"The store {path} cannot be written now: {error}.") from error
        raise


class SqliteStore:
    """The writing side: for the fold alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # NORMAL is enough for views: after a power cut the fold goes on from the position it finds.
        self._db = open_file(path, application_id=APPLICATION_ID, migrations=migrations(), synchronous="normal")
        self._db.wal_autocheckpoint(WAL_PAGES_MAX)
        self._db.pragma("cache_size", -CACHE_KIB)
        self._sql = queries()
        self._db.execute(self._sql["make_kinds"])
        self._kinds: dict[Kind, int] = {}
        self._sieves: dict[int, Sieve] = {}
        self._sieves_kept: set[int] = set()
        self._count_again_if_counted_otherwise()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done within is written at once or not at all. StoreUnable: not at all."""
        try:
            with transaction(self._db, self.path):
                yield
        except BaseException:
            # The kinds that were noted in it are taken back with it.
            self._kinds.clear()
            raise

    def progress(self, epoch: str) -> Progress:
        """How far this journal has been folded; FoldStopped when the store belongs to another one."""
        with self.transaction():
            self._db.execute(self._sql["begin_progress"], {"epoch": epoch})
            progress = _progress(self._db)
        if progress is None or progress.epoch != epoch:
            raise FoldStopped(
                f"{self.path} was made from another journal than the one beside it: "
                "put back the journal it belongs to, or run `landed rebuild` to make it from this one."
            )
        return progress

    def may_know(self, hashes: Collection[int]) -> set[int]:
        """Of what messages are looked up by, that of which one may be known; the rest is certainly new."""
        newest = self._newest_message() >> (GENERATION_BITS + ERA_BITS)
        sought = Sought(hashes, 1 << (GENERATION_BITS + ERA_BITS))
        return {key for era in range(newest + 1) for key in self._sieve(era, newest).passing(sought)}

    def load(self, several: Collection[MessageKey]) -> dict[MessageKey, Known]:
        """What is known of these messages, facts and all."""
        keys = set(several)
        known: dict[MessageKey, Known] = {}
        by_row: dict[int, MessageKey] = {}
        newest = self._newest_message() >> GENERATION_BITS
        sought = Sought({hash_of(message_id) for _, message_id in keys}, 1 << (GENERATION_BITS + ERA_BITS))
        for era in range(newest >> ERA_BITS, -1, -1):
            possible = self._sieve(era, newest >> ERA_BITS).passing(sought)
            for generations in _stretches(era, newest) if possible else ():
                wanted = {"generations": _array(generations), "keys": _array(possible)}
                found = 0
                for row in self._db.execute(self._sql["messages_by_key"], wanted):
                    key = (row[3], row[4])
                    if key in keys:
                        by_row[row[0]] = key
                        known[key] = Known(row=row[0], facts={})
                        found += 1
                if found:
                    possible = list(
                        {hash_of(message_id) for _, message_id in keys - known.keys()}.intersection(possible)
                    )
                if not possible:
                    break
        query = self._sql["receipts_by_message"]
        for row in self._db.execute(query, {"messages": _array(by_row)}):
            key = by_row[row[1]]
            kept = kept_of_row(row, key[1])
            known[key].facts[kept.fact.key] = kept
        return known

    def load_inbound(self, keys: Collection[bytes]) -> dict[bytes, KeptInbound]:
        """The inbound messages with these keys that are kept."""
        wanted = msgspec.json.encode([key.hex() for key in keys]).decode()
        rows = self._db.execute(self._sql["inbound_by_key"], {"keys": wanted})
        return {row[0]: inbound_of_row(row) for row in rows}

    def load_sendings(self, ids: Collection[bytes]) -> dict[bytes, Sending]:
        """What is known of these sends."""
        wanted = {"ids": msgspec.json.encode([each.hex() for each in ids]).decode()}
        return {row[0]: sending_of_row(row) for row in self._db.execute(self._sql["sendings_by_id"], wanted)}

    def said(self, events: Collection[bytes]) -> set[bytes]:
        """Which of the events with these ids have been said."""
        oldest, newest = self._db.execute(self._sql["events_kept"]).get
        keys = {key_of(event): event for event in events}
        generations = range(newest >> GENERATION_BITS, (oldest >> GENERATION_BITS) - 1, -1)
        wanted = {"generations": _array(generations), "keys": _array(keys)}
        return {keys[key] for (key,) in self._db.execute(self._sql["events_said"], wanted)}

    def wants_accepted(self) -> bool:
        """Whether anybody asks for `message.accepted`, which is said to nobody else."""
        return bool(self._db.execute(self._sql["wants_accepted"]).get)

    def next_rows(self) -> tuple[int, int]:
        """The rows that the next new message and the next new receipt take."""
        message, receipt = self._db.execute(self._sql["newest"]).get
        return message + 1, receipt + 1

    def save(self, changes: Changes, *, epoch: str, before: int, position: int, at: datetime) -> Progress:
        """Write the changes and move the position from `before`; FoldStopped when it is not there."""
        self._save_messages(changes.firsts, changes.messages)
        self._insert_values("add_receipts", receipt_values(changes.firsts))
        self._insert("save_receipts", starmap(receipt_row, changes.facts))
        self._insert("save_inbound", map(inbound_row, changes.inbound))
        self._insert("save_unreadable", starmap(unreadable_row, changes.unreadable))
        self._insert("save_sendings", map(sending_row, changes.sendings))
        self._save_events(changes, at)
        self._save_cells(changes.cells)
        moved = {"epoch": epoch, "before": before, "position": position, "at_us": microseconds(at)}
        row = self._db.execute(self._sql["move_progress"], moved | msgspec.structs.asdict(changes.tally)).get
        if row is None:
            raise FoldStopped(f"Another process moved the fold of {self.path}: let only one worker run on it.")
        return _progress_of(row)

    def settle(self) -> bool:
        """Make all that was written so durable that no power cut takes it back; whether that is certain."""
        try:
            written, moved = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            if is_unable(error):
                return False
            raise
        # All of the log is in the file, which was synced behind it; a reader may have kept some of it back.
        return bool(written == moved)

    def carry(self, older: Path, epoch: str, retired: Retired) -> Sealed:
        """Begin a new store with what an older one of this journal knows by records that are retired."""
        self._db.execute("ATTACH ? AS older", (str(older),))
        try:
            with self.transaction():
                upto = self._db.execute("SELECT position FROM older.fold WHERE epoch = ?", (epoch,)).get or 0
                return self._carried(epoch, retired, upto)
        finally:
            self._db.execute("DETACH older")

    def _carried(self, epoch: str, retired: Retired, upto: int) -> Sealed:
        through = {"through": retired.position}
        for sql in CARRY if upto else ():
            self._db.execute(sql, through)
        straddling: list[MessageKey] = list(self._db.execute(STRADDLING, through))
        for start in range(0, len(straddling), MESSAGES_A_TIME):
            self._join_again(straddling[start : start + MESSAGES_A_TIME])
        self._count_again()
        messages, unreadable, folded = self._db.execute(CARRIED).get
        # A store that is older than what was retired cannot tell of the rest whether it was duplicate: that is lost.
        received = retired.requests if upto >= retired.position else folded + unreadable
        duplicate = received - folded - unreadable
        self._db.execute(
            "INSERT INTO fold VALUES (1, ?, ?, 0, ?, ?, ?, ?)",
            (epoch, retired.position, received, folded, duplicate, unreadable),
        )
        return Sealed(through=retired.position, upto=upto, messages=messages)

    def _save_messages(self, firsts: Sequence[First], messages: Sequence[tuple[int, Message]]) -> None:
        newest = self._newest_message()
        numbers = self._numbers({first.kind for first in firsts})
        others = sorted((row, message.message_id) for row, message in messages if row > newest)
        values: list[Value] = []
        taken = 0
        for before, (row, message_id) in enumerate(others):
            upto = row - newest - 1 - before
            values += message_values(firsts[taken:upto], numbers)
            values += numbered_row(row, message_id)
            taken = upto
        values += message_values(firsts[taken:], numbers)
        self._insert_values("add_messages", values)
        rows = [(first.message_row, first.hash) for first in firsts]
        rows += [(row, hash_of(message_id)) for row, message_id in others]
        self._refuse_other_numbers("message", newest, sorted(row for row, _ in rows))
        self._insert("change_messages", starmap(message_row, messages))
        self._sift(rows)

    def _save_events(self, changes: Changes, at: datetime) -> None:
        newest: int = self._db.execute(self._sql["newest_event"]).get
        at_us, width = microseconds(at), _width("add_events")
        values = event_values(changes.firsts, newest + 1, at_us, changes.called_at_first)
        for seq, said in enumerate(changes.events, newest + 1 + len(values) // width):
            values += event_row(seq, at_us, said)
        self._insert_values("add_events", values)
        self._refuse_other_numbers("event", newest, range(newest + 1, newest + 1 + len(values) // width))

    def _save_cells(self, cells: Counter[Cell]) -> None:
        """Count messages in the cells of their hours and days; one with none left is no cell."""
        for span, several in ((HOURS, cells), (DAYS, days_of(cells))):
            self._insert("save_rollup", ((span, *cell, count) for cell, count in several.items() if count))
        if any(count < 0 for count in cells.values()):
            self._db.execute(self._sql["clean_rollup"])

    def _count_again_if_counted_otherwise(self) -> None:
        """Count all messages again where an older landed told cells apart otherwise, or did not count."""
        if self._db.execute(self._sql["rollup_version"]).get == cells_version():
            return
        if messages := self._newest_message():
            log.info("messages.counted_again", messages=messages, reason="cells of the rollup are told apart anew")
        with self.transaction():
            self._count_again()

    def _count_again(self) -> None:
        for name in ("begin_rollup", "forget_rollup_version"):
            self._db.execute(self._sql[name])
        self._db.execute(self._sql["save_rollup_version"], {"version": cells_version()})
        self._save_cells(counted(map(message_of_row, self._db.execute(self._sql["all_messages"]))))

    def _join_again(self, keys: Collection[MessageKey]) -> None:
        """Make messages what their receipts here say."""
        rows = [
            message_row(known.row, message_of(account, [kept.fact for kept in known.facts.values()]))
            for (account, _), known in self.load(keys).items()
        ]
        self._insert("change_messages", rows)

    def replace_views(self, built: Path) -> None:
        """Put the views of another store in the place of this one's, in one transaction."""
        self._db.execute("ATTACH ? AS built", (str(built),))
        try:
            with self.transaction():
                for table in VIEWS:
                    self._db.execute(f"DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM built.{table}")  # noqa: S608 - our names
        finally:
            self._db.execute("DETACH built")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _newest_message(self) -> int:
        newest: int = self._db.execute(self._sql["newest"]).get[0]
        return newest

    def _sieve(self, era: int, newest: int) -> Sieve:
        """The sieve of an era; that of one that is full is kept, since it will not change any more."""
        sieve = self._sieves.get(era)
        if sieve is None:
            bits = self._db.execute(self._sql["filter"], {"era": era}).get
            sieve = self._sieves[era] = Sieve(1 << (GENERATION_BITS + ERA_BITS), bits)
            if bits is None:
                first = era << ERA_BITS
                generations = {"first": first, "behind": first + (1 << ERA_BITS)}
                sieve.add([key for (key,) in self._db.execute(self._sql["keys_of_era"], generations)])
            else:
                self._sieves_kept.add(era)
        if era < newest and era not in self._sieves_kept:
            self._db.execute(self._sql["save_filter"], {"era": era, "bits": sieve.to_bytes()})
            self._sieves_kept.add(era)
        return sieve

    def _sift(self, messages: Iterable[tuple[int, int]]) -> None:
        """Let new messages pass; if they are not written after all, they will be looked for in vain."""
        for era, several in groupby(messages, lambda message: message[0] >> (GENERATION_BITS + ERA_BITS)):
            if era in self._sieves:
                self._sieves[era].add([key for _, key in several])

    def _numbers(self, kinds: Collection[Kind]) -> Mapping[Kind, int]:
        """By which numbers the statement that adds messages finds what those with one receipt of a kind say."""
        if len(self._kinds) > KINDS_REMEMBERED_MAX:
            self._kinds.clear()
        if not self._kinds:
            self._db.execute(self._sql["forget_kinds"])
            self._insert("add_kinds", [NO_KIND_ROW])
        for kind in kinds:
            if kind not in self._kinds:
                number = self._kinds[kind] = NO_KIND + 1 + len(self._kinds)
                self._insert("add_kinds", [kind_row(number, kind)])
        return self._kinds

    def _refuse_other_numbers(self, table: str, before: int, expected: Sequence[int]) -> None:
        """Rows are referred to by the numbers that SQLite was expected to give them, each the next one."""
        given: int = self._db.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").get  # noqa: S608 - our names
        if list(expected) != list(range(before + 1, given + 1)):
            raise FoldStopped(f"Rows in {self.path} were numbered otherwise than expected: run `landed rebuild`.")

    def _insert(self, name: str, rows: Iterable[Row]) -> None:
        self._insert_values(name, list(chain.from_iterable(rows)))

    def _insert_values(self, name: str, values: Sequence[object]) -> None:
        """Write many rows, whose values are one behind the other."""
        step = ROWS_A_STATEMENT * _width(name)
        for start in range(0, len(values), step):
            some = values[start : start + step]
            self._db.execute(_many_rows(name, len(some)), some)


class SqliteReader:
    """The reading side: any process, any number of them. Reads are short and never held open."""

    def __init__(self, path: Path) -> None:
        self._db = open_to_read(path, application_id=APPLICATION_ID, migrations=migrations())
        self._sql = queries()

    def progress(self) -> Progress | None:
        """How far the journal has been folded; None before the first fold."""
        return _progress(self._db)

    def outcomes(self) -> dict[Outcome, int]:
        """How many messages there are of each outcome."""
        return {Outcome(outcome): count for outcome, count in self._db.execute(self._sql["outcomes"], {"span": DAYS})}

    def messages(self, wanted: Filter, *, limit: int, after: str | None = None) -> list[Message]:
        """Messages newest first, at most `limit`, from behind the message with the id `after`."""
        cursor = (NEVER_US, NEVER_US)
        if after is not None:
            rows = self._rows_by_id(after)
            if not rows:
                return []
            cursor = (rows[0][18], rows[0][0])
        values = {
            "since": ALWAYS_US if wanted.since is None else microseconds(wanted.since),
            "until": NEVER_US if wanted.until is None else microseconds(wanted.until),
            "before_us": cursor[0],
            "before_id": cursor[1],
            "limit": limit,
            "recipient": wanted.to,
        }
        same = {name: getattr(wanted, name) for name in ("outcome", "status", "channel", "network", "client_ref")}
        values |= same | {"generations": _array(self._generations()), "enough": FEW_MAX + 1}
        query = self._how(self._sql["list_messages"], self._quickest(wanted, values))
        return [message_of_row(row) for row in self._db.execute(query, values)]

    def _quickest(self, wanted: Filter, values: Mapping[str, object]) -> str:
        """How to list: by what few messages have, or else by when they were seen, where such as many have come soon."""
        for how, value in (("recipient", wanted.to), ("client_ref", wanted.client_ref)):
            if value and self._db.execute(self._how(self._sql["how_many"], how), values).get <= FEW_MAX:
                return how
        return "seen"

    def _how(self, query: str, how: str) -> str:
        by, sought = SOUGHT[how]
        return query.replace("{by}", by).replace("{sought}", sought)

    def find(self, reference: str, *, limit: int) -> list[Message]:
        """Messages with that id, or else with that client reference, newest first."""
        rows = self._rows_by_id(reference)
        for generation in self._generations() if not rows else ():
            values = {"generation": generation, "client_ref": reference, "limit": limit - len(rows)}
            rows += self._db.execute(self._sql["messages_by_client_ref"], values)
        return [message_of_row(row) for row in rows[:limit]]

    def facts(self, message: Message) -> list[Kept]:
        """Everything said of one message, in no order."""
        rows = [row for row in self._rows_by_id(message.message_id) if row[3] == message.account]
        query = self._sql["receipts_by_message"]
        kept = self._db.execute(query, {"messages": _array(row[0] for row in rows)})
        return [kept_of_row(row, message.message_id) for row in kept]

    def group(self, message: Message) -> Group | None:
        """The long text that a message is a part of, with all parts that are known; None where it is none."""
        if message.part is None:
            return None
        values = {"generations": _array(self._generations()), "group": message.part.group, "account": message.account}
        return group_of(map(message_of_row, self._db.execute(self._sql["messages_by_group"], values)))

    def sendings(self, batch: str) -> list[Sending]:
        """All sends of a list that landed sent."""
        return [sending_of_row(row) for row in self._db.execute(self._sql["sendings_by_batch"], {"batch": batch})]

    def sendings_of(self, client_ref: str) -> list[Sending]:
        """The sends with that client reference that landed made."""
        values = {"client_ref": client_ref}
        return [sending_of_row(row) for row in self._db.execute(self._sql["sendings_by_client_ref"], values)]

    def first_hour(self) -> int | None:
        """The first hour in which a message was seen; None before there is any. Unable while they are counted first."""
        if self._db.execute(self._sql["rollup_version"]).get is None:
            raise Unable("The messages are not counted yet: start the worker, or ask again in a minute.")
        first: int | None = self._db.execute(self._sql["first_hour"], {"span": HOURS}).get
        return first

    def summaries(self, by: str, wanted: Period) -> dict[tuple[str, ...], Summary]:
        """The rollup of a period, summed by a dimension: its value to what the messages of it come to.

        `by` is one of DIMENSIONS. The key of `country` has the network's code, and the country where that tells none.
        """
        query = self._sql["rollup"].replace("{of}", DIMENSIONS[by])
        same = {name: getattr(wanted, name) for name in ("account", "channel", "network")}
        width = DIMENSIONS[by].count(",") + 1
        summaries: dict[tuple[str, ...], Summary] = {}
        # One snapshot: a message may leave an hour's cell for a day's while both are read.
        with self._db:
            for span, since, until in wanted.stretches(by):
                for row in self._db.execute(query, same | {"span": span, "since": since, "until": until}):
                    summaries.setdefault(row[:width], Summary()).add(*row[width:])
        return summaries

    def receipts_after(self, row: int, limit: int) -> list[tuple[Kept, Message]]:
        """Receipts in the order in which they were folded, with their messages as they stand."""
        # One snapshot: a rebuild between the two reads would give the rows another meaning.
        with self._db:
            receipts: list[Row] = list(self._db.execute(self._sql["receipts_after"], {"after": row, "limit": limit}))
            wanted = {"messages": _array({receipt[1] for receipt in receipts})}
            messages = {
                each[0]: message_of_row(each) for each in self._db.execute(self._sql["messages_by_row"], wanted)
            }
        return [(kept_of_row(receipt, messages[receipt[1]].message_id), messages[receipt[1]]) for receipt in receipts]

    def newest_receipt(self) -> int:
        """The row of the newest receipt; 0 before the first."""
        newest: int = self._db.execute(self._sql["newest"]).get[1]
        return newest

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _generations(self) -> Iterable[int]:
        newest: int = self._db.execute(self._sql["newest"]).get[0]
        return range(newest >> GENERATION_BITS, -1, -1)

    def _rows_by_id(self, message_id: str) -> list[Row]:
        generations = _array(self._generations())
        values = {"generations": generations, "key": hash_of(message_id), "message_id": message_id}
        return list(self._db.execute(self._sql["messages_by_id"], values))


@cache
def migrations() -> tuple[str, ...]:
    """The SQL that makes and brings forward a store, in order."""
    texts = sorted((files("landed.store") / "migrations").iterdir(), key=lambda file: file.name)
    return tuple(file.read_text() for file in texts if file.name.endswith(".sql"))


@cache
def queries(file: str = "queries.sql") -> Mapping[str, str]:
    """The statements of a file of SQL, by name."""
    text = (files("landed.store") / file).read_text()
    columns = {
        "{message_columns}": MESSAGE_COLUMNS,
        "{receipt_columns}": RECEIPT_COLUMNS,
        "{inbound_columns}": INBOUND_COLUMNS,
        "{sending_columns}": SENDING_COLUMNS,
        "{rollup_columns}": ROLLUP_COLUMNS,
        "{event_columns}": EVENT_COLUMNS,
    }
    for mark, names in columns.items():
        text = text.replace(mark, names)
    statements = {}
    for part in text.split("-- name: ")[1:]:
        name, _, sql = part.partition("\n")
        statements[name.strip()] = sql.strip().removesuffix(";")
    return statements


@cache
def _width(name: str) -> int:
    """How many values a row has."""
    return queries()[name].partition("VALUES {rows}")[0].count(",") + 1


@cache
def _many_rows(name: str, values: int) -> str:
    width = _width(name)
    row = "(" + ",".join("?" * width) + ")"
    return queries()[name].replace("{rows}", ",".join([row] * (values // width)))


def _progress(db: apsw.Connection) -> Progress | None:
    row = db.execute(queries()["progress"]).get
    return None if row is None else _progress_of(row)


def _progress_of(row: Row) -> Progress:
    epoch, position, at_us, received, folded, duplicate, unreadable = row
    tally = Tally(received=received, folded=folded, duplicate=duplicate, unreadable=unreadable)
    return Progress(epoch=epoch, position=position, at=moment(at_us) if at_us else None, tally=tally)


def _stretches(era: int, newest: int) -> Iterator[Sequence[int]]:
    """The generations of an era, as they are looked into together: first the two newest of all, then the rest."""
    first, behind = era << ERA_BITS, min((era + 1) << ERA_BITS, newest + 1)
    # Most messages that are known are of the last minutes.
    between = max(first, newest - 1) if behind > newest else behind
    yield range(between, behind)
    yield range(first, between)


def _array(values: Iterable[int]) -> str:
    return "[" + ",".join(map(str, values)) + "]"
