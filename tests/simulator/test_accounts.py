"""The APIs that configure an account and that report on it, by plain HTTP."""

from __future__ import annotations

import socket
from contextlib import closing
from datetime import datetime, timedelta
from itertools import chain

import httpx
import pytest

from landed.simulator.clock import STEPPED
from landed.simulator.scenario import Scenario
from landed.testing import Vonage
from landed.vonage.keys import key_pair

ARRIVES, EXPIRES, BUSY, DISORDER = "447700900001", "447700900007", "447700900107", "447700900004"
UNKNOWN_ID = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
EC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEjlM7b6C/e0YluzBmfAH7YH75+Lio
D+9bMAYocDGHsqNz6x294DMYNm0Gn4Om9ZAAU8c2M8sEGyHFXhqGwfQAtA==
-----END PUBLIC KEY-----"""


class Probed:
    """A WSGI application that keeps what it is asked, and answers with the status in the path's end."""

    def __init__(self):
        self.requests = []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        length = int(environ.get("CONTENT_LENGTH") or 0)
        self.requests.append((environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], length))
        start_response(f"{path[-3:]} X" if path[-3:].isdecimal() else "200 OK", [])
        return [b""]


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """One Vonage for all tests that leave no trace in it."""
    running = Vonage(Scenario(speed=STEPPED), tmp_path_factory.getbasetemp() / "vonage")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def asking(standing):
    with httpx.Client(base_url=standing.url, auth=(standing.api_key, standing.api_secret)) as client:
        yield client


@pytest.fixture
def api(vonage):
    with httpx.Client(base_url=vonage.url, auth=(vonage.api_key, vonage.api_secret)) as client:
        yield client


@pytest.fixture
def probed(vonage):
    probed = Probed()
    probed.url = vonage.serve(probed)
    return probed


# Settings.

SPELLINGS = [
    ("moCallBackUrl", "mo-callback-url"),
    ("drCallBackUrl", "dr-callback-url"),
    ("moCallbackUrl", "mo-callback-url"),
    ("drCallbackUrl", "dr-callback-url"),
]
MISSPELT = ("moCallbackUrl", "drCallbackUrl")


def change(api, **fields):
    return api.post("/account/settings", data=fields)


def urls(api):
    answer = change(api).json()
    return answer["mo-callback-url"], answer["dr-callback-url"]


def test_settings_are_told_with_what_may_be_sent_in_a_second(asking):
    assert change(asking).json() == {
        "mo-callback-url": "",
        "dr-callback-url": "",
        "max-outbound-request": 30,
        "max-inbound-request": 30,
        "max-calls-per-second": 30,
    }


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_an_address_is_probed_without_parameters_and_saved_however_it_is_spelt_unless_told_to_be_strict(
    vonage, api, probed, strict
):
    if strict:
        vonage.setting(takes_misspelt_urls=False)
    for name, told in SPELLINGS:
        url, before = f"{probed.url}/{name}", change(api).json()[told]
        taken = not (strict and name in MISSPELT)
        probed.requests.clear()
        answer = change(api, **{name: url})
        assert (answer.status_code, answer.json()[told]) == (200, url if taken else before)
        assert probed.requests == ([("GET", f"/{name}", "", 0)] if taken else [])


def test_nothing_is_saved_when_one_address_does_not_answer_200(api, probed):
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for wrong in (f"{probed.url}/404", f"{probed.url}/204", nobody, "nowhere", "ftp://example.com/", "http://"):
            for fields in ({"drCallBackUrl": wrong}, {"moCallBackUrl": f"{probed.url}/", "drCallBackUrl": wrong}):
                answer = change(api, **fields)
                assert (answer.status_code, answer.json()["error-code"]) == (420, "420"), wrong
                assert wrong in answer.json()["error-code-label"]
    assert urls(api) == ("", "")


