"""The story of one message in plain words: what `show` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import typer

from landed.cli.printing import (
    MOVES,
    OUTCOME_STYLES,
    Look,
    clock,
    duration,
    encode_line,
    named_lines,
    span,
    width_of,
    wrapped,
)
from landed.domain.lifecycle import RANKS, Fact, Group, Message, in_order
from landed.domain.meanings import REASONS
from landed.domain.moments import moment
from landed.domain.networks import calling_code, country_name, country_of, network_of
from landed.domain.numbers import phone_number
from landed.domain.reasons import reason_for, reason_of, says_something
from landed.domain.receipt import Receipt
from landed.domain.sending import Sending, SendState
from landed.domain.views import MessageView, ReceiptView
from landed.domain.worth import remarks_on, worth_of
from landed.errors import SurroundingsError
from landed.journal.record import RequestRecord, decode
from landed.journal.sqlite import FILE as JOURNAL_FILE
from landed.journal.sqlite import SqliteJournal
from landed.store import Kept
from landed.store.sqlite import SqliteReader

SECOND_MS = 1_000
APIS = {"messages": "Messages API", "sms": "SMS API"}

CONFLICT = (
    "Vonage said of this message both that it arrived and that it failed. Delivered stands, since to act twice costs "
    "more than not to act; look below at who said what, and when."
)


# A code beside a status that is not final, such as 1220 beside `submitted`.
# https://developer.vonage.com/en/api/messages
STILL_TRYING = "Wait: Vonage or the carrier goes on trying by itself, so another send could arrive twice."


def print_json(message: Message, reader: SqliteReader, directory: Path, *, raw: bool) -> None:
    """A message with all that was said of it, as one line for programs."""
    kept = reader.facts(message)
    story: dict[str, object] = msgspec.to_builtins(MessageView.of(message))
    group = reader.group(message)
    if group is not None:
        story |= {"group": _group_as_json(group)}
    if raw:
        story |= {"requests": [request for _, request in _requests(kept, reader, directory)]}
    history = [msgspec.to_builtins(ReceiptView.of_fact(fact)) for fact in in_order(each.fact for each in kept)]
    typer.echo(encode_line(story | {"history": history}))


def _group_as_json(group: Group) -> dict[str, object]:
    parts = [
        {"part": each.part and each.part.number, "message_id": each.message_id, "outcome": each.outcome}
        for each in group.parts
    ]
    return {
        "group": group.group,
        "of": group.of,
        "outcome": group.outcome,
        "conflict": group.conflict,
        "price": group.price,
        "currency": group.currency,
        "parts": parts,
    }


# What became of a send of which there is no message.
SENDINGS: Mapping[SendState, str] = {
    SendState.BEGUN: "What became of it is not known: the process that sent it ended before an answer came.",
    SendState.UNCLEAR: "What became of it is not known",
    SendState.SENT: "Vonage took it",
    SendState.REFUSED: "Vonage did not take it",
}


def print_sending(sending: Sending, *, json: bool, show_numbers: bool) -> None:
    """A send of landed's own that no message came of."""
    if json:
        told = msgspec.to_builtins(sending) | {"id": sending.id.hex(), "state": sending.state.name.lower()}
        typer.echo(encode_line({name: value for name, value in told.items() if name != "position"}))
        return
    look = Look(sys.stdout, show_numbers=show_numbers)
    detail = f": {sending.detail.rstrip('.')}." if sending.detail else ""
    rows = {
        "what it is": f"a send that landed was asked for, begun {sending.at:%Y-%m-%d %H:%M:%S}",
        "outcome": f"{SENDINGS[sending.state]}{look.clean(detail)}",
        "to": look.number(sending.to),
        "from": look.number(sending.sender),
        "by": f"{sending.channel}, {APIS.get(sending.api, sending.api)}, account {sending.account}",
    }
    if sending.reason in REASONS:
        rows["what to do"] = f"{REASONS[sending.reason].advice} ({sending.reason})"
    elif sending.state in (SendState.BEGUN, SendState.UNCLEAR):
        rows["what to do"] = "Wait for receipts that name it; another send might arrive twice."
    typer.echo(look.clean(sending.client_ref))
    for line in named_lines(rows, look):
        typer.echo(line)


def print_requests(message: Message, reader: SqliteReader, directory: Path) -> None:
    """The requests that told of a message, as they came."""
    look = Look(sys.stdout, show_numbers=True)
    typer.echo(look.paint(look.clean(message.message_id), "bold"))
    kept = reader.facts(message)
    copies = {each.position: each.fact.copies for each in kept}
    for position, request in _requests(kept, reader, directory):
        again = f", the copy that stands of {copies[position]}" if copies[position] > 1 else ""
        typer.echo(look.paint(f"record {position}{again}", "dim"))
        for line in _lines_of(request):
            typer.echo(f"  {look.clean(line)}")
    typer.echo("")


