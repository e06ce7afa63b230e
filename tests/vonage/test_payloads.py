"""Every documented payload, from a file, against the facts it states, value for value.

Next to each payload stands `<name>.expected.json`: where the payload is from, how it comes, and the
fields it must give; a field not listed there must be absent.
"""

import json
from pathlib import Path

import msgspec
import pytest

from landed.domain.receipt import Receipt
from landed.vonage.parse import parse

PAYLOADS = Path(__file__).parent.parent / "payloads"
NAMES = sorted(path.name.removesuffix(".expected.json") for path in PAYLOADS.glob("*.expected.json"))
PATHS = (
    "/webhooks/message-status",
    "/webhooks/delivery-receipt",
    "/webhooks/inbound-message",
    "/webhooks/inbound-sms",
)


def wire(name):
    """Query and body of a payload."""
    query = PAYLOADS / f"{name}.query"
    if query.exists():
        return query.read_bytes().strip(), b""
    return b"", (PAYLOADS / f"{name}.json").read_bytes()


def told(fact):
    """What a fact says, without Vonage's own fields and without what is absent."""
    fields = {name: value for name, value in msgspec.to_builtins(fact).items() if name != "raw"}
    if isinstance(fact, Receipt):
        fields["outcome"] = fact.outcome.value
        fields["segment_receipts"] = list(fields["segment_receipts"])
    return {name: value for name, value in fields.items() if value is not None and value is not False and value != []}


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_payload_says_what_vonage_documents(name):
    expected = json.loads((PAYLOADS / f"{name}.expected.json").read_bytes())
    query, body = wire(name)

    (fact,) = parse(expected["method"], expected["path"], query, {}, body)

    assert type(fact).__name__ == expected["kind"]
    assert told(fact) == expected["fact"]


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_payload_keeps_every_field_as_it_came(name):
    query, body = wire(name)

    (fact,) = parse("POST", "/webhooks/message-status", query, {}, body)

    sent = json.loads(body) if body else dict(pair.split("=") for pair in query.decode().split("&"))
    assert list(fact.raw) == list(sent)
    if body:
        assert fact.raw == sent


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_documented_payload_means_the_same_on_each_of_the_four_paths(name, path):
    query, body = wire(name)

    assert parse("POST", path, query, {}, body) == parse("POST", "/", query, {}, body)


def test_every_payload_file_has_its_expected_result():
    payloads = {path.stem for path in PAYLOADS.glob("*.query")}
    payloads |= {path.stem for path in PAYLOADS.glob("*.json") if not path.name.endswith(".expected.json")}

    assert payloads == set(NAMES)