def test_an_empty_address_unsets_what_was(api, probed):
    change(api, moCallBackUrl=f"{probed.url}/mo", drCallBackUrl=f"{probed.url}/dr")
    change(api, drCallBackUrl="")
    assert urls(api) == (f"{probed.url}/mo", "")


# Who asks.

GUARDED = [
    ("GET", "/account/get-balance"),
    ("POST", "/account/settings"),
    ("GET", "/account/numbers"),
    ("GET", "/number/search"),
    ("POST", "/number/buy"),
    ("POST", "/number/update"),
    ("POST", "/number/cancel"),
    ("GET", "/v2/applications"),
    ("POST", "/v2/applications"),
    ("GET", "/v2/applications/any"),
    ("PUT", "/v2/applications/any"),
    ("DELETE", "/v2/applications/any"),
    ("GET", "/v2/reports/records"),
    ("POST", "/v1/messages"),
    ("POST", "/v0.1/messages"),
    ("PATCH", "/v1/messages/any"),
    ("POST", "/conversions/sms"),
]
WRONG = {
    "nothing": {},
    "another secret": {"auth": ("key", "secret")},
    "half of it": {"headers": {"authorization": "Basic a2V5"}},
    "no base64": {"headers": {"authorization": "Basic !"}},
    "no ASCII": {"headers": {"authorization": b"Basic \xe9\xe9\xe9\xe9"}},
    "no token": {"headers": {"authorization": "Bearer a.b.c"}},
    "no scheme": {"headers": {"authorization": "x"}},
    "another secret in the query": {"params": {"api_key": "key", "api_secret": "secret"}},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_who_has_no_credentials_is_told_so_in_the_form_of_what_was_asked(standing, wrong):
    with httpx.Client(base_url=standing.url) as stranger:
        for method, path in GUARDED:
            answer = stranger.request(method, path, **wrong)
            assert answer.status_code == 401, path
            if path.startswith("/v"):
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json().keys() >= {"type", "title", "detail"}
            elif path != "/conversions/sms":
                assert answer.json().keys() == {"error-code", "error-code-label"}
                assert answer.json()["error-code"] == "401"


def test_the_sms_api_says_so_with_200(standing):
    missing = httpx.post(f"{standing.url}/sms/json", data={"to": ARRIVES})
    wrong = httpx.post(f"{standing.url}/sms/json", data={"to": ARRIVES, "api_key": "key", "api_secret": "secret"})
    garbled = httpx.post(f"{standing.url}/sms/json", headers={"authorization": b"Basic \xe9\xe9\xe9\xe9"})
    answers = [(answer.status_code, answer.json()["messages"][0]["status"]) for answer in (missing, wrong, garbled)]
    assert answers == [(200, "2"), (200, "4"), (200, "4")]


def test_key_and_secret_are_taken_from_the_header_the_query_and_a_form(standing):
    pair = {"api_key": standing.api_key, "api_secret": standing.api_secret}
    for options in ({"auth": tuple(pair.values())}, {"params": pair}):
        assert httpx.get(f"{standing.url}/account/get-balance", **options).json() == {
            "value": 100.0,
            "autoReload": False,
        }
        assert httpx.get(f"{standing.url}/v2/applications", **options).json()["total_items"] == 1
    assert httpx.post(f"{standing.url}/account/settings", data=pair).status_code == 200
    assert httpx.post(f"{standing.url}/account/settings", params=pair).status_code == 200


# Applications.


def messages(**webhook):
    return {"name": "shop", "capabilities": {"messages": {"webhooks": {"status_url": webhook}}}}


BAD_APPLICATIONS = {
    "nothing": ("", None),
    "no JSON": ("{", None),
    "no UTF-8": (b"\xff", None),
    "no object": ("[]", None),
    "no name": ({}, "name"),
    "blank name": ({"name": " "}, "name"),
    "number for a name": ({"name": 1}, "name"),
    "text for capabilities": ({"name": "shop", "capabilities": "messages"}, None),
    "no key": ({"name": "shop", "keys": {"public_key": "no key"}}, "public_key"),
    "key of another kind": ({"name": "shop", "keys": {"public_key": EC_KEY}}, "public_key"),
    "number for a key": ({"name": "shop", "keys": {"public_key": 1}}, "public_key"),
    "method GET": (
        messages(address="https://example.com/", http_method="GET"),
        "messages.webhooks.status_url.http_method",
    ),
    "no URL": (messages(address="nowhere", http_method="POST"), "messages.webhooks.status_url"),
}


@pytest.mark.parametrize(("wanted", "field"), BAD_APPLICATIONS.values(), ids=BAD_APPLICATIONS)
def test_an_application_that_cannot_be_is_neither_made_nor_put_in_the_place_of_another(standing, asking, wanted, field):
    body = {"json": wanted} if isinstance(wanted, dict) else {"content": wanted}
    before = asking.get("/v2/applications").json()
    made = asking.post("/v2/applications", **body)
    put = asking.put(f"/v2/applications/{standing.application_id}", **body)
    for answer in (made, put):
        assert answer.status_code == 400
        assert [each["name"] for each in answer.json().get("invalid_parameters", [])] == ([field] if field else [])
    assert asking.get("/v2/applications").json() == before


def test_an_unknown_application_is_not_found(asking):
    for method in ("GET", "PUT", "DELETE"):
        answer = asking.request(method, "/v2/applications/none")
        assert (answer.status_code, answer.json()["title"]) == (404, "Not Found")


def test_what_is_put_replaces_all_but_the_key(vonage, api):
    path = f"/v2/applications/{vonage.application_id}"
    before = api.get(path).json()
    after = api.put(path, json={"name": "renamed"}).json()
    assert (after["id"], after["name"], after["capabilities"]) == (vonage.application_id, "renamed", {})
    assert after["keys"] == before["keys"]
    assert api.get(path).json() == after
    key = key_pair()[1]
    assert api.put(path, json={"name": "renamed", "keys": {"public_key": key}}).json()["keys"] == {"public_key": key}


def test_pages_of_applications_lead_to_each_other(vonage, api):
    for name in ("one", "two"):
        assert api.post("/v2/applications", json={"name": name}).status_code == 201
    page = api.get("/v2/applications", params={"page_size": 2, "page": 2}).json()
    assert (page["page_size"], page["page"], page["total_items"], page["total_pages"]) == (2, 2, 3, 2)
    assert [each["name"] for each in page["_embedded"]["applications"]] == ["two"]
    first = api.get(page["_links"]["first"]["href"]).json()["_embedded"]["applications"]
    assert first[0]["id"] == vonage.application_id
    assert api.get(page["_links"]["last"]["href"]).json() == page


@pytest.mark.parametrize("path", ["/v2/applications?page_size=", "/v2/applications?page="], ids=["size", "page"])
@pytest.mark.parametrize("number", ["0", "-1", "x", "1" * 5_000], ids=["none", "negative", "no number", "too long"])
def test_a_page_that_cannot_be_is_refused(asking, path, number):
    assert asking.get(path + number).status_code == 400


# Reports.


def send(api, to=ARRIVES, product="MESSAGES", text="Hello", **more):
    """The ids of what was sent; a long text of the SMS API has several."""
    if product == "SMS":
        answer = api.post("/sms/json", data={"to": to, "from": "ACME", "text": text, **more}).json()
        return [each["message-id"] for each in answer["messages"]]
    body = {"to": to, "from": "ACME", "channel": "sms", "message_type": "text", "text": text, **more}
    return [api.post("/v1/messages", json=body).json()["message_uuid"]]


def ask(vonage, api, **params):
    usual = {"account_id": vonage.api_key, "product": "MESSAGES", "direction": "outbound"}
    return api.get("/v2/reports/records", params={**usual, **params})


def ids(answer):
    return [record["message_id"] for record in answer.json()["records"]]


def span(began, ended):
    """Times as they are documented: with an offset that has no colon."""
    return {
        name: moment.strftime("%Y-%m-%dT%H:%M:%S%z") for name, moment in (("date_start", began), ("date_end", ended))
    }


@pytest.mark.parametrize("product", ["SMS", "MESSAGES"])
def test_a_record_says_what_became_of_a_message(vonage, api, product):
    ref = {"client-ref" if product == "SMS" else "client_ref": "order 7"}
    (message_id,) = send(api, product=product, **ref)
    sent_at = vonage.now.replace(microsecond=0)
    vonage.step(minutes=5)
    answer = ask(vonage, api, product=product, id=message_id).json()
    assert (answer["request_status"], answer["items_count"], answer["product"]) == ("SUCCESS", 1, product)
    (record,) = answer["records"]
    assert {name: record[name] for name in ("message_id", "account_id", "client_ref", "direction", "from", "to")} == {
        "message_id": message_id,
        "account_id": vonage.api_key,
        "client_ref": "order 7",
        "direction": "outbound",
        "from": "ACME",
        "to": ARRIVES,
    }
    assert (record["status"], record["country"], record["currency"]) == ("delivered", "GB", "EUR")
    assert record["total_price"] == "0.03330000"
    assert datetime.fromisoformat(record["date_received"]) == sent_at
    assert timedelta() <= datetime.fromisoformat(record["date_finalized"]) - sent_at < timedelta(minutes=1)
    assert record.keys() >= {"network", "network_name", "country_name", "latency"}
    assert all(isinstance(value, str) for value in record.values())


def test_each_product_has_its_own_messages(vonage, api):
    sent = {product: send(api, product=product) for product in ("SMS", "MESSAGES")}
    for product, (message_id,) in sent.items():
        answer = ask(vonage, api, product=product, id=",".join(chain(*sent.values())))
        assert ids(answer) == [message_id]
        assert answer.json()["ids_not_found"] == sent["SMS" if product == "MESSAGES" else "MESSAGES"][0]
        assert ids(ask(vonage, api, product=product, direction="inbound", id=message_id)) == []


def test_unknown_ids_are_named(vonage, api):
    (message_id,) = send(api)
    answer = ask(vonage, api, id=f"{UNKNOWN_ID},{message_id},nonsense")
    assert (ids(answer), answer.json()["ids_not_found"]) == ([message_id], f"{UNKNOWN_ID},nonsense")


def test_records_of_a_time_include_its_start_and_not_its_end(vonage, api):
    sent, began = [], vonage.now
    for _ in range(3):
        sent += send(api)
        vonage.step(hours=1)
    hour = timedelta(hours=1)
    assert ids(ask(vonage, api, **span(began, began + 24 * hour))) == sent
    assert ids(ask(vonage, api, **span(began + hour, began + 2 * hour))) == sent[1:2]
    assert ids(ask(vonage, api, **span(began - hour, began))) == []
    naive = span(began.replace(tzinfo=None), (began + hour).replace(tzinfo=None))
    assert ids(ask(vonage, api, **naive)) == sent[:1]


@pytest.mark.parametrize("product", ["SMS", "MESSAGES"])
def test_records_are_filtered_by_the_status_that_the_reports_have_for_it(vonage, api, product):
    began = vonage.now
    failed = "failed" if product == "SMS" else "rejected"
    sent = {
        status: send(api, to, product) for to, status in ((ARRIVES, "delivered"), (BUSY, failed), (EXPIRES, "expired"))
    }
    vonage.step(hours=1)
    for status, expected in sent.items():
        answer = ask(vonage, api, product=product, status=status, **span(began, vonage.now))
        assert ids(answer) == expected


BAD_REPORTS = {
    "no product": ({"product": ""}, 422),
    "another product": ({"product": "VOICE-CALL"}, 422),
    "no direction": ({"direction": ""}, 422),
    "another direction": ({"direction": "sideways"}, 422),
    "another account": ({"account_id": "another"}, 403),
    "neither ids nor dates": ({}, 422),
    "more than 20 ids": ({"id": ",".join(["x"] * 21)}, 422),
    "no end": ({"date_start": "2026-08-01T12:00:00Z"}, 422),
    "no date": ({"date_start": "yesterday", "date_end": "2026-08-01T12:00:00Z"}, 422),
    "more than a day": ({"date_start": "2026-08-01T12:00:00Z", "date_end": "2026-08-02T12:00:01Z"}, 422),
    "end before start": ({"date_start": "2026-08-01T12:00:00Z", "date_end": "2026-08-01T11:00:00Z"}, 422),
}


@pytest.mark.parametrize(("params", "status"), BAD_REPORTS.values(), ids=BAD_REPORTS)
def test_a_report_that_cannot_be_made_is_refused(standing, asking, params, status):
    answer = ask(standing, asking, **params)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().keys() >= {"type", "title", "detail"}


def test_twenty_ids_are_taken(standing, asking):
    assert ask(standing, asking, id=",".join(["x"] * 20)).status_code == 200


@pytest.mark.parametrize("product", ["SMS", "MESSAGES"])
def test_the_reports_know_what_no_receipt_could_tell(vonage, api, probed, product):
    vonage.webhooks(receipt=probed.url)
    with vonage.fault("outage"):
        (delivered,), (expired,) = (send(api, to, product) for to in (ARRIVES, EXPIRES))
        vonage.step(hours=80)
    assert probed.requests == []
    assert {callback.state for callback in vonage.callbacks()} == {"given up"}
    answer = ask(vonage, api, product=product, id=f"{delivered},{expired}").json()
    assert [record["status"] for record in answer["records"]] == ["delivered", "expired"]


@pytest.mark.parametrize("product", ["SMS", "MESSAGES"])
def test_a_report_knows_the_last_status_though_an_earlier_one_was_told_after_it(vonage, api, product):
    (message_id,) = send(api, DISORDER, product)
    vonage.step(minutes=5)
    (record,) = ask(vonage, api, product=product, id=message_id).json()["records"]
    assert record["status"] == "delivered"
    assert "date_finalized" in record


@pytest.mark.parametrize(("product", "status"), [("SMS", "accepted"), ("MESSAGES", "submitted")])
def test_what_has_no_end_yet_has_no_time_of_it(vonage, api, product, status):
    (message_id,) = send(api, EXPIRES, product)
    vonage.step(seconds=10)
    (record,) = ask(vonage, api, product=product, id=message_id).json()["records"]
    assert record["status"] == status
    assert not record.keys() & {"date_finalized", "latency"}


@pytest.mark.parametrize(("include", "body"), [("true", "Hello"), ("false", None)])
def test_a_report_has_the_text_when_it_is_asked_for(vonage, api, include, body):
    (message_id,) = send(api)
    (record,) = ask(vonage, api, id=message_id, include_message=include).json()["records"]
    assert record.get("message_body") == body


def test_a_thousand_records_lead_to_the_rest(vonage, api):
    began = vonage.now
    sent = [part for _ in range(48) for part in send(api, product="SMS", text="x" * 3_200)]
    vonage.step(minutes=5)
    first = ask(vonage, api, product="SMS", **span(began, vonage.now))
    assert (len(sent), first.json()["items_count"]) == (1_008, 1_000)
    rest = api.get(first.json()["_links"]["next"]["href"])
    assert ids(first) + ids(rest) == sent
    assert "next" not in rest.json()["_links"]


# Conversions.


def test_conversions_are_kept_where_the_account_has_them(vonage, api):
    (message_id,) = send(api, product="SMS")
    told = {"message-id": message_id, "delivered": "true", "timestamp": "2026-08-01 12:30:00"}
    assert api.post("/conversions/sms", data=told).status_code == 200
    assert api.post("/conversions/sms", params={**told, "delivered": "0"}).status_code == 200
    for missing in ("message-id", "delivered"):
        assert api.post("/conversions/sms", data={**told, missing: ""}).status_code == 420
    assert api.post("/conversions/sms", data={**told, "message-id": UNKNOWN_ID}).status_code == 420
    vonage.setting(takes_conversions=False)
    assert api.post("/conversions/sms", data=told).status_code == 402
    assert vonage.conversions() == [
        {"message_id": message_id, "delivered": delivered, "at": "2026-08-01T12:30:00Z"} for delivered in (True, False)
    ]


# Numbers.


def test_numbers_for_sale_come_page_by_page_each_once(asking):
    pages = [
        asking.get("/number/search", params={"country": "GB", "size": 7, "index": page}).json() for page in range(1, 6)
    ]
    assert {page["count"] for page in pages} == {30}
    assert [len(page["numbers"]) for page in pages] == [7, 7, 7, 7, 2]
    assert len({number["msisdn"] for page in pages for number in page["numbers"]}) == 30
    assert (
        asking.get("/number/search", params={"country": "gb"}).json()["numbers"]
        == [number for page in pages for number in page["numbers"]][:10]
    )


SEARCHES = {
    "begins": ({"pattern": "44", "search_pattern": 0}, 30),
    "begins with nothing of the kind": ({"pattern": "49", "search_pattern": 0}, 0),
    "features": ({"features": "SMS,VOICE"}, 30),
    "features that none has": ({"features": "MMS"}, 0),
    "type": ({"type": "mobile-lvn"}, 30),
    "type that none has": ({"type": "landline"}, 0),
    "no such country": ({"country": "ZZ"}, 0),
}


@pytest.mark.parametrize(("params", "count"), SEARCHES.values(), ids=SEARCHES)
def test_numbers_are_searched_and_nothing_found_is_an_empty_object(asking, params, count):
    found = asking.get("/number/search", params={"country": "GB", **params}).json()
    assert found.get("count", 0) == count
    assert count or found == {}


@pytest.mark.parametrize(("pattern", "how"), [("0", 1), ("7", 2)], ids=["contains", "ends"])
def test_numbers_are_searched_by_what_is_in_them(asking, pattern, how):
    params = {"country": "GB", "pattern": pattern, "search_pattern": how, "size": 100}
    every = [
        each["msisdn"] for each in asking.get("/number/search", params={"country": "GB", "size": 100}).json()["numbers"]
    ]
    fits = str.endswith if how == 2 else str.__contains__
    found = [each["msisdn"] for each in asking.get("/number/search", params=params).json()["numbers"]]
    assert found == [each for each in every if fits(each, pattern)] != []


BAD_SEARCHES = [
    {},
    {"country": "GBR"},
    {"country": "GB", "size": 101},
    {"country": "GB", "size": "x"},
    {"country": "GB", "index": 0},
]


@pytest.mark.parametrize("params", BAD_SEARCHES, ids=["no country", "long country", "too many", "no number", "no page"])
def test_a_search_that_cannot_be_is_refused(asking, params):
    answer = asking.get("/number/search", params=params)
    assert (answer.status_code, answer.json()["error-code"]) == (420, "420")


def test_the_account_s_numbers_come_page_by_page(api):
    found = api.get("/number/search", params={"country": "DE", "size": 3}).json()["numbers"]
    for number in found:
        bought = api.post("/number/buy", data={"country": "DE", "msisdn": number["msisdn"]})
        assert bought.json() == {"error-code": "200", "error-code-label": "success"}
    first, last = (api.get("/account/numbers", params={"size": 3, "index": index}).json() for index in (1, 2))
    assert (first["count"], last["count"]) == (4, 4)
    assert [each["msisdn"] for each in first["numbers"][1:] + last["numbers"]] == [each["msisdn"] for each in found]
    assert api.get("/account/numbers", params={"country": "GB"}).json()["count"] == 1
    assert api.get("/account/numbers", params={"has_application": "false"}).json()["count"] == 3
    assert api.get("/account/numbers", params={"pattern": "1"}).json() == {}
