"""The library as an application sees it: names loaded when used, plain arguments, frozen results."""

import subprocess
import sys
import typing
from collections import UserDict
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import landed
from landed.vonage.signing import sign_jwt

BODY = (
    b'{"message_uuid":"u","to":"1","from":"2","channel":"sms","status":"delivered",'
    b'"usage":{"price":"0.1","currency":"EUR"}}'
)
QUERY = "messageId=m&msisdn=1&to=Acme&status=delivered&err-code=0&client-ref=r%C3%A9f"
PATH = "/webhooks/message-status"
NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
TOKEN = sign_jwt(BODY, "secret", issued_at=int(NOON.timestamp()), token_id="j", api_key="abcd1234")


def modules_after(statement):
    """The modules that a fresh Python has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_landed_loads_neither_msgspec_nor_asyncio():
    loaded = modules_after("import landed")

    assert "landed" in loaded
    assert not {"msgspec", "asyncio", "landed.vonage", "landed.domain"} & loaded


def test_parsing_loads_no_server_no_store_and_no_asyncio():
    loaded = modules_after(f"import landed; landed.parse('GET', '/', {QUERY!r}, {{}}, b'')")

    assert not {"asyncio", "socket", "sqlite3", "apsw", "landed.store", "landed.gate", "landed.journal"} & loaded


@pytest.mark.parametrize("name", landed.__all__)
def test_a_public_name_is_loaded_when_used_and_then_kept(name):
    value = getattr(landed, name)

    assert value.__name__ == name
    assert getattr(landed, name) is value


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = landed.no_such_name


HEADERS = {
    "a-mapping": {"Authorization": f"Bearer {TOKEN}"},
    "lower-case": {"authorization": f"Bearer {TOKEN}"},
    "upper-case": {"AUTHORIZATION": f"bearer {TOKEN}"},
    "another-mapping": UserDict({"Host": "example.com", "Authorization": f"Bearer {TOKEN}"}),
    "pairs": [("Accept", "*/*"), ("Authorization", f"Bearer {TOKEN}")],
    "pairs-of-bytes": [(b"authorization", f"Bearer {TOKEN}".encode())],
    "a-generator": (pair for pair in [("authorization", f"Bearer {TOKEN}")]),
    "items": {"Authorization": f"Bearer {TOKEN}"}.items(),
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_headers_are_a_mapping_or_pairs_in_any_letter_case(headers):
    (receipt,) = landed.parse("POST", PATH, "", headers, BODY, secrets="secret", now=NOON)

    assert (receipt.verified, receipt.stale, receipt.api_key) == (True, False, "abcd1234")


def test_odd_headers_are_no_ones_business():
    headers = [
        ("X-Name", "J\xf6rg \ud800 \udcff"),
        ("\u2603", ""),
        (b"\xff", b"\x00"),
        ("Authorization", f"Bearer {TOKEN}"),
    ]

    assert landed.parse("POST", PATH, "", headers, BODY, secrets="secret")[0].verified


@pytest.mark.parametrize(
    "query", [QUERY, QUERY.encode(), bytearray(QUERY.encode())], ids=["text", "bytes", "bytearray"]
)
def test_the_query_is_text_or_bytes(query):
    (receipt,) = landed.parse("GET", "/webhooks/delivery-receipt", query, {}, b"")

    assert (receipt.message_id, receipt.sender, receipt.client_ref) == ("m", "Acme", "réf")


@pytest.mark.parametrize("character", [chr(0xD800), chr(0xDCFF), "é", "\0"], ids=ascii)
def test_a_query_of_odd_text_is_read(character):
    assert landed.parse("GET", PATH, f"messageId={character}&status=read", {}, b"")[0].message_id


def test_a_body_may_be_any_bytes_like_object():
    assert landed.parse("POST", PATH, "", {}, memoryview(BODY)) == landed.parse("POST", PATH, "", {}, bytearray(BODY))


def test_a_receipt_has_what_the_documentation_promises():
    (receipt,) = landed.parse("POST", PATH, "", {}, BODY)

    assert isinstance(receipt, landed.Receipt)
    assert (receipt.message_id, receipt.api, receipt.channel) == ("u", "messages", "sms")
    assert (receipt.status, receipt.outcome, receipt.provider_status) == (
        landed.Status.DELIVERED,
        landed.Outcome.DELIVERED,
        "delivered",
    )
    assert (receipt.to, receipt.sender, receipt.network, receipt.code, receipt.client_ref) == (
        "1",
        "2",
        None,
        None,
        None,
    )
    assert (receipt.occurred_at, receipt.price, receipt.currency, receipt.segments) == (
        None,
        Decimal("0.1"),
        "EUR",
        None,
    )
    assert receipt.verified is False
    assert receipt.raw["usage"] == {"price": "0.1", "currency": "EUR"}


def test_an_inbound_message_is_told_apart():
    body = b'{"message_uuid":"u","from":"1","channel":"sms","message_type":"text","text":"Hi"}'

    (inbound,) = landed.parse("POST", "/webhooks/inbound-message", "", {}, body)

    assert isinstance(inbound, landed.Inbound)
    assert (inbound.text, inbound.sender, inbound.message_type) == ("Hi", "1", "text")


def test_a_result_is_a_frozen_tuple_of_frozen_facts():
    facts = landed.parse("POST", PATH, "", {}, BODY)

    assert type(facts) is tuple
    with pytest.raises(AttributeError):
        facts[0].status = landed.Status.FAILED


def test_a_probe_gives_an_empty_tuple_even_where_a_signature_is_required():
    assert landed.parse("GET", PATH, "", {}, b"", secrets="secret") == ()


def test_errors_have_a_reason_and_one_sentence():
    with pytest.raises(landed.BadSignature) as bad:
        landed.parse("POST", PATH, "", {}, BODY, secrets="secret")
    with pytest.raises(landed.Unreadable) as unreadable:
        landed.parse("POST", PATH, "", {}, b"hello")

    assert (bad.value.reason, unreadable.value.reason) == ("missing", "unknown-form")
    for caught in (bad, unreadable):
        assert isinstance(caught.value, landed.LandedError)
        assert str(caught.value).endswith(".")


def test_parse_is_typed():
    from landed.vonage import parse as module  # noqa: PLC0415 - the module, beside the function of its name

    hints = typing.get_type_hints(landed.parse, vars(module))

    assert hints["return"] == tuple[landed.Receipt | landed.Inbound, ...]
    assert hints["body"] is bytes
