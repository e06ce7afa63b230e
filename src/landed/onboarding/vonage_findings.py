"""What the doctor says of Vonage's side: credentials, the application, the account, numbers, money, and what they do.

Which URL is called depends on how a message was sent: by a token of an application, its own; by key and secret, the
account's. https://developer.vonage.com/en/messages/code-snippets/configure-webhooks
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal

import msgspec

from landed.onboarding.seen import Finding, Seen, VonageSeen

AHEAD_MAX = timedelta(minutes=5)
BALANCE_NEAR = Decimal(1)
NOWHERE = "nowhere"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where the receipts of what is sent in this way go; `is_ours` is None where it is not known who we are."""

    sent_by: str
    url: str
    is_ours: bool | None


def routes_of(seen: Seen) -> list[Route]:
    """Each way to send, and whom Vonage calls then; none where it could not be asked."""
    vonage, addresses = seen.vonage, seen.addresses
    if vonage is None:
        return []
    ways = []
    if vonage.application is not None:
        name = f"the Messages API, by a token of application {vonage.application.id}"
        ways.append((name, vonage.application.webhooks.receipts))
    if vonage.account is not None:
        ways.append(("the Messages API, by key and secret", vonage.account.receipts))
        ways.append(("the SMS API", vonage.account.receipts))
    return [
        Route(
            sent_by=name,
            url=url or NOWHERE,
            is_ours=None if addresses is None else bool(url) and addresses.leads_here(url),
        )
        for name, url in ways
    ]


def _asking(seen: Seen) -> Iterable[Finding]:
    if seen.key_trouble:
        yield Finding(
            name="private-key",
            what=seen.key_trouble,
            why="Nothing can be sent by the application's token.",
            do="Put the path of the whole file into VONAGE_PRIVATE_KEY, or run `landed setup --new-key`.",
        )
    if not seen.has_credentials:
        yield Finding(
            name="no-credentials",
            what="VONAGE_API_KEY and VONAGE_API_SECRET are not set, so Vonage's side was not looked at.",
            why="Most receipts that never come are sent to another URL, which only Vonage can tell.",
            do="Set both, as they stand on the first page of Vonage's dashboard.",
            advice=True,
        )
    vonage = seen.vonage
    if vonage is not None and vonage.refused:
        yield Finding(
            name="credentials",
            what="Vonage does not know VONAGE_API_KEY with VONAGE_API_SECRET.",
            why="Nothing can be sent or set up with them.",
            do="Copy both again from the first page of Vonage's dashboard; a secret that was revoked holds no more.",
        )
    elif vonage is not None and not vonage.has_sdk:
        yield Finding(
            name="no-sdk",
            what="Vonage's SDK is not installed, so Vonage's side was not looked at.",
            why="Most receipts that never come are sent to another URL, which only Vonage can tell.",
            do="Install it: pip install 'landed[send]'.",
            advice=True,
        )
    elif vonage is not None and vonage.trouble:
        yield Finding(
            name="vonage-unreachable",
            what=vonage.trouble,
            why="What Vonage has of us could not be looked at, and what is sent from here may fail in the same way.",
            do="See that this machine reaches api.nexmo.com and rest.nexmo.com by https.",
        )


def _application(seen: Seen, vonage: VonageSeen) -> Iterable[Finding]:
    application = vonage.application
    if vonage.is_application_missing:
        yield Finding(
            name="application-missing",
            what=f"The account has no application {seen.application_id}.",
            why="What is sent by its token is refused with 401.",
            do="Set VONAGE_APPLICATION_ID to one of this account's, or run `landed setup` without it.",
        )
    elif seen.application_id is None:
        yield Finding(
            name="no-application",
            what="VONAGE_APPLICATION_ID is not set.",
            why="What is sent through the Messages API is sent by key and secret then, and its receipts go to the "
            "account's URL together with those of all else.",
            do="Run `landed setup`, or set the id of your application.",
            advice=True,
        )
    elif application is not None and vonage.key_fits is False:
        yield Finding(
            name="application-key",
            what=f"The private key that is set is not the one of application {application.id}.",
            why="What is sent by its token is refused with 401.",
            do="Set VONAGE_PRIVATE_KEY to its key, or run `landed setup --new-key`.",
        )
    elif application is not None and not seen.has_private_key and not seen.key_trouble:
        yield Finding(
            name="no-private-key",
            what=f"There is no private key for application {application.id}: VONAGE_PRIVATE_KEY is not set.",
            why="`landed send` sends by key and secret then, and receipts go to the account's URL.",
            do="Set the path of its file, or run `landed setup --new-key`.",
            advice=True,
        )


