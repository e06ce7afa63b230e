"""What the public port answers: the bytes of each status, and one sentence of advice to a person.

Mounts give the same advice through the server around them.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from landed.gate.judge import ANSWERS, METHODS

RETRY_AFTER_SECONDS = 5

ADVICE = {
    HTTPStatus.BAD_REQUEST: "this is not a well-formed HTTP/1.1 request.",
    HTTPStatus.UNAUTHORIZED: "it bears no signature that holds here.",
    HTTPStatus.NOT_FOUND: "webhooks are taken on " + ", ".join(ANSWERS) + ".",
    HTTPStatus.METHOD_NOT_ALLOWED: "webhooks come by GET, HEAD or POST.",
    HTTPStatus.REQUEST_TIMEOUT: "the request did not come whole in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "no webhook of Vonage's is that large.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "no webhook of Vonage's has a URL that long.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "no webhook of Vonage's has headers that large.",
    HTTPStatus.SERVICE_UNAVAILABLE: "it was not kept; send it again.",
}


def answer_bytes(status: HTTPStatus, *, close: bool, head: bool) -> bytes:
    """The bytes of an answer, dated now; `head` is one to HEAD."""
    if status is HTTPStatus.CONTINUE:
        return b"HTTP/1.1 100 Continue\r\n\r\n"
    sentence = b"" if status < HTTPStatus.BAD_REQUEST else f"{status.phrase}: {ADVICE.get(status, '')}".encode() + b"\n"
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Date: {formatdate(usegmt=True)}"]
    if status is not HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(sentence)}")
    if sentence:
        lines.append("Content-Type: text/plain; charset=utf-8")
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(f"Retry-After: {RETRY_AFTER_SECONDS}")
    if status is HTTPStatus.UNAUTHORIZED:
        # https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2
        lines.append("WWW-Authenticate: Bearer")
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append(f"Allow: {', '.join(METHODS)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else sentence)
