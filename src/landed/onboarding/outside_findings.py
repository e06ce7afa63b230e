"""What the doctor says of the way from outside to us: the public URL, and what becomes of receipts of our own there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from landed.onboarding.seen import Finding, Seen, Try

LOCAL_NAMES = ("localhost", "localhost.localdomain")

# Why there was no answer: what it is called, and what to do.
FAULTS: Mapping[str, tuple[str, str]] = {
    "dns": ("Its name is not known", "Register the name in DNS, or mend public_url."),
    "refused": (
        "Nobody listens there",
        "Start the reverse proxy or the tunnel, open the port, and see that `landed serve` runs.",
    ),
    "timeout": ("Nobody answered in time", "Look at the firewall, and at what the proxy waits for."),
    "tls": (
        "Its certificate does not hold",
        "Renew it, for this very name and with its whole chain: Vonage, too, speaks to nobody whom it cannot trust.",
    ),
    "other": ("The connection failed", "Mend what the sentence names."),
}
# Why the gate held one back, although we signed it as Vonage does: by its reason, else by what a diagnosis says.
HELD: Mapping[str, tuple[str, str, str]] = {
    "missing": (
        "unsigned",
        "it came without a signature.",
        "Let the proxy pass the Authorization header on as it comes; and start the doctor with the landed's settings.",
    ),
    "address": (
        "address",
        "it came from an address that is not in `networks`.",
        "Name the proxy in trusted_proxies, and let it write X-Forwarded-For; or name this machine in `networks`.",
    ),
}
CHANGED = ("changed", "Switch off whatever rewrites URLs, headers or bodies in the proxy.")
OTHER_SECRETS = (
    "secrets",
    "the landed that runs has other secrets than these settings.",
    "Start the doctor with the settings of the landed that runs, or let that one read them again (SIGHUP).",
)
# What somebody before us answers: which status, and what it means.
ANSWERS: Sequence[tuple[range, str, str, str, str]] = (
    (
        range(300, 400),
        "outside-redirect",
        "redirects ({}).",
        "Vonage need not follow, and a redirected POST arrives without its body.",
        "Set public_url, and Vonage's webhooks, to where it ends: `landed setup` does the second.",
    ),
    (
        range(404, 405),
        "outside-404",
        "is answered {}.",
        "Vonage throws a receipt away that is answered so.",
        "See that the proxy passes the whole path on, and that path_prefix is what stands before it.",
    ),
    (
        range(400, 500),
        "outside-status",
        "is answered {}, by somebody before landed.",
        "Vonage throws a receipt away that is answered so.",
        "Let the proxy pass GET, HEAD and POST on without asking who it is: landed checks signatures itself.",
    ),
    (
        range(500, 600),
        "outside-5xx",
        "is answered {}.",
        "Vonage tries again for a while; nothing is kept until it is mended.",
        "See that `landed serve` runs where the proxy passes requests to, and what its log says.",
    ),
)
WHY = "What Vonage sends goes the same way."


def _place(seen: Seen) -> Iterable[Finding]:
    if seen.tunnel_trouble:
        yield Finding(
            name="tunnel-unreadable",
            what=seen.tunnel_trouble,
            why="Vonage's webhooks may lead to a tunnel that is no more, and nothing puts them back.",
            do="Set them with `landed setup` or in the dashboard, then remove the file.",
        )
    if seen.left_pointed:
        yield Finding(
            name="tunnel-left",
            what=f"Vonage's webhooks were pointed at a tunnel that is no more: {seen.left_pointed}",
            why="Receipts are sent there, and nobody answers.",
            do="Run `landed tunnel --restore`, which puts back what was there before.",
        )
    addresses = seen.addresses
    if addresses is None:
        yield Finding(
            name="no-public-url",
            what="It is not known by which URL Vonage reaches landed: public_url is not set.",
            why="Neither Vonage's settings nor the way from outside can be compared with it.",
            do="Set public_url, such as https://hooks.example.com; `landed setup --public-url …` writes it.",
            advice=True,
        )
        return
    parts = urlsplit(addresses.base)
    if not seen.is_real_vonage:
        # An offline Vonage may well be on this machine, too.
        return
    if _is_private(parts.hostname or ""):
        yield Finding(
            name="public-url-private",
            what=f"The public URL {addresses.base} is an address of a private network.",
            why="Vonage calls from the internet and reaches nobody there.",
            do="Set public_url to what the internet reaches, or run `landed serve --tunnel`.",
        )
    elif parts.scheme == "http":
        yield Finding(
            name="public-url-plain",
            what=f"The public URL {addresses.base} is not https.",
            why="Phone numbers and texts go over the internet for everybody to read.",
            do="Put a proxy with a certificate before landed: docs/setup.md has Caddy and nginx.",
            advice=True,
        )


def _is_private(host: str) -> bool:
    if host.lower() in LOCAL_NAMES:
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def _way(seen: Seen) -> Iterable[Finding]:
    """The first fault of the tries, since what hinders one of them hinders the other, and then what differs."""
    told: set[str] = set()
    for each in seen.tries:
        finding = _of_try(seen, each)
        if finding is not None and finding.name not in told:
            told.add(finding.name)
            yield finding


def _of_try(seen: Seen, tried: Try) -> Finding | None:
    if tried.fault:
        what, do = FAULTS[tried.fault]
        about = f"{what}: {tried.url} ({tried.detail})."
        return Finding(name=f"outside-{tried.fault}", what=about, why=WHY, do=do)
    if tried.held_for:
        return _of_held(tried)
    status = tried.status or 0
    for statuses, name, what, why, do in ANSWERS:
        if status in statuses:
            where = f" It leads to {tried.location}." if tried.location else ""
            return Finding(name=name, what=f"{tried.url} {what.format(status)}{where}", why=why, do=do)
    if not tried.has_arrived:
        return Finding(
            name="outside-other",
            what=f"{tried.url} is answered {status}, but what was sent there did not come to {seen.data}.",
            why="Somebody else takes the receipts: another landed, or a page that says yes to everything.",
            do="See where the public URL leads, or name the data directory of the landed that is there with --data.",
        )
    if tried.is_stale:
        return Finding(
            name="outside-clock",
            what="The landed that runs has another clock than this machine.",
            why="Signatures are judged by the clock.",
            do="Set both clocks, and keep them right with NTP.",
        )
    return None


def _of_held(tried: Try) -> Finding:
    name, how, do = HELD.get(tried.held_for, OTHER_SECRETS)
    if tried.held_for not in HELD and tried.diagnosis:
        # What we signed does not hold any more by our own secrets: it was changed.
        name, how, do = CHANGED[0], tried.diagnosis, CHANGED[1]
    return Finding(
        name=f"outside-{name}",
        what=f"A receipt that was signed as Vonage signs came through {tried.url} and was not trusted: {how}",
        why=f"{WHY} All of it would be put into quarantine.",
        do=do,
    )


CHECKS: Sequence[Callable[[Seen], Iterable[Finding]]] = (
    lambda seen: _place(seen) if seen.is_far_seen else (),
    _way,
)