def _application_urls(seen: Seen, vonage: VonageSeen) -> Iterable[Finding]:
    application = vonage.application
    if application is None:
        return
    if application.messages is None:
        yield Finding(
            name="application-no-messages",
            what=f"Application {application.id} has no Messages capability.",
            why="Vonage calls nobody with what became of its messages.",
            do="Run `landed setup`, or switch it on in the dashboard: Applications → Edit → Capabilities.",
        )
        return
    yield from _receipts(
        seen, "application", f"The Status URL of application {application.id}", application.webhooks.receipts
    )
    yield from _inbound(
        seen, "application", f"The Inbound URL of application {application.id}", application.webhooks.inbound
    )
    if application.version and application.version != "v1":
        yield Finding(
            name="application-version",
            what=f"Application {application.id} is called in the form {application.version} of the Messages API.",
            why="It says less of each message than v1; landed reads both.",
            do="Choose v1 in the dashboard: Applications → Edit → Messages.",
            advice=True,
        )


def _account_urls(seen: Seen, vonage: VonageSeen) -> Iterable[Finding]:
    if vonage.account is None:
        return
    # Without an application everything goes there; with one, only who uses the SMS API needs it.
    matters = seen.uses_sms or vonage.application is None
    yield from _receipts(
        seen, "account", "The account's webhook for delivery receipts", vonage.account.receipts, matters=matters
    )
    yield from _inbound(seen, "account", "The account's webhook for inbound SMS", vonage.account.inbound)


def _receipts(seen: Seen, whose: str, name: str, url: str, *, matters: bool = True) -> Iterable[Finding]:
    why = {
        "application": "What became of messages that were sent by its token is told there, and nowhere else.",
        "account": "Receipts of the SMS API go there, and those of the Messages API that was used with key and secret.",
    }
    addresses = seen.addresses
    if not url:
        found, what = "no-url", f"{name} is not set."
    elif addresses is None or addresses.leads_here(url):
        return
    elif addresses.is_same_host(url):
        found, what = "path", f"{name} leads to us, but to no webhook of ours: {url}"
    else:
        found, what = "elsewhere", f"{name} leads elsewhere: {url}"
    yield Finding(
        name=f"{whose}-{found}",
        what=what,
        why=why[whose],
        do="Run `landed setup`, which sets it, or mend public_url and path_prefix if that is us."
        if addresses
        else "Set public_url, then run `landed setup`.",
        advice=not matters,
    )


def _inbound(seen: Seen, whose: str, name: str, url: str) -> Iterable[Finding]:
    if url and (seen.addresses is None or seen.addresses.leads_here(url)):
        return
    yield Finding(
        name=f"{whose}-inbound",
        what=f"{name} leads elsewhere: {url}" if url else f"{name} is not set.",
        why="What people answer, STOP among it, does not come to landed.",
        do="Run `landed setup` if it should; receipts do not depend on it.",
        advice=True,
    )


