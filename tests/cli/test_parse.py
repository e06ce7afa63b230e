"""`landed parse`: whichever way a receipt was copied."""

from __future__ import annotations

import json

import pytest

BODY = '{"message_uuid":"30af1182","to":"972532208231","status":"delivered","channel":"sms"}'
QUERY = "msisdn=447700900001&to=DLRTEST2&messageId=130000002BFABABC&status=delivered&err-code=0"
PRINTED = """{'channel': 'sms',
 'message_uuid': '30af1182',
 'status': 'delivered',
 'to': '972532208231'}"""
PRINTED_LISTS = "{'messageId': ['130000002BFABABC'], 'msisdn': ['447700900001'], 'status': ['delivered']}"
LOG = f'127.0.0.1 - - [17/May/2019 11:57:30] "GET /webhooks/delivery-receipt?{QUERY} HTTP/1.1" 204 -'
WHOLE = f"POST /webhooks/message-status HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n{BODY}"


@pytest.mark.parametrize(
    ("text", "message_id"),
    [
        (BODY, "30af1182"),
        (QUERY, "130000002BFABABC"),
        (PRINTED, "30af1182"),
        (PRINTED_LISTS, "130000002BFABABC"),
        (LOG, "130000002BFABABC"),
        (WHOLE, "30af1182"),
        (f"GET /webhooks/delivery-receipt?{QUERY} HTTP/1.1", "130000002BFABABC"),
        (f"https://example.com/webhooks/delivery-receipt?{QUERY}", "130000002BFABABC"),
    ],
    ids=["json", "query", "printed", "printed-lists", "access-log", "whole-request", "request-line", "url"],
)
def test_a_receipt_is_known_in_every_copied_form(landed, tmp_path, text, message_id):
    file = tmp_path / "copied"
    file.write_text(text)
    for run in (landed("parse", "--json", file), landed("parse", "--json", "-", stdin=text)):
        assert json.loads(run.stdout)["message_id"] == message_id
        assert json.loads(run.stdout)["outcome"] == "delivered"


def test_a_pasted_body_is_explained_to_a_person(landed):
    shown = landed("parse", BODY, PYTHONUTF8="1").stdout
    assert "Receipt, messages API" in shown
    assert "9725•••••231" in shown
    assert "Outcome: delivered" in shown


def test_an_inbound_message_is_said_to_be_one(landed):
    assert "Inbound message" in landed("parse", '{"message_uuid":"1","message_type":"text","text":"Hi"}').stdout


def test_a_probe_is_said_to_be_one(landed):
    assert "probe" in landed("parse", "-", stdin="").stdout


def test_what_is_no_receipt_is_refused_with_one_sentence(landed):
    run = landed("parse", '{"hello":"world"}')
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1)


def test_a_missing_file_is_wrong_usage(landed):
    run = landed("parse", "nowhere.json")
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1)


def test_a_signature_is_checked_when_a_secret_is_given(landed):
    run = landed("parse", BODY, "--secret", "s")
    assert run.returncode == 1
    assert "signature" in run.stderr
