"""Writes the documents that are made from tables and types; a test holds that they are as those are.

python tools/tables.py [DIRECTORY]

`reasons.md`, `statuses.md`, `fates.md` and `events.schema.json` are made as a whole. Of `events.md` only what stands
between `<!-- made: NAME -->` and `<!-- end -->` is; the rest is written by people.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from textwrap import wrap

import msgspec

from landed.cli.printing import MOVES, span
from landed.cli.reasons import LISTS
from landed.domain.events import ONLY_BY_NAME, EventType, encode_event
from landed.domain.meanings import REASONS
from landed.domain.networks import country_name, network_of
from landed.domain.reasons import CODES, WORDS, Source
from landed.domain.samples import sample_of
from landed.domain.schema import MEANINGS, event_schema
from landed.domain.worth import CHANNELS, PLACES, SEVERAL_SEGMENTS, UNKNOWN, WORTH
from landed.settings import EventSettings
from landed.simulator.fates import CARDS, FATES, LAST_PART_REFUSED, REFUSED
from landed.simulator.faults import KINDS
from landed.simulator.networks import NETWORKS, PRICES
from landed.worker.lane import (
    ATTEMPTS_MAX,
    AWAY_SECONDS,
    FAILURES_TO_OPEN,
    OPEN_FIRST_SECONDS,
    OPEN_LAST_SECONDS,
    REFUSALS_TO_OPEN,
    SCHEDULE_SECONDS,
    SPREAD_SHARE,
)
from landed.worker.webhook import WAIT_SECONDS_MAX

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 120

KNOWS = {
    "vonage": "Vonage",
    "provider": "the carrier or provider",
    "device": "the device",
    "person": "the person",
    "nobody": "nobody",
}


def reasons() -> Iterator[str]:
    """Every reason, with its codes."""
    yield "# Reasons"
    yield ""
    yield "Why a message did not arrive, in one word for both APIs: `reason` in `--json`, and `landed reasons CODE` on"
    yield "the command line. Codes stand in four lists, and the same number may mean other things in each of them."
    yield ""
    columns = ("reason", "kind", "SMS API", "Messages API", "refused send", "again after", "whose move")
    yield f"| {' | '.join((*columns, 'what it means', 'what to do'))} |"
    yield "|---" * (len(columns) + 2) + "|"
    for slug, reason in REASONS.items():
        codes = {source: [code for code, means in table.items() if means == slug] for source, table in CODES.items()}
        words = [f"`{word}`" for (api, word), means in WORDS.items() if means == slug and api == "sms"]
        status_words = [f"`{word}`" for (api, word), means in WORDS.items() if means == slug and api == "messages"]
        sends = [f"{code} (SMS)" for code in codes[Source.SMS_SEND]]
        sends += [f"{code} (Messages)" for code in codes[Source.MESSAGES_SEND]]
        cells = [
            f"`{slug}`",
            reason.kind,
            ", ".join([*codes[Source.SMS], *words]),
            ", ".join([*codes[Source.MESSAGES], *status_words]),
            ", ".join(sends),
            span(reason.retry_seconds) if reason.retry_seconds else "",
            MOVES[reason.move],
            reason.meaning,
            reason.advice,
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "A word in the columns of codes is a status that means this where no code says more. The lists are:"
    yield "; ".join(LISTS.values()) + "."


def statuses() -> Iterator[str]:
    """What each status is worth."""
    yield "# What a status is worth"
    yield ""
    yield "How much a word of Vonage's tells, by channel. *Final*: nothing more is to be expected; *who knows*: up"
    yield "to where whoever says it can know. `landed show` says it of each message, and `final` and `knows` in the"
    yield "`--json` of a receipt. Of a word that is not here:"
    yield UNKNOWN.meaning
    for channel in CHANNELS:
        yield from ("", f"## {channel}", "", "| status | final | who knows | what it means |", "|---|---|---|---|")
        for (of, word), worth in WORTH.items():
            if of == channel:
                final = "yes" if worth.final else ""
                yield f"| `{word}` | {final} | {KNOWS[worth.knows]} | {worth.meaning} |"
    yield from ("", "## In some places", "", "| channel | status | country | what else is to be known |")
    yield "|---|---|---|---|"
    for (channel, word, country), remark in PLACES.items():
        yield f"| {channel} | `{word}` | {country} | {remark} |"
    yield from ("", SEVERAL_SEGMENTS)


def fates() -> Iterator[str]:
    """What the simulator has to choose from."""
    yield "# What the simulator has to choose from"
    yield ""
    yield "`landed simulate --list` prints the same. How each is used: [simulate.md](simulate.md)."
    yield from ("", "## Well-known numbers", "")
    yield "Of a range that is given to nobody. Each forces one fate, through both APIs and under every seed."
    yield from ("", "| to | fate | what becomes of the message |", "|---|---|---|")
    for number, fate in CARDS.items():
        yield f"| {number} | `{fate}` | {FATES[fate].what} |"
    yield from ("", "A send to one of these is refused:", "", "| to | status of the SMS API |", "|---|---|")
    for number, code in REFUSED.items():
        yield f"| {number} | {code} |"
    yield from ("", f"Of a long text through the SMS API to {LAST_PART_REFUSED}, all parts are taken but the last.")
    yield from ("", "## Fates", "")
    yield "Any number can be given one. A name that is a [reason](reasons.md) fails with its code."
    yield from ("", "| fate | what becomes of the message |", "|---|---|")
    yield from (f"| `{name}` | {fate.what} |" for name, fate in FATES.items())
    yield from ("", "## Faults", "", "Each takes `from`, `for` and `part`, too.", "")
    yield from ("| fault | what happens | option | usually |", "|---|---|---|---|")
    for kind, told in KINDS.items():
        yield f"| `{kind}` | {told.does} | {f'`{told.option}`' if told.option else ''} | {told.usual or ''} |"
    yield from ("", "## Networks", "")
    yield "Codes are real; how they behave is made up for tests, and says nothing of the operators. Latencies are"
    yield "medians, prices are EUR for a segment."
    yield from (
        "",
        "| network | country | operator | share of its numbers | latency | price |",
        "|---|---|---|---|---|---|",
    )
    for network in NETWORKS:
        country, price = country_name(network.country), PRICES[network.country]
        share, latency = f"{network.share:.0%}", f"{network.latency_seconds:g} s"
        yield f"| {network.code} | {country} | {network_of(network.code).name} | {share} | {latency} | {price} |"


# What is made of `events.md`.

AT = datetime(2026, 8, 1, 12, tzinfo=UTC)
# One of each kind; of the many of messages the one that has most to say.
SHOWN = (EventType.FAILED, EventType.INBOUND, EventType.QUARANTINE)
LIMITS = (
    "connect_seconds_max",
    "first_byte_seconds_max",
    "whole_seconds_max",
    "answer_bytes_max",
    "concurrency",
    "days",
)


def types() -> Iterator[str]:
    """Every type of event, and when it is said."""
    yield from ("| type | when it is said |", "|---|---|")
    for event in EventType:
        by_name = " Told only to who names it." if event in ONLY_BY_NAME else ""
        yield f"| `{event}` | {MEANINGS[event]}{by_name} |"


def examples() -> Iterator[str]:
    """One event of each kind, as it is sent, but for the line breaks."""
    for event in SHOWN:
        told = msgspec.json.format(encode_event(sample_of(event, AT)), indent=2).decode()
        yield from (f"### `{event}`", "", "```json", *told.splitlines(), "```", "")


def schedule() -> Iterator[str]:
    """When an event is tried, and when a receiver is left alone."""
    yield from ("| attempt | after the one before | after the first |", "|---|---|---|")
    for number, (wait, since) in enumerate(zip(SCHEDULE_SECONDS, accumulate(SCHEDULE_SECONDS), strict=True), start=1):
        yield f"| {number} | {span(wait) if wait else 'at once'} | {span(since) if since else ''} |"
    yield from paragraph(
        f"Each wait is longer by up to {SPREAD_SHARE:.0%}, so that what failed together does not come back together. "
        f"After attempt {ATTEMPTS_MAX} the event is dead: it is kept, and told again only when a person asks for it."
    )
    yield from paragraph(
        f"After {FAILURES_TO_OPEN} failures on end you are left alone but for a probe, in turn an event that waits and "
        f"a new one: after {span(OPEN_FIRST_SECONDS)}, then after twice as long each time, up to "
        f"{span(OPEN_LAST_SECONDS)}. When one arrives, or any event does after failures for more than "
        f"{span(AWAY_SECONDS)}, all that failed meanwhile is told, oldest first, and then what is new. A try before an "
        "event's time counts as no attempt, so that nothing dies sooner for that. Who answers "
        "with an error such as 400 or 500 is there, and the event may be to blame: only "
        f"{REFUSALS_TO_OPEN} such answers on end, each to an event that was not tried before, do the same."
    )
    yield from paragraph(
        f"`Retry-After`, in seconds or as a date, is obeyed up to {span(WAIT_SECONDS_MAX)}: nothing at all is told to "
        "you before."
    )


def paragraph(text: str) -> Iterator[str]:
    """A paragraph of its own, in lines of the usual length."""
    yield from ("", *wrap(text, WIDTH))


def limits() -> Iterator[str]:
    """What holds of one attempt, and how it is set."""
    yield from ("| `[events]` in `landed.toml` | default | meaning |", "|---|---|---|")
    for name in LIMITS:
        field = EventSettings.model_fields[name]
        yield f"| `{name}` | `{field.default}` | {field.description} |"


MADE: Mapping[str, Callable[[], Iterator[str]]] = {
    "types": types,
    "examples": examples,
    "schedule": schedule,
    "limits": limits,
}


def events() -> Iterator[str]:
    """The document about events, with what is made in its places."""
    text = (DOCS / "events.md").read_text()
    made = re.sub(
        r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)",
        lambda place: f"{place[1]}\n{chr(10).join(MADE[place[2]]()).strip()}\n\n{place[3]}",
        text,
        flags=re.DOTALL,
    )
    yield from made.splitlines()


def schema() -> Iterator[str]:
    """The JSON Schema of all events."""
    yield json.dumps(event_schema(), indent=2, ensure_ascii=False)


DOCUMENTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "reasons.md": reasons,
    "statuses.md": statuses,
    "fates.md": fates,
    "events.md": events,
    "events.schema.json": schema,
}


def main() -> None:
    """Write all of them."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
    for name, lines in DOCUMENTS.items():
        (directory / name).write_text("\n".join(lines()) + "\n")


if __name__ == "__main__":
    main()
