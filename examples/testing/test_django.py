"""A Django application in one file that sends texts over HTTP, tested against an offline Vonage.

pip install landed django httpx pyjwt pytest
pytest test_django.py
"""

import json
import os

import django
import httpx
import jwt
import pytest
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

# The application. It believes signed webhooks alone, and answers 5xx where the signature is missing, so that a signed
# one comes.

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="of this example", ALLOWED_HOSTS=["*"])  # noqa: S106
    django.setup()

statuses: dict[str, list[str]] = {}


@csrf_exempt
def send(request: HttpRequest) -> HttpResponse:
    """Send a text to somebody."""
    answer = httpx.post(
        os.environ.get("VONAGE_API_URL", "https://api.nexmo.com") + "/v1/messages",
        auth=(os.environ["VONAGE_API_KEY"], os.environ["VONAGE_API_SECRET"]),
        json={"channel": "sms", "message_type": "text", "to": request.POST["to"], "from": "ACME", "text": "Hello"},
        timeout=10,
    )
    return JsonResponse(answer.json(), status=answer.status_code)


@csrf_exempt
def message_status(request: HttpRequest) -> HttpResponse:
    """Take a status that Vonage signed."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not token:
        return HttpResponse("unsigned", status=503)
    try:
        jwt.decode(token, os.environ["VONAGE_SIGNATURE_SECRET"], algorithms=["HS256"], leeway=60)
    except jwt.PyJWTError:
        return HttpResponse("not signed by Vonage", status=401)
    status = json.loads(request.body)
    statuses.setdefault(status["message_uuid"], []).append(status["status"])
    return HttpResponse(status=200)


urlpatterns = [path("send", send), path("webhooks/message-status", message_status)]

# The tests.


@pytest.fixture
def client(vonage) -> Client:
    """The application on a port of its own, which Vonage calls back, and a client to it."""
    statuses.clear()
    # Statuses of what is sent with key and secret go to the account's own URL.
    vonage.webhooks(receipt=vonage.serve(get_wsgi_application()) + "/webhooks/message-status")
    return Client()


def test_a_text_that_arrives_is_known_to_have(vonage, client) -> None:
    """The happy path."""
    message_id = client.post("/send", {"to": "447700900001"}).json()["message_uuid"]
    vonage.step(minutes=1)
    assert statuses == {message_id: ["submitted", "delivered"]}


def test_an_unsigned_webhook_is_refused_and_its_signed_copy_taken(vonage, client) -> None:
    """447700900018 is called back unsigned at first, as after an error within Vonage."""
    message_id = client.post("/send", {"to": "447700900018"}).json()["message_uuid"]
    vonage.step(minutes=1)
    assert sorted(statuses[message_id]) == ["delivered", "submitted"]
    assert [attempt.status for attempt in vonage.callbacks()[0].attempts] == [503, 200]


def test_a_forged_webhook_is_not_believed(vonage, client) -> None:
    """A wrong secret, for as long as the fault lasts."""
    with vonage.fault("wrong-secret"):
        client.post("/send", {"to": "447700900001"})
        vonage.step(minutes=1)
    assert statuses == {}
    assert {callback.state for callback in vonage.callbacks()} == {"dropped"}


@pytest.mark.parametrize(("to", "status"), [("447700900701", 429), ("447700900709", 402), ("0", 422)])
def test_a_send_that_vonage_refuses_is_passed_on(vonage, client, to, status) -> None:
    """4477009007NN refuses with the status NN of the SMS API, and with what the Messages API makes of it."""
    assert client.post("/send", {"to": to}).status_code == status
