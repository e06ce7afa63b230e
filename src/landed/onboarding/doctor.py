"""`landed doctor`: looks at everything, and says of each fault what it is, why it matters, what to do.

Pure: what was seen comes in as `Seen`, findings go out. A check is a function of `CHECKS`; each gives
its findings or none, and none of them knows of the others. A finding is a fault, or advice: something
that works as it was set up and could be better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from landed.onboarding import event_findings, outside_findings, vonage_findings
from landed.onboarding.seen import Finding, Seen, ledger_of

BEHIND_RECORDS_MAX = 10_000
BEHIND_MAX = timedelta(minutes=5)
SILENT_AFTER = timedelta(minutes=2)
AHEAD_MAX = timedelta(minutes=5)
# One receipt can be late for its own reasons; that all of them are is the clock's.
LATE_RECEIPTS_MIN = 5
FREE_BYTES_MIN = 512 * 1024 * 1024
# From here on a bound is called near.
NEAR = 0.9
MIB = 1024 * 1024


def examine(seen: Seen) -> list[Finding]:
    """Every fault that shows, the gravest first, and advice behind them."""
    found = [finding for check in CHECKS for finding in check(seen)]
    return sorted(found, key=lambda finding: finding.advice)


def wrong_settings(sentences: str) -> list[Finding]:
    """A finding for each line of what was said about the settings."""
    return [
        Finding(
            name="settings",
            what=sentence,
            why="landed does not start with wrong settings; one that runs keeps those from before.",
            do="Mend it; docs/settings.md has all settings. Then run `landed doctor` again.",
        )
        for sentence in sentences.splitlines()
    ]


def _unusable(seen: Seen) -> Iterable[Finding]:
    why = {
        "journal": "Without it no request can be kept, and all are answered 503.",
        "store": "Receipts are kept, but nobody learns what they say.",
        "quarantine": "What is not trusted cannot be kept, and is answered 503.",
    }
    do = {
        "journal": "Keep a copy of the data directory, then mend what the sentence names, or put back a whole copy.",
        "store": "Mend what the sentence names, or stop landed, move the store's files away and run `landed rebuild`.",
        "quarantine": "Mend what the sentence names, or stop landed and move the quarantine's files away.",
    }
    for part, sentence in seen.unusable.items():
        yield Finding(name=f"{part}-unusable", what=sentence, why=why[part], do=do[part])


def _journal(seen: Seen) -> Iterable[Finding]:
    if "journal" in seen.unusable:
        return
    if seen.journal_epoch is None:
        yield Finding(
            name="no-journal" if seen.has_data else "no-data",
            what=f"There is no journal in {seen.data}."
            if seen.has_data
            else f"There is no data directory {seen.data}.",
            why="No request has ever been kept here.",
            do="Start `landed serve`, or name the directory that it uses with --data.",
        )
    elif seen.store_epoch is not None and seen.store_epoch != seen.journal_epoch:
        yield Finding(
            name="other-journal",
            what="The store was made from another journal than the one beside it.",
            why="The fold does not go on, since positions in one journal mean nothing in another.",
            do="Put back the journal that belongs to the store, or run `landed rebuild`.",
        )
    elif seen.behind < 0:
        yield Finding(
            name="journal-went-back",
            what=f"The store has folded record {seen.fold_position}, but the journal ends at {seen.journal_position}.",
            why="The journal is an older copy: requests that were answered are missing from it.",
            do="Put back the newer journal, or run `landed rebuild` to go on with this one.",
        )


def _worker(seen: Seen) -> Iterable[Finding]:
    if seen.journal_epoch is None or seen.behind < 0:
        return
    waited = seen.now - (seen.oldest_waiting_at or seen.now)
    if not seen.worker_runs:
        yield Finding(
            name="no-worker",
            what=f"No worker runs on {seen.data}; {max(seen.behind, 0)} records wait.",
            why="Receipts may be kept, but nobody learns what they say.",
            do="Start `landed serve`, or `landed serve --role worker` where gates run elsewhere.",
        )
    elif "store" not in seen.unusable and (seen.behind > BEHIND_RECORDS_MAX or waited > BEHIND_MAX):
        yield Finding(
            name="behind",
            what=f"The fold is {seen.behind:,} records behind, of which the oldest has waited {_rounded(waited)}.",
            why="What is listed is old, and whatever acts on receipts acts late.",
            do="Look at the worker's log for `fold.waits`; give it a faster disk, or fewer prints (--print none).",
        )


def _gate(seen: Seen) -> Iterable[Finding]:
    silence = seen.now - (seen.newest_at or seen.now)
    # A mount writes only what comes, and opens its files when something does.
    if silence <= SILENT_AFTER or seen.gates_mounted:
        return
    if seen.gates_serving:
        yield Finding(
            name="gate-silent",
            what=f"A gate runs, but nothing was written to the journal for {_rounded(silence)}.",
            why="One that is able to writes every half minute: Vonage's requests are answered 503, or not at all.",
            do="Look at its log for `journal.unable` and `disk.short`.",
        )
    elif seen.only_mounts:
        yield Finding(
            name="no-gate",
            what=f"No application has landed's webhooks open now; the last record is {_rounded(silence)} old.",
            why="An application opens them when the first request comes after its start; until then it looks the same.",
            do="See that the application runs which mounts them.",
            advice=True,
        )
    else:
        yield Finding(
            name="no-gate",
            what=f"Nothing was written to the journal for {_rounded(silence)}, and no gate runs.",
            why="A gate that works writes every half minute; Vonage's requests are not being kept.",
            do="Start `landed serve`; if it runs, look at its log for `journal.unable`.",
        )


def _clock(seen: Seen) -> Iterable[Finding]:
    why = "Signatures are judged by the clock: with a wrong one they are all called stale."
    do = "Set the clock, and keep it right with NTP."
    ahead = (seen.newest_at or seen.now) - seen.now
    if ahead > AHEAD_MAX:
        what = f"The journal's newest record is {_rounded(ahead)} ahead of this machine's clock."
        yield Finding(name="clock", what=what, why=why, do=do)
    elif seen.delays and min(seen.delays) < -AHEAD_MAX:
        what = f"A receipt came {_rounded(-min(seen.delays))} before it was made, so this machine's clock is behind."
        yield Finding(name="clock", what=what, why=why, do=do)
    elif len(seen.delays) >= LATE_RECEIPTS_MIN and min(seen.delays) > AHEAD_MAX:
        what = f"All receipts of the last hour came {_rounded(min(seen.delays))} late or more."
        why = f"Either they were held up on the way, or this machine's clock is ahead. {why}"
        yield Finding(name="clock", what=what, why=why, do=do)


def _secrets(seen: Seen) -> Iterable[Finding]:
    if not seen.has_secrets:
        yield Finding(
            name="no-secret",
            what="No signature secret is set.",
            why="Anybody who finds the address can say that a message was delivered.",
            do="Set VONAGE_SIGNATURE_SECRET to the signature secret in Vonage's dashboard, under API settings.",
        )
    if seen.has_odd_secrets:
        yield Finding(
            name="odd-secret",
            what="A signature secret has quotation marks around it, or blanks in it.",
            why="They count as part of it, and no secret of Vonage's has them, so no signature would hold.",
            do="Write the secret as it stands in Vonage's dashboard.",
        )


def _refused(seen: Seen) -> Iterable[Finding]:
    held = seen.quarantine
    if held is None or not held.rows:
        return
    if held.newest_signed_us is not None and (
        seen.newest_verified_at is None or held.newest_signed_us > seen.newest_verified_at.timestamp() * 1_000_000
    ):
        yield Finding(
            name="refused",
            what=f"The last signed request was refused; {held.rows:,} requests are in quarantine.",
            why="When a secret is wrong here, that happens to every receipt of Vonage's.",
            do="Run `landed quarantine list`, then `landed quarantine show ID`, which says why.",
        )
    else:
        yield Finding(
            name="quarantined",
            what=f"{held.rows:,} requests that were not trusted are in quarantine, {held.copies:,} with their copies.",
            why="They may be somebody's noise, or receipts that a secret or a setting kept out.",
            do="Run `landed quarantine list`; `recheck`, `accept ID` or `drop` them.",
            advice=True,
        )


def _quarantine_room(seen: Seen) -> Iterable[Finding]:
    held = seen.quarantine
    if held is None or not seen.quarantine_rows_max or not seen.quarantine_bytes_max:
        return
    share = max(held.rows / seen.quarantine_rows_max, held.bytes / seen.quarantine_bytes_max)
    if share >= NEAR:
        yield Finding(
            name="quarantine-full",
            what=f"The quarantine is {share:.0%} full: {held.rows:,} requests, {held.bytes // MIB:,} MiB.",
            why="When it is full, what is not trusted is answered 503 and not kept; the rest goes on.",
            do="Run `landed quarantine list`, mend what is wrong, `recheck`, then `drop` what is left.",
        )


def _journal_room(seen: Seen) -> Iterable[Finding]:
    if seen.journal_bytes_max and seen.journal_bytes >= NEAR * seen.journal_bytes_max:
        share = seen.journal_bytes / seen.journal_bytes_max
        yield Finding(
            name="journal-full",
            what=f"The journal has {share:.0%} of the {seen.journal_bytes_max:,} bytes of journal_bytes_max.",
            why="Beyond them every request is answered 503, and nothing new is kept.",
            do="Raise journal_bytes_max, or set journal_days, so that old records are retired.",
        )


def _disk(seen: Seen) -> Iterable[Finding]:
    if seen.free_bytes < seen.free_bytes_min:
        yield Finding(
            name="disk",
            what=f"Only {seen.free_bytes // MIB:,} MiB are free where {seen.data} is, less than free_bytes_min.",
            why="Every request is answered 503, and nothing new is kept.",
            do="Make room, or move the data directory to a larger disk.",
        )
    elif seen.free_bytes < FREE_BYTES_MIN:
        yield Finding(
            name="disk",
            what=f"Only {seen.free_bytes // MIB:,} MiB are free where {seen.data} is.",
            why="When the disk is full, requests are answered 503 and nothing new is kept.",
            do="Make room, or move the data directory to a larger disk.",
        )


def _ledger(seen: Seen) -> Iterable[Finding]:
    if not _can_be_counted(seen):
        return
    ledger = ledger_of(seen)
    if not ledger.is_even or not seen.tally.is_even:
        yield Finding(
            name="ledger",
            what=f"The journal has {ledger.received:,} requests, but {ledger.accounted:,} are accounted for.",
            why="Requests were lost or counted twice, which must never be.",
            do="Keep a copy of the data directory, run `landed rebuild`, and report it with the worker's log.",
        )
    if seen.gates_kept > ledger.received:
        yield Finding(
            name="ledger-of-gates",
            what=f"The gates kept {seen.gates_kept:,} requests, but the journal received {ledger.received:,}.",
            why="Requests that were answered are gone: the journal was put back from an older copy, or the disk lies.",
            do="Put back the newer journal. To count anew, stop all gates and remove `gate-*.figures` there.",
        )


def _can_be_counted(seen: Seen) -> bool:
    """Whether journal and store can be read and belong together; each has a finding of its own when not."""
    readable = not {"journal", "store"} & seen.unusable.keys()
    return readable and seen.journal_epoch is not None and seen.journal_epoch == seen.store_epoch and seen.behind >= 0


def _unverified(seen: Seen) -> Iterable[Finding]:
    if not seen.has_secrets:
        return
    if not seen.sms_must_be_signed and seen.sms_signed:
        yield Finding(
            name="sms-signature",
            what=f"Of the SMS API's last receipts {seen.sms_signed:,} were signed and {seen.sms_unsigned:,} were not; "
            "unsigned ones are taken.",
            why="Vonage signs them for you now, so whoever does not sign may be anybody.",
            do='Set sms_signature = "required" once all of them come signed.',
            advice=True,
        )
    elif seen.unverified:
        yield Finding(
            name="unverified",
            what=f"{seen.unverified:,} requests were taken without a signature.",
            why="Anybody can send them; they never outweigh a signed receipt, but where there is none they count.",
            do="Ask Vonage's support to sign your SMS API's webhooks, then set sms_signature = \"required\".",
            advice=True,
        )


def _rounded(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))


Check = Callable[[Seen], Iterable[Finding]]

CHECKS: Sequence[Check] = (
    _unusable,
    _journal,
    _worker,
    _gate,
    _ledger,
    _disk,
    _journal_room,
    _clock,
    _secrets,
    _refused,
    _quarantine_room,
    _unverified,
    *vonage_findings.CHECKS,
    *outside_findings.CHECKS,
    *event_findings.CHECKS,
)