def _numbers(seen: Seen, vonage: VonageSeen) -> Iterable[Finding]:
    if vonage.numbers is None or not seen.sender.isdecimal():
        return
    number = next((each for each in vonage.numbers if each.msisdn == seen.sender), None)
    if number is None:
        yield Finding(
            name="sender",
            what=f"The sender {seen.sender} is not among the account's {len(vonage.numbers)} numbers.",
            why="In many countries Vonage refuses it, or networks put another sender in its place.",
            do="Set `sender` to a number of yours, or run `landed setup --buy-number CC`.",
        )
        return
    linked = number.application_id
    if linked and seen.application_id and linked != seen.application_id:
        yield Finding(
            name="number-elsewhere",
            what=f"The number {number.msisdn} is linked to another application, {linked}.",
            why="What people answer to it goes to that one's webhooks.",
            do=f"Run `landed setup --number {number.msisdn}`, or set VONAGE_APPLICATION_ID to that one.",
        )
    elif not linked and seen.application_id:
        yield Finding(
            name="number-unlinked",
            what=f"The number {number.msisdn} is linked to no application.",
            why="What people answer to it goes to the account's webhook, or nowhere.",
            do=f"Run `landed setup --number {number.msisdn}`.",
            advice=True,
        )
    if number.mo_http_url and not (seen.addresses and seen.addresses.leads_here(number.mo_http_url)):
        yield Finding(
            name="number-webhook",
            what=f"The number {number.msisdn} has an inbound webhook of its own: {number.mo_http_url}",
            why="It goes before the account's: what people answer to this number is sent there.",
            do="Remove it in the dashboard (Numbers → Your numbers → Edit), if it should come to landed.",
            advice=True,
        )


def _money(_seen: Seen, vonage: VonageSeen) -> Iterable[Finding]:
    if vonage.balance is None or vonage.balance >= BALANCE_NEAR:
        return
    yield Finding(
        name="balance",
        what=f"The account has EUR {vonage.balance} left.",
        why="Without money Vonage refuses what is sent (402, or status 9), so no receipt follows.",
        do="Top it up in the dashboard, or switch on auto-reload.",
        advice=vonage.balance > 0,
    )


def _clock(_seen: Seen, vonage: VonageSeen) -> Iterable[Finding]:
    if vonage.at is None or abs(vonage.asked_at - vonage.at) <= AHEAD_MAX:
        return
    off = timedelta(seconds=round(abs(vonage.asked_at - vonage.at).total_seconds()))
    yield Finding(
        name="clock-vonage",
        what=f"This machine's clock is {off} {'ahead of' if vonage.asked_at > vonage.at else 'behind'} Vonage's.",
        why="Signatures are judged by the clock, and tokens of ours are refused when they are too old or too early.",
        do="Set the clock, and keep it right with NTP.",
    )


def _forms(seen: Seen) -> Iterable[Finding]:
    if seen.messages_heard_as_sms:
        yield Finding(
            name="sms-setting",
            what=f"Receipts of {seen.messages_heard_as_sms:,} messages that were sent through the Messages API came in "
            "the SMS API's form.",
            why="The account's SMS setting is \"SMS API\": they go to the account's URL, and say less of each message.",
            do='Choose "Messages API" in the dashboard: API settings → SMS settings.',
        )
    if seen.sms_heard_as_messages:
        yield Finding(
            name="sms-setting",
            what=f"Receipts of {seen.sms_heard_as_messages:,} messages that were sent through the SMS API came in the "
            "Messages API's form.",
            why='The account\'s SMS setting is "Messages API": the parts of long texts are told of together.',
            do='Choose "SMS API" in the dashboard: API settings → SMS settings; or send through the Messages API.',
        )
    if seen.silent_sends and not seen.heard_sends:
        yield Finding(
            name="silence",
            what=f"Of the last {seen.silent_sends:,} messages that were sent, none has had a receipt.",
            why="Either Vonage calls somebody else, or what it sends does not reach us.",
            do="Mend what else is found. If that is nothing: choose the API that you send through in the dashboard, "
            "under API settings → SMS settings.",
        )


def _of_vonage(check: Callable[[Seen, VonageSeen], Iterable[Finding]]) -> Callable[[Seen], Iterable[Finding]]:
    """A check of what Vonage said, where it said anything."""

    def checked(seen: Seen) -> Iterable[Finding]:
        return check(seen, seen.vonage) if seen.vonage is not None else ()

    return checked


def _far(check: Callable[[Seen], Iterable[Finding]]) -> Callable[[Seen], Iterable[Finding]]:
    """A check that needs somebody to have looked beyond this machine."""
    return lambda seen: check(seen) if seen.is_far_seen else ()


CHECKS: Sequence[Callable[[Seen], Iterable[Finding]]] = (
    _far(_asking),
    *map(_of_vonage, (_application, _application_urls, _account_urls, _numbers, _money, _clock)),
    _forms,
)
