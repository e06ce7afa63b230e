"""Forged and unsigned webhooks at full speed, in a process of its own. Prints how many had which answer."""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from urllib.parse import urlencode

import uvloop

from landed.vonage.signing import sign_jwt, sign_sig

# So many different ones of each kind, then the same again: more than the quarantine has room for.
DISTINCT = 5_000
WRONG_SECRET = "not the secret of the account"
END_OF_HEAD = b"\r\n\r\n"


def forged_status(number: int) -> bytes:
    """A Messages API status whose token was signed by somebody else."""
    body = json.dumps(_status(number)).encode()
    token = sign_jwt(body, WRONG_SECRET, issued_at=int(time.time()), token_id=str(number), api_key="abcd1234")
    return _post(body, f"Authorization: Bearer {token}\r\n")


def unsigned_status(number: int) -> bytes:
    """A Messages API status without a token."""
    return _post(json.dumps(_status(number)).encode())


def forged_receipt(number: int) -> bytes:
    """An SMS API receipt whose `sig` was made by somebody else."""
    fields = _receipt(number) | {"timestamp": str(int(time.time()))}
    return _get(fields | {"sig": sign_sig(fields, WRONG_SECRET, "sha256")})


def unsigned_receipt(number: int) -> bytes:
    """An SMS API receipt without a `sig`, which is kept as unverified, at a rate."""
    return _get(_receipt(number))


def _status(number: int) -> dict[str, str]:
    about = {"message_uuid": f"flood-{number}", "to": "447700900000", "from": "447700900001"}
    return about | {"timestamp": "2026-02-03T12:14:25Z", "status": "delivered", "channel": "sms"}


def _receipt(number: int) -> dict[str, str]:
    about = {"msisdn": "447700900001", "to": "ACME", "messageId": f"flood-{number}", "api-key": "abcd1234"}
    return about | {"status": "delivered", "scts": "2602031214", "err-code": "0"}


def _post(body: bytes, fields: str = "") -> bytes:
    head = f"POST /webhooks/message-status HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _get(fields: dict[str, str]) -> bytes:
    return f"GET /webhooks/delivery-receipt?{urlencode(fields)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


KINDS = (forged_status, unsigned_status, forged_receipt, unsigned_receipt)


class Flooder(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, requests: list[bytes], turn: int, answers: Counter[str]) -> None:
        self._requests = requests
        self._turn = turn
        self._answers = answers
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, blank, body = self._unread.partition(END_OF_HEAD)
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or b"0")
        if blank and len(body) >= length:
            self._unread = b""
            self._answers[head[9:12].decode()] += 1
            self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        self._answers["closed"] += 1

    def _ask(self) -> None:
        self._transport.write(self._requests[self._turn % len(self._requests)])
        self._turn += 1


async def flood(port: str, connections: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    requests = [kind(number) for number in range(DISTINCT) for kind in KINDS]
    answers = Counter[str]()
    step = len(requests) // int(connections) + 1
    for number in range(int(connections)):
        await loop.create_connection(
            lambda turn=number * step: Flooder(requests, turn, answers), "127.0.0.1", int(port)
        )
    print(json.dumps("begun"), flush=True)  # noqa: T201 - how the test learns it
    await stop.wait()
    print(json.dumps(answers), flush=True)  # noqa: T201 - the same


if __name__ == "__main__":
    uvloop.run(flood(*sys.argv[1:]))
