"""Vonage's Python SDK, unmodified, against the simulated Vonage, over https."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import vonage_application as applications
import vonage_messages.models as message
from vonage_account import Account
from vonage_http_client import (
    Auth,
    AuthenticationError,
    HttpClient,
    HttpClientOptions,
    HttpRequestError,
    NotFoundError,
    RateLimitedError,
    ServerError,
)
from vonage_messages import Messages
from vonage_numbers import (
    ListOwnedNumbersFilter,
    NumberParams,
    Numbers,
    SearchAvailableNumbersFilter,
    UpdateNumberParams,
)
from vonage_sms import PartialFailureError, Sms, SmsError, SmsMessage

import landed
from landed.domain.receipt import Api
from landed.simulator.clock import STEPPED
from landed.simulator.scenario import Scenario
from landed.testing import Vonage

TO, FROM, PAGE_ID = "447700900001", "ACME", "1002003004005006"
MEDIA = {"url": "https://example.com/media"}
CARD = {"title": "Sofa", "text": "A red one", "media_url": "https://example.com/sofa.jpg", "media_height": "SHORT"}
REPLY = message.RcsSuggestionReply(text="Yes", postback_data="yes")
LONG_TEXT = "x" * 400


class Receiver:
    """A WSGI application that keeps what it is asked, and answers each with the same status."""

    def __init__(self, status="200 OK"):
        self.status = status
        self.requests = []
        self.url = ""

    def __call__(self, environ, start_response):
        headers = {"authorization": environ.get("HTTP_AUTHORIZATION", ""), "content-type": environ["CONTENT_TYPE"]}
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.requests.append(
            (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), headers, body)
        )
        start_response(self.status, [])
        return [b""]

    @property
    def paths(self):
        return [path for _method, path, *_rest in self.requests]

    def heard(self, vonage, *message_ids):
        """Paths and receipts of these messages, or of all, as they came; each is signed by the account."""
        heard = [
            (request[1], fact)
            for request in self.requests
            for fact in landed.parse(*request, secrets=vonage.signature_secret, now=datetime.now(UTC))
        ]
        assert all(fact.verified and not fact.stale for _path, fact in heard)
        return [(path, fact) for path, fact in heard if not message_ids or fact.message_id in message_ids]

    def bodies(self, message_id):
        """The methods and bodies of the requests that told of a message."""
        return [(each[0], each[4]) for each in self.requests if message_id in f"{each[2]}{each[4]}"]

    def said(self, vonage, *message_ids):
        """Where it came, and what it said."""
        return [(path, fact.provider_status) for path, fact in self.heard(vonage, *message_ids)]


@pytest.fixture
def receiver(vonage):
    return received_by(vonage)


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """One Vonage for all tests that leave no trace in it but messages."""
    running = Vonage(Scenario(speed=STEPPED), tmp_path_factory.getbasetemp() / "vonage")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running
        running.stop()


@pytest.fixture(scope="module")
def told(standing):
    """Who is told what becomes of the messages of the standing one."""
    return received_by(standing)


def received_by(vonage):
    receiver = Receiver()
    receiver.url = vonage.serve(receiver)
    vonage.webhooks(status=f"{receiver.url}/status", receipt=f"{receiver.url}/receipt")
    return receiver


def client(vonage, **credentials):
    options = HttpClientOptions(api_host=vonage.host, rest_host=vonage.host, pool_maxsize=1, max_retries=0, timeout=10)
    return HttpClient(Auth(**credentials), options)


def by_application(vonage, application_id=None, private_key=None):
    return client(
        vonage,
        application_id=application_id or vonage.application_id,
        private_key=private_key or vonage.private_key,
    )


def by_account(vonage, **changed):
    return client(vonage, **({"api_key": vonage.api_key, "api_secret": vonage.api_secret} | changed))


def text(to=TO, **options):
    return message.Sms(to=to, from_=FROM, text=options.pop("text", "Hello"), **options)


def sms(to=TO, **options):
    return SmsMessage(to=to, from_=FROM, text=options.pop("text", "Hello"), **options)


# Messages API: every model that the SDK has.

PARTIES = {"to": TO, "from_": FROM, "client_ref": "order 7"}
PAGES = {"to": PAGE_ID, "from_": "2003004005006007", "client_ref": "order 7"}
MODELS = [
    message.Sms(**PARTIES, text="Hello", ttl=3_600, sms={"encoding_type": "unicode", "entity_id": "1"}),
    message.MmsText(**PARTIES, text="Hello", ttl=600),
    message.MmsImage(**PARTIES, image={**MEDIA, "caption": "A sofa"}),
    message.MmsVcard(**PARTIES, vcard=MEDIA),
    message.MmsAudio(**PARTIES, audio=MEDIA),
    message.MmsVideo(**PARTIES, video=MEDIA),
    message.MmsFile(**PARTIES, file=MEDIA),
    message.MmsContent(**PARTIES, content=[message.MmsContentItemImage(**MEDIA), message.MmsContentItemVcard(**MEDIA)]),
    message.RcsText(**PARTIES, text="Hello", ttl=600, suggestions=[REPLY]),
    message.RcsImage(**PARTIES, image=MEDIA),
    message.RcsVideo(**PARTIES, video=MEDIA),
    message.RcsFile(**PARTIES, file=MEDIA),
    message.RcsCardMessage(**PARTIES, card=CARD, rcs={"card_orientation": "VERTICAL"}),
    message.RcsCarouselMessage(**PARTIES, carousel={"cards": [CARD, CARD]}, rcs={"card_width": "SMALL"}),
    message.RcsCustom(**PARTIES, custom={"contentMessage": {"text": "Hello"}}),
    message.WhatsappText(**PARTIES, text="Hello", context={"message_uuid": "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"}),
    message.WhatsappImage(**PARTIES, image={**MEDIA, "caption": "A sofa"}),
    message.WhatsappAudio(**PARTIES, audio=MEDIA),
    message.WhatsappVideo(**PARTIES, video=MEDIA),
    message.WhatsappFile(**PARTIES, file={**MEDIA, "name": "sofa.pdf"}),
    message.WhatsappTemplate(**PARTIES, template={"name": "ns:verify", "parameters": ["1234"]}),
    message.WhatsappSticker(**PARTIES, sticker=message.WhatsappStickerUrl(**MEDIA)),
    message.WhatsappSticker(**PARTIES, sticker=message.WhatsappStickerId(id="7")),
    message.WhatsappCustom(**PARTIES, custom={"type": "contacts", "contacts": []}),
    message.MessengerText(**PAGES, text="Hello", messenger={"category": "message_tag", "tag": "POST_PURCHASE_UPDATE"}),
    message.MessengerImage(**PAGES, image=MEDIA),
    message.MessengerAudio(**PAGES, audio=MEDIA),
    message.MessengerVideo(**PAGES, video=MEDIA),
    message.MessengerFile(**PAGES, file=MEDIA),
    message.ViberText(**PARTIES, text="Hello", viber_service={"category": "transaction", "ttl": 30}),
    message.ViberImage(**PARTIES, image=MEDIA, viber_service={"action": {**MEDIA, "text": "Look"}}),
    message.ViberVideo(
        **PARTIES,
        video={**MEDIA, "thumb_url": "https://example.com/thumb"},
        viber_service={"duration": "10", "file_size": "5"},
    ),
    message.ViberFile(**PARTIES, file={**MEDIA, "name": "sofa.pdf"}),
]


def name_of(each):
    return type(each).__name__


def test_the_table_of_messages_has_every_model_of_the_sdk():
    classes = [each for each in vars(message).values() if isinstance(each, type)]
    sendable = {each for each in classes if issubclass(each, message.BaseMessage) and "channel" in each.model_fields}
    assert sendable == set(map(type, MODELS))


@pytest.mark.parametrize("each", MODELS, ids=name_of)
def test_every_message_of_the_sdk_is_taken_and_its_statuses_come_signed(standing, told, each):
    standing.choose(each.to, "delivered")
    message_id = Messages(by_application(standing)).send(each).message_uuid
    standing.step(minutes=5)
    assert [
        (path, fact.api, fact.channel, fact.provider_status, fact.to, fact.sender, fact.client_ref)
        for path, fact in told.heard(standing, message_id)
    ] == [
        ("/status", Api.MESSAGES, each.channel, status, each.to, each.from_, "order 7")
        for status in ("submitted", "delivered")
    ]


CHANNELS = ["sms", "mms", "rcs", "whatsapp", "messenger", "viber"]


# https://developer.vonage.com/en/messages/concepts/messages-status-callbacks
@pytest.mark.parametrize(
    ("each", "tells"),
    [
        (message.Sms(**PARTIES, text="Hello"), False),
        (message.MmsText(**PARTIES, text="Hello"), False),
        (message.RcsText(**PARTIES, text="Hello"), True),
        (message.WhatsappText(**PARTIES, text="Hello"), True),
        (message.MessengerText(**PAGES, text="Hello"), True),
        (message.ViberText(**PARTIES, text="Hello"), True),
    ],
    ids=CHANNELS,
)
def test_channels_tell_that_a_message_was_read_but_sms_and_mms_do_not(standing, told, each, tells):
    read = each.model_copy(update={"to": "447700900014"})
    sent = Messages(by_application(standing)).send(read)
    standing.step(minutes=5)
    said = [status for _path, status in told.said(standing, sent.message_uuid)]
    assert said == ["submitted", "delivered", *(["read"] if tells else [])]


# https://developer.vonage.com/en/api/messages: what each channel's text is limited to.
@pytest.mark.parametrize(
    "each",
    [
        message.RcsText(**PARTIES, text="x" * 3_072),
        message.WhatsappText(**PARTIES, text="x" * 4_096),
        message.MessengerText(**PAGES, text="x" * 640),
        message.ViberText(**PARTIES, text="x" * 1_000),
        message.Sms(**PARTIES, text="x" * 3_200),
    ],
    ids=name_of,
)
def test_the_longest_text_of_each_channel_is_taken(standing, each):
    assert Messages(by_application(standing)).send(each).message_uuid


def test_what_the_account_sends_by_key_and_secret_is_told_at_the_account_s_url(standing, told):
    sent = Messages(by_account(standing)).send(text())
    standing.step(minutes=5)
    assert told.said(standing, sent.message_uuid) == [("/receipt", "submitted"), ("/receipt", "delivered")]


def test_a_rejected_message_falls_over_to_the_next(vonage, receiver):
    whatsapp = message.WhatsappText(to="447700900102", from_=FROM, text="Hello")
    sent = Messages(by_application(vonage)).send(whatsapp, failover=[text()])
    vonage.step(minutes=5)
    facts = [fact for _path, fact in receiver.heard(vonage)]
    assert [(fact.channel, fact.provider_status, fact.workflow.items_number) for fact in facts] == [
        ("whatsapp", "submitted", "1"),
        ("whatsapp", "rejected", "1"),
        ("sms", "submitted", "2"),
        ("sms", "delivered", "2"),
    ]
    assert {fact.workflow.items_total for fact in facts} == {"2"}
    assert {fact.workflow.workflow_id for fact in facts} == {sent.workflow_id}
    assert facts[0].message_id == sent.message_uuid != facts[-1].message_id


def test_a_message_may_say_where_its_statuses_go(standing, told):
    sent = Messages(by_application(standing)).send(text(webhook_url=f"{told.url}/own"))
    standing.step(minutes=5)
    assert told.said(standing, sent.message_uuid) == [("/own", "submitted"), ("/own", "delivered")]


def test_a_message_may_want_its_statuses_in_the_form_of_v0_1(standing, told):
    sent = Messages(by_application(standing)).send(text(webhook_version="v0.1"))
    standing.step(minutes=5)
    assert told.said(standing, sent.message_uuid) == [("/status", "submitted"), ("/status", "delivered")]
    bodies = [json.loads(body) for _method, body in told.bodies(sent.message_uuid)]
    assert [(body["to"], "channel" in body) for body in bodies] == [({"type": "sms", "number": TO}, False)] * 2


def test_an_application_may_want_all_its_statuses_in_the_form_of_v0_1(standing, told):
    wanted = config("old", f"{told.url}/old", version="v0.1")
    made = applications.Application(by_account(standing)).create_application(wanted)
    messages = Messages(by_application(standing, made.id, made.keys.private_key))
    old, new = (messages.send(text(webhook_version=version)) for version in (None, "v1"))
    standing.step(minutes=5)
    assert told.said(standing, old.message_uuid, new.message_uuid) == [
        *([("/old", "submitted")] * 2),
        *([("/old", "delivered")] * 2),
    ]
    for sent, to in ((old, {"type": "sms", "number": TO}), (new, TO)):
        assert [json.loads(body)["to"] for _method, body in told.bodies(sent.message_uuid)] == [to] * 2


def test_an_rcs_message_is_revoked_and_one_that_was_never_sent_is_not_found(standing):
    messages = Messages(by_application(standing))
    sent = messages.send(message.RcsText(**PARTIES, text="Hello"))
    messages.revoke_rcs_message(sent.message_uuid)
    with pytest.raises(NotFoundError):
        messages.mark_whatsapp_message_read("aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab")


# SMS API.


@pytest.mark.parametrize(
    ("webhook_format", "form"),
    [("GET", ("GET", b"")), ("POST", ("POST", b"m")), ("POST-JSON", ("POST", b"{"))],
    ids=["GET", "POST", "POST-JSON"],
)
def test_an_sms_is_told_of_in_the_account_s_format(standing, told, webhook_format, form):
    standing.setting(webhook_format=webhook_format)
    (sent,) = Sms(by_account(standing)).send(sms(client_ref="order 7", account_ref="shop")).messages
    assert (sent.status, sent.to, sent.client_ref, sent.account_ref) == ("0", TO, "order 7", "shop")
    standing.step(minutes=5)
    assert [
        (path, fact.api, fact.provider_status, fact.to, fact.client_ref, fact.api_key, fact.network)
        for path, fact in told.heard(standing, sent.message_id)
    ] == [
        ("/receipt", Api.SMS, status, TO, "order 7", standing.api_key, sent.network)
        for status in ("accepted", "delivered")
    ]
    assert [(method, body[:1]) for method, body in told.bodies(sent.message_id)] == [form] * 2


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"text": "x" * 160}, 1),
        ({"text": LONG_TEXT}, 3),
        ({"text": "€" * 80}, 1),
        ({"text": "€" * 81}, 2),
        ({"text": "ж" * 70, "type": "unicode"}, 1),
        ({"text": "ж" * 71, "type": "unicode"}, 2),
        ({"text": "", "type": "binary", "body": "48656c6c6f", "udh": "06050415811581"}, 1),
    ],
    ids=["short", "long", "twice as wide", "wide and long", "unicode", "long unicode", "binary"],
)
def test_each_part_of_an_sms_has_an_id_a_price_and_receipts_of_its_own(standing, told, options, parts):
    sent = Sms(by_account(standing)).send(sms(**options))
    standing.step(minutes=5)
    assert sent.message_count == str(parts) == str(len({each.message_id for each in sent.messages}))
    assert {each.message_price for each in sent.messages} == {"0.03330000"}
    for each in sent.messages:
        assert told.said(standing, each.message_id) == [("/receipt", "accepted"), ("/receipt", "delivered")]


def test_an_sms_may_say_where_its_receipts_go(standing, told):
    (sent,) = Sms(by_account(standing)).send(sms(callback=f"{told.url}/own")).messages
    standing.step(minutes=5)
    assert told.said(standing, sent.message_id) == [("/own", "accepted"), ("/own", "delivered")]


def test_an_sms_that_wants_no_receipts_has_none_and_arrives(standing, told):
    (sent,) = Sms(by_account(standing)).send(sms(status_report_req=False)).messages
    standing.step(minutes=5)
    assert told.said(standing, sent.message_id) == []
    assert standing.messages()[-1].truth.arrived_at is not None


def test_an_sms_expires_when_its_time_to_live_is_over(standing, told):
    (sent,) = Sms(by_account(standing)).send(sms("447700900023", ttl=60_000)).messages
    standing.step(seconds=59)
    assert ("/receipt", "expired") not in told.said(standing, sent.message_id)
    standing.step(minutes=1)
    assert told.said(standing, sent.message_id)[-1] == ("/receipt", "expired")


# Who asks, and what is not taken.


@pytest.mark.parametrize("changed", [{"api_secret": "another"}, {"api_key": "another"}], ids=["secret", "key"])
def test_a_wrong_key_or_secret_is_told_in_the_way_of_each_api(vonage, changed):
    wrong = by_account(vonage, **changed)
    with pytest.raises(AuthenticationError):
        Messages(wrong).send(text())
    with pytest.raises(AuthenticationError):
        Account(wrong).get_balance()
    with pytest.raises(AuthenticationError):
        applications.Application(wrong).list_applications()
    with pytest.raises(AuthenticationError):
        Numbers(wrong).list_owned_numbers()
    with pytest.raises(SmsError, match="error code 4"):
        Sms(wrong).send(sms())
    assert vonage.messages() == []


def test_an_unknown_application_and_the_key_of_another_are_refused(standing):
    other = applications.Application(by_account(standing)).create_application(
        applications.ApplicationConfig(name="other")
    )
    for application_id, key in (("no-such-application", standing.private_key), (None, other.keys.private_key)):
        with pytest.raises(AuthenticationError):
            Messages(by_application(standing, application_id, key)).send(text())


def test_who_sends_too_fast_is_told_to_wait(vonage):
    vonage.setting(throughput=2)
    messages, short = Messages(by_application(vonage)), Sms(by_account(vonage))
    messages.send(text())
    short.send(sms())
    with pytest.raises(RateLimitedError) as limited:
        messages.send(text())
    with pytest.raises(SmsError, match=r"error code 1: Throughput Rate Exceeded - please wait \[ \d+ \] and retry"):
        short.send(sms())
    vonage.step(seconds=float(limited.value.response.headers["retry-after"]))
    messages.send(text())
    short.send(sms())


# The last two digits are the status by which the SMS API refuses.
@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("01", 429, RateLimitedError),
        ("04", 401, AuthenticationError),
        ("05", 500, ServerError),
        ("07", 422, HttpRequestError),
        ("09", 402, HttpRequestError),
        ("15", 422, HttpRequestError),
        ("29", 422, HttpRequestError),
    ],
)
def test_numbers_are_refused_through_both_apis(standing, code, status, error):
    to = f"4477009007{code}"
    with pytest.raises(error) as refused:
        Messages(by_application(standing)).send(text(to))
    assert refused.value.response.status_code == status
    assert refused.value.response.json().keys() >= {"type", "title", "detail", "instance"}
    with pytest.raises(SmsError, match=f"error code {int(code)}:"):
        Sms(by_account(standing)).send(sms(to))


def test_of_a_long_text_the_last_part_may_be_refused_alone(vonage):
    with pytest.raises(PartialFailureError) as failure:
        Sms(by_account(vonage)).send(sms("447700900799", text="x" * 400))
    statuses = [part["status"] for part in failure.value.response["messages"]]
    assert (statuses, len(vonage.messages())) == (["0", "0", "5"], 2)


@pytest.mark.vonage(balance=Decimal("0.05"))
def test_without_money_nothing_is_sent(vonage):
    messages = Messages(by_application(vonage))
    messages.send(text())
    with pytest.raises(HttpRequestError) as refused:
        messages.send(text())
    assert refused.value.response.status_code == 402
    with pytest.raises(SmsError, match="error code 9"):
        Sms(by_account(vonage)).send(sms())


@pytest.mark.vonage(balance=Decimal("0.05"))
def test_a_text_that_costs_more_than_is_left_is_not_sent(vonage):
    with pytest.raises(HttpRequestError) as refused:
        Messages(by_application(vonage)).send(text(text=LONG_TEXT))
    assert refused.value.response.status_code == 402
    assert Account(by_account(vonage)).get_balance().value == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("each", "field"),
    [
        (text(text=""), "text"),
        (text(webhook_url="nowhere"), "webhook_url"),
        (message.WhatsappCustom(**PARTIES), "custom"),
        (message.MmsImage(**PARTIES, image={"url": ""}), "image.url"),
        (message.Sms(to=TO, from_="", text="Hello"), "from"),
    ],
    ids=["no text", "no url", "no content", "no media", "no sender"],
)
def test_what_the_sdk_lets_pass_and_vonage_does_not_is_told_by_field(standing, each, field):
    with pytest.raises(HttpRequestError) as refused:
        Messages(by_application(standing)).send(each)
    assert refused.value.response.status_code == 422
    assert [invalid["name"] for invalid in refused.value.response.json()["invalid_parameters"]] == [field]


@pytest.mark.parametrize(
    ("options", "code"),
    [({"text": ""}, 2), ({"to": "123"}, 3), ({"text": "x" * 3_201}, 12), ({"callback": "nowhere"}, 23)],
    ids=["no text", "no number", "too long", "no url"],
)
def test_an_sms_that_is_not_taken_has_the_status_that_says_why(standing, options, code):
    with pytest.raises(SmsError, match=f"error code {code}:"):
        Sms(by_account(standing)).send(sms(**options))


@pytest.mark.parametrize("method", ["md5", "sha1", "sha256", "sha512"])
def test_the_sdk_signs_parameters_that_it_then_does_not_send_so_its_signed_sms_are_refused(standing, method):
    signing = client(
        standing, api_key=standing.api_key, signature_secret=standing.signature_secret, signature_method=method
    )
    with pytest.raises(SmsError, match="error code 14:"):
        Sms(signing).send(sms())
    # Those that are None are in its signature, and not in its form; without them the signature holds.
    sent = sms().model_dump(by_alias=True, exclude_none=True)
    assert signing.post(standing.host, "/sms/json", sent, "signature", "form")["messages"][0]["status"] == "0"


# Applications.


def config(name, status_url=None, version="v1", **options):
    """An application that sends messages."""
    if status_url is not None:
        address = applications.ApplicationUrl(address=status_url, http_method="POST")
        webhooks = applications.MessagesWebhooks(status_url=address)
        options["capabilities"] = applications.Capabilities(
            messages=applications.Messages(webhooks=webhooks, version=version)
        )
    return applications.ApplicationConfig(name=name, **options)


def test_an_application_that_was_made_sends_with_the_key_that_was_made_for_it(vonage, receiver):
    wanted = config("shop", f"{receiver.url}/shop")
    made = applications.Application(by_account(vonage)).create_application(wanted)
    Messages(by_application(vonage, made.id, made.keys.private_key)).send(text())
    vonage.step(minutes=5)
    assert receiver.said(vonage) == [("/shop", "submitted"), ("/shop", "delivered")]


def test_an_application_keeps_its_key_to_itself_once_made_and_makes_none_when_given_one(standing):
    api = applications.Application(by_account(standing))
    made = api.create_application(config("shop"))
    assert "PRIVATE KEY" in made.keys.private_key
    assert api.get_application(made.id).keys.model_dump() == {"public_key": made.keys.public_key}
    given = api.create_application(config("other", keys=applications.Keys(public_key=made.keys.public_key)))
    assert given.keys.model_dump() == {"public_key": made.keys.public_key}


def test_an_application_is_replaced_and_deleted(vonage, receiver):
    api = applications.Application(by_account(vonage))
    made = api.create_application(config("shop", f"{receiver.url}/shop"))
    messages = Messages(by_application(vonage, made.id, made.keys.private_key))

    updated = api.update_application(made.id, config("renamed", f"{receiver.url}/renamed"))
    assert updated == api.get_application(made.id)
    assert (updated.id, updated.name) == (made.id, "renamed")
    assert updated.capabilities.messages.webhooks.status_url.address == f"{receiver.url}/renamed"
    messages.send(text())
    vonage.step(minutes=5)
    assert set(receiver.paths) == {"/renamed"}

    api.delete_application(made.id)
    with pytest.raises(AuthenticationError):
        messages.send(text())
    for gone in (
        lambda: api.get_application(made.id),
        lambda: api.update_application(made.id, config("again")),
        lambda: api.delete_application(made.id),
    ):
        with pytest.raises(NotFoundError):
            gone()


def test_applications_are_listed_page_by_page(vonage):
    api = applications.Application(by_account(vonage))
    made = [api.create_application(config(name)).id for name in ("one", "two")]
    found, page = [], 1
    while page is not None:
        listed, page = api.list_applications(applications.ListApplicationsFilter(page_size=2, page=page))
        found.append([each.id for each in listed])
    assert found == [[vonage.application_id, made[0]], [made[1]]]


# The account.


def test_the_account_s_webhooks_are_saved_told_and_unset(vonage, receiver):
    account = Account(by_account(vonage))
    saved = account.update_default_sms_webhook(f"{receiver.url}/inbound", f"{receiver.url}/new")
    assert (saved.mo_callback_url, saved.dr_callback_url) == (f"{receiver.url}/inbound", f"{receiver.url}/new")
    assert [(method, path) for method, path, *_ in receiver.requests] == [("GET", "/inbound"), ("GET", "/new")]
    receiver.requests.clear()

    Sms(by_account(vonage)).send(sms())
    vonage.step(minutes=5)
    assert set(receiver.paths) == {"/new"}
    receiver.requests.clear()

    unset = account.update_default_sms_webhook(dr_callback_url="")
    assert (unset.mo_callback_url, unset.dr_callback_url) == (f"{receiver.url}/inbound", "")
    Sms(by_account(vonage)).send(sms())
    vonage.step(minutes=5)
    assert receiver.requests == []


def test_an_address_that_does_not_answer_200_is_not_saved(vonage, receiver):
    account = Account(by_account(vonage))
    receiver.status = "404 Not Found"
    with pytest.raises(HttpRequestError) as refused:
        account.update_default_sms_webhook(dr_callback_url=f"{receiver.url}/new")
    assert refused.value.response.status_code == 420
    assert account.update_default_sms_webhook().dr_callback_url == f"{receiver.url}/receipt"


def test_a_client_that_has_sent_json_goes_on_calling_its_forms_json_and_they_are_read(vonage, receiver):
    shared = by_account(vonage)
    applications.Application(shared).create_application(config("shop"))
    saved = Account(shared).update_default_sms_webhook(dr_callback_url=f"{receiver.url}/new")
    assert shared.last_request.headers["content-type"] == "application/json"
    assert shared.last_request.body.startswith("drCallbackUrl=http")
    assert saved.dr_callback_url == f"{receiver.url}/new"
    assert Sms(shared).send(sms()).messages[0].status == "0"


def test_the_balance_falls_with_what_is_sent(vonage):
    account = Account(by_account(vonage))
    assert (account.get_balance().value, account.get_balance().auto_reload) == (100.0, False)
    Messages(by_application(vonage)).send(text(text=LONG_TEXT))
    left = Sms(by_account(vonage)).send(sms()).messages[0].remaining_balance
    assert account.get_balance().value == pytest.approx(100 - 4 * 0.0333) == pytest.approx(float(left))


# Numbers.


def test_a_number_is_found_bought_linked_and_given_back(vonage):
    numbers = Numbers(by_account(vonage))
    (found, *_), count, following = numbers.search_available_numbers(SearchAvailableNumbersFilter(country="GB", size=5))
    assert (found.country, found.features, count, following) == ("GB", ["SMS", "VOICE"], 30, 2)
    number = {"country": "GB", "msisdn": found.msisdn}

    assert numbers.buy_number(NumberParams(**number)).error_code == "200"
    exactly = {"pattern": found.msisdn, "search_pattern": 0}
    available, *_ = numbers.search_available_numbers(SearchAvailableNumbersFilter(country="GB", **exactly))
    assert available == []

    def owned(**wanted):
        return numbers.list_owned_numbers(ListOwnedNumbersFilter(**exactly, **wanted))[0]

    assert [(each.msisdn, each.app_id) for each in owned()] == [(found.msisdn, None)]
    numbers.update_number(UpdateNumberParams(**number, app_id=vonage.application_id))
    assert [each.app_id for each in owned(application_id=vonage.application_id)] == [vonage.application_id]
    assert owned(has_application=False) == []
    numbers.update_number(UpdateNumberParams(**number, mo_http_url="https://example.com/inbound"))
    assert [(each.mo_http_url, each.app_id) for each in owned(has_application=False)] == [
        ("https://example.com/inbound", None)
    ]

    assert numbers.cancel_number(NumberParams(**number)).error_code == "200"
    assert owned() == []


def test_the_account_has_a_number_from_the_start_linked_to_its_application(standing):
    (number,), count, following = Numbers(by_account(standing)).list_owned_numbers()
    assert (number.country, number.app_id, count, following) == ("GB", standing.application_id, 1, None)


@pytest.mark.parametrize(
    "failing",
    [
        lambda numbers: numbers.buy_number(NumberParams(country="GB", msisdn="447700900999")),
        lambda numbers: numbers.cancel_number(NumberParams(country="GB", msisdn="447700900998")),
        lambda numbers: numbers.cancel_number(NumberParams(country="DE", msisdn="447700900999")),
        lambda numbers: numbers.update_number(UpdateNumberParams(country="GB", msisdn="447700900998")),
        lambda numbers: numbers.update_number(UpdateNumberParams(country="GB", msisdn="447700900999", app_id="none")),
    ],
    ids=["buy one's own", "cancel another's", "cancel elsewhere", "update another's", "link to no application"],
)
def test_what_cannot_be_done_with_a_number_is_told_with_420(standing, failing):
    with pytest.raises(HttpRequestError) as refused:
        failing(Numbers(by_account(standing)))
    assert refused.value.response.status_code == 420
    assert refused.value.response.json()["error-code"] == "420"
    assert len(Numbers(by_account(standing)).list_owned_numbers()[0]) == 1


# Conversions.


def test_conversions_are_kept(vonage):
    short = Sms(by_account(vonage))
    first, second = (short.send(sms()).messages[0].message_id for _ in range(2))
    short.submit_sms_conversion(first, delivered=True, timestamp=datetime(2026, 8, 1, 12, 30, tzinfo=UTC))
    short.submit_sms_conversion(second, delivered=False)
    kept = vonage.conversions()
    assert [(each["message_id"], each["delivered"]) for each in kept] == [(first, True), (second, False)]
    assert kept[0]["at"] == "2026-08-01T12:30:00Z"


def test_conversions_want_a_known_message_and_an_account_that_has_them(vonage):
    short = Sms(by_account(vonage))
    message_id = short.send(sms()).messages[0].message_id
    with pytest.raises(HttpRequestError) as unknown:
        short.submit_sms_conversion("aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab")
    vonage.setting(takes_conversions=False)
    with pytest.raises(HttpRequestError) as disabled:
        short.submit_sms_conversion(message_id)
    assert (unknown.value.response.status_code, disabled.value.response.status_code) == (420, 402)
    assert vonage.conversions() == []
