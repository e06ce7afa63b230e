"""Writes `docs/reasons.md`, `docs/statuses.md` and `docs/fates.md`; a test holds that they are as the tables are.

python tools/tables.py [DIRECTORY]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from landed.cli.printing import MOVES, span
from landed.cli.reasons import LISTS
from landed.domain.meanings import REASONS
from landed.domain.networks import country_name, network_of
from landed.domain.reasons import CODES, WORDS, Source
from landed.domain.worth import CHANNELS, PLACES, SEVERAL_SEGMENTS, UNKNOWN, WORTH
from landed.simulator.fates import CARDS, FATES, LAST_PART_REFUSED, REFUSED
from landed.simulator.faults import KINDS
from landed.simulator.networks import NETWORKS, PRICES

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


def main() -> None:
    """Write all of them."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, lines in (("reasons", reasons()), ("statuses", statuses()), ("fates", fates())):
        (directory / f"{name}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
