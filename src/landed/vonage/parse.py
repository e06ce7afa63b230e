"""Any request from Vonage: what it is, whose signature it bears, and the facts in it.

What came is told by its content, never by its path or declared type. **Facts come only from what
the signature covers**: under a JWT the body alone; under `sig` the signed parameters of query and
body together, each name once and flat; without a signature the body, completed by the query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from landed.domain.receipt import Inbound, Receipt
from landed.errors import BadSignature, Unreadable
from landed.vonage import messages, sms
from landed.vonage.request import Request, as_fields, read_body, read_pairs, text_of
from landed.vonage.signing import (
    SIG,
    Coverage,
    Keyring,
    Signed,
    Trust,
    Windows,
    bearer_token,
    flat_json,
    plain_query,
    signed_params,
    verify_jwt,
    verify_sig,
)

__all__ = [
    "UNTRUSTED",
    "Coverage",
    "Trust",
    "authenticate",
    "named_api_key",
    "parse",
    "read",
    "reads_as_sms",
    "trust_in",
]

MESSAGE_ID_CHARACTERS_MAX = 256

Fields = Mapping[str, object]
Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]

UNTRUSTED = Trust()


def parse(  # noqa: PLR0913 - the parts of an HTTP request, as every framework has them at hand
    method: str,
    path: str,
    query: str | bytes,
    headers: Headers,
    body: bytes,
    *,
    secrets: str | Iterable[str] | Mapping[str, str | Iterable[str]] | None = None,
    now: datetime | None = None,
) -> tuple[Receipt | Inbound, ...]:
    """What a webhook request from Vonage says; empty for the probe of a URL.

    `query` is the raw query string and `body` the raw bytes, since signatures cover them as they
    came. `headers` is a mapping, in any letter case, or pairs. With `secrets` (a signature secret,
    several while rotating, or a mapping from API key to either) a signature is required; None
    checks nothing. With `now`, an aware datetime, what was signed outside its window is `stale`,
    which is no error: Vonage retries for up to 72 hours.

    Raises BadSignature or Unreadable, each with a `reason`; SettingsError for an empty secret.
    """
    keyring = None if secrets is None else Keyring.of(secrets)
    request = Request(
        method=method, path=path, query=_bytes(query), headers=tuple(_header_pairs(headers)), body=bytes(body)
    )
    if request.is_probe:
        return ()
    if keyring is None:
        return read(request, UNTRUSTED)
    authenticated = authenticate(request, keyring)
    if authenticated is None:
        raise BadSignature("missing", "The request bears no signature, and one is required.")
    signed, coverage = authenticated
    return read(request, trust_in(signed, coverage, now, Windows()))


def authenticate(request: Request, keyring: Keyring, windows: Windows | None = None) -> tuple[Signed, Coverage] | None:
    """Whose signature the request bears and what it covers; None when it bears none.

    Raises BadSignature when it bears one that does not hold. A bearer token is judged first, since
    it covers the whole body.
    """
    windows = windows or Windows()
    token = bearer_token(request.header(b"authorization"))
    if token is not None:
        return verify_jwt(token, request.body, keyring, windows), Coverage.BODY
    if SIG in request.query or SIG in request.body:
        plain = None if request.body else plain_query(request.query)
        if plain is not None:
            params, base = plain
            return verify_sig(params, keyring, windows, base), Coverage.PARAMETERS
        pairs = _all_pairs(request)
        if SIG in dict(pairs):
            return verify_sig(signed_params(pairs), keyring, windows), Coverage.PARAMETERS
    return None


def trust_in(signed: Signed, coverage: Coverage, now: datetime | None, windows: Windows) -> Trust:
    """The trust that a signature which holds earns at this moment."""
    stale = now is not None and signed.is_stale(now.timestamp(), windows.ahead_seconds)
    return Trust(coverage=coverage, verified=True, stale=stale, api_key=signed.api_key)


def read(request: Request, trust: Trust) -> tuple[Receipt | Inbound, ...]:
    """The facts in a request, out of what may be believed of it. Raises Unreadable."""
    candidates = _believed(request, trust.coverage)
    facts = []
    refused: Unreadable | None = None
    for fields in candidates:
        try:
            facts.append(_fact(fields, trust))
        except Unreadable as unreadable:
            refused = refused or unreadable
    if facts:
        return tuple(facts)
    raise refused or Unreadable("not-a-form", "The request has neither parameters nor a JSON object.")


def reads_as_sms(request: Request) -> bool:
    """Whether an unsigned request is one of the SMS API's forms and none of the Messages API's."""
    candidates = _believed(request, Coverage.NOTHING)
    return (
        bool(candidates)
        and all(_message_id(fields, sms.MESSAGE_ID_NAMES) for fields in candidates)
        and not any(name in fields for fields in candidates for name in messages.MESSAGE_ID_NAMES)
    )


def named_api_key(request: Request) -> str | None:
    """The API key that an unsigned request of the SMS API names."""
    candidates = _believed(request, Coverage.NOTHING)
    return next((key for fields in candidates if (key := text_of(fields.get("api-key"))) is not None), None)


def _believed(request: Request, coverage: Coverage) -> Sequence[Fields]:
    body = read_body(request.body)
    if coverage is Coverage.BODY:
        return body.objects or ([as_fields(body.pairs)] if body.pairs else [])
    if len(body.objects) > 1 or any(name in fields for fields in body.objects for name in messages.MESSAGE_ID_NAMES):
        return body.objects
    fields = body.objects[0] if body.objects else as_fields(body.pairs)
    fields = as_fields(read_pairs(request.query)) | fields
    return [fields] if fields else []


def _all_pairs(request: Request) -> list[tuple[bytes, bytes]]:
    """All parameters of query and body, as a `sig` would cover them."""
    pairs = read_pairs(request.query)
    body = read_body(request.body)
    if not body.objects:
        return pairs + list(body.pairs)
    has_sig = any(name == SIG for name, _ in pairs) or any("sig" in fields for fields in body.objects)
    return pairs + flat_json(body.json) if has_sig else []


def _fact(fields: Fields, trust: Trust) -> Receipt | Inbound:
    for names, forms in _FORMS:
        if not any(name in fields for name in names):
            continue
        parse_form = next((parse for is_form, parse in forms if is_form(fields)), None)
        if parse_form is None:
            continue
        message_id = _message_id(fields, names)
        if message_id is None:
            raise Unreadable("no-message-id", "It reads as one of Vonage's forms, but has no usable message id.")
        return parse_form(fields, message_id, trust)
    raise Unreadable("unknown-form", "It is none of Vonage's forms: no message id with a status or content.")


def _message_id(fields: Fields, names: Iterable[str]) -> str | None:
    message_id = next((text for name in names if (text := text_of(fields.get(name))) is not None), None)
    return message_id if message_id is not None and len(message_id) <= MESSAGE_ID_CHARACTERS_MAX else None


def _bytes(text: str | bytes) -> bytes:
    if not isinstance(text, str):
        return bytes(text)
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def _header_pairs(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        yield _bytes(name), _bytes(value)


_Form = tuple[Callable[[Fields], bool], Callable[[Fields, str, Trust], Receipt | Inbound]]

# By which names a form is known, then which of its kinds it is; the first that fits.
_FORMS: tuple[tuple[tuple[str, ...], tuple[_Form, ...]], ...] = (
    (
        messages.MESSAGE_ID_NAMES,
        ((messages.is_inbound, messages.parse_inbound), (messages.is_status, messages.parse_status)),
    ),
    (sms.MESSAGE_ID_NAMES, ((sms.is_receipt, sms.parse_receipt), (sms.is_inbound, sms.parse_inbound))),
)