def _lines_of(request: dict[str, object]) -> list[str]:
    if "method" not in request:
        return [f"{name}: {value}" for name, value in request.items()]
    headers = request["headers"]
    lines = [f"{request['method']} {request['target']}"]
    lines += [f"{name}: {value}" for name, value in headers] if isinstance(headers, list) else []
    return [*lines, "", *str(request["body"]).splitlines()] if request["body"] else lines


def _requests(kept: Iterable[Kept], reader: SqliteReader, directory: Path) -> Iterable[tuple[int, dict[str, object]]]:
    """What stands in the journal of these facts, oldest first; a record that is retired is said to be."""
    with closing(SqliteJournal(directory / JOURNAL_FILE, only_read=True)) as journal:
        progress = reader.progress()
        if progress is not None and progress.epoch != journal.epoch:
            raise SurroundingsError(f"The journal in {directory} is not the one that the store was made from.")
        for position in sorted({each.position for each in kept}):
            yield position, _request_at(journal, position)


def _request_at(journal: SqliteJournal, position: int) -> dict[str, object]:
    rows = journal.read(position - 1, 1)
    if not rows or rows[0][0] != position:
        return {"retired": "this record is no longer in the journal (see journal_days)"}
    record = decode(rows[0][1])
    if not isinstance(record, RequestRecord):
        return {
            "told by": "the sender",
            "at": str(moment(record.at_us)),
            "message id": getattr(record, "message_id", ""),
        }
    query = record.query.decode(errors="replace")
    return {
        "method": record.method,
        "target": record.path + (f"?{query}" if query else ""),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in record.headers],
        "body": record.body.decode(errors="replace"),
        "peer": record.peer,
    }


def print_story(message: Message, reader: SqliteReader, *, show_numbers: bool) -> None:
    """A message for people."""
    look = Look(sys.stdout, show_numbers=show_numbers)
    facts = in_order(kept.fact for kept in reader.facts(message))
    group = reader.group(message)
    for line in story(message, facts, group, look, datetime.now(UTC)):
        typer.echo(line)


def story(message: Message, facts: Sequence[Fact], group: Group | None, look: Look, now: datetime) -> list[str]:
    """One message in lines: what became of it, what it means, what to do, and all that was said, in order."""
    outcome = look.paint(message.outcome, OUTCOME_STYLES[message.outcome])
    lines = [look.paint(look.clean(message.message_id), "bold"), f"  {outcome}{_ending(message, now)}", ""]
    heard = [fact.receipt for fact in facts if fact.source == "webhook"]
    lines += named_lines(_meaning(message, heard, look), look)
    lines += named_lines(_about(message, look) | {"signed": _signed(heard)}, look)
    if group is not None:
        lines += ["", *_parts(group, look)]
    return [*lines, "", *_history(message, facts, look), ""]


def _ending(message: Message, now: datetime) -> str:
    """How long it took, or has taken until now."""
    since = message.began_at
    if message.outcome == "pending" and since is not None:
        return f", for {span((now - since).total_seconds())} now"
    if message.latency_ms is None:
        return ""
    return f" {duration(message.latency_ms)} after {'it was sent' if since is message.sent_at else 'the first receipt'}"


def _signed(heard: Sequence[Receipt]) -> str:
    """Whether somebody vouches for what was said; nothing where nothing was."""
    if not heard or all(receipt.verified for receipt in heard):
        return "yes" if heard else ""
    return "in part" if any(receipt.verified for receipt in heard) else "no: nobody vouches for what was said"


def _meaning(message: Message, heard: Sequence[Receipt], look: Look) -> dict[str, str]:
    reason = reason_of(message.api, message.status, message.outcome, message.provider_status, message.code)
    country = country_of(message.network, phone_number(message.channel, message.to))
    several = (message.segments or 0) > 1
    rows = {"what it says": "The sender says that it was sent; no receipt has come yet."}
    if heard:
        # Our own word that it was sent may stand above one of Vonage's that is unknown.
        said = max(heard, key=lambda receipt: (receipt.status is message.status, RANKS[receipt.status]))
        worth = worth_of(message.channel, said.provider_status, said.status).meaning
        remarks = remarks_on(message.channel, said.provider_status, country, several_segments=several)
        rows["what it says"] = " ".join([worth, *remarks])
    if message.conflict:
        rows["conflict"] = CONFLICT
    if reason is not None:
        code = f", code {look.clean(message.code or '')}" if says_something(message.code) else ""
        rows["why"] = f"{reason.meaning} ({reason.slug}{code})"
        is_open = message.outcome == "pending"
        rows["what to do"] = STILL_TRYING if is_open else reason.advice
        rows["whose move"] = MOVES["carrier" if is_open else reason.move]
    return rows


def _about(message: Message, look: Look) -> dict[str, str]:
    number_country = country_of(None, phone_number(message.channel, message.to))
    network = None if message.network is None else network_of(message.network)
    to = "" if message.to is None else look.number(message.to)
    if number_country is not None:
        to += f" ({country_name(number_country)})"
    told = ""
    if network is not None:
        country = "" if network.country is None else f", {country_name(network.country)}"
        told = f"{look.clean(network.name)}{country}" + (f" ({network.code})" if network.operator else "")
        if network.country and number_country and calling_code(network.country) != calling_code(number_country):
            told += "; the number was given out in another country: ported, or roaming"
    return {
        "to": to,
        "from": "" if message.sender is None else look.number(message.sender),
        "by": f"{look.number(message.channel)}, {APIS[message.api]}, account {look.clean(message.account)}",
        "network": told,
        "client ref": look.reference(message.client_ref, message.to, message.sender),
        "segments": str(message.segments) if (message.segments or 0) > 1 else "",
        "price": "" if message.price is None else look.price(message.price, message.currency),
    }


def _parts(group: Group, look: Look) -> list[str]:
    """The long text that it is a part of."""
    said = f"{group.delivered} of {group.of} delivered"
    for part in group.parts:
        reason = reason_of(part.api, part.status, part.outcome, part.provider_status, part.code)
        if part.outcome != "delivered" and part.part is not None:
            said += f", part {part.part.number}: {reason.slug.replace('-', ' ') if reason else part.outcome}"
    if group.outcome is None:
        said += f"; {len(group.parts)} of {group.of} parts are known, so there is no verdict yet"
    rows = {"long text": said, "whole": "" if group.outcome is None else group.outcome}
    if group.price is not None:
        rows["price of all"] = look.price(group.price, group.currency)
    return list(named_lines(rows, look))


def _history(message: Message, facts: Sequence[Fact], look: Look) -> list[str]:
    began = message.began_at
    lines = []
    for fact in facts:
        at = fact.receipt.occurred_at if fact.source == "sent" and fact.receipt.occurred_at else fact.received_at
        after = "" if began is None or at <= began else f"+{duration(_milliseconds(at - began))}"
        word = look.clean(fact.receipt.provider_status) or "(no status)"
        head = f"  {clock(at)}  {after:>10}  {word:<13} {look.arrow} {fact.receipt.status:<12}"
        notes = ", ".join(_notes(fact, look))
        if not notes:
            lines.append(head.rstrip())
        elif len(head) + 2 + len(notes) <= width_of(look):
            lines.append(f"{head}  {notes}")
        else:
            lines += [head.rstrip(), *wrapped(notes, look, indent=" " * 23)]
    return lines


def _notes(fact: Fact, look: Look) -> list[str]:
    receipt = fact.receipt
    if fact.source == "sent":
        return ["told by the sender"]
    notes = []
    if receipt.occurred_at is not None:
        notes.append(f"occurred {clock(receipt.occurred_at)}" + (" if that is UTC" if receipt.zone_assumed else ""))
    if says_something(receipt.code):
        notes.append(f"code {look.clean(receipt.code or '')}: {reason_for(receipt.api, receipt.code or '').slug}")
    if receipt.detail:
        detail = look.clean(look.mask(receipt.detail) or "")
        notes.append(f"“{detail}”" if look.is_wide else f'"{detail}"')
    if receipt.segment_receipts:
        done = sum(segment.provider_status.lower() == "delivered" for segment in receipt.segment_receipts)
        notes.append(f"{done} of {len(receipt.segment_receipts)} segments delivered")
    if receipt.workflow is not None:
        workflow = receipt.workflow
        step, steps = (look.clean(each or "?") for each in (workflow.items_number, workflow.items_total))
        notes.append(f"step {step} of {steps} of a failover")
    if fact.copies > 1:
        notes.append(f"came {fact.copies} times")
    if not receipt.verified:
        notes.append("unverified")
    if receipt.stale:
        notes.append("its signature was older than its window")
    return notes


def _milliseconds(time: timedelta) -> float:
    return time.total_seconds() * SECOND_MS
