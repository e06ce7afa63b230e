"""A Django application in one file that sends texts, takes what Vonage says of them, and notes which failed.

pip install landed django gunicorn
VONAGE_SIGNATURE_SECRET=… gunicorn django_app:application --workers 3 --bind :8000 --limit-request-line 8190

Each process takes webhooks, and one of them calls the handler; when that one ends, another goes on. If `landed serve`
runs in the same directory, it is the one: give it the handler, by `--handlers django_app.py`.
"""

import logging
import os
import sys

import httpx
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

import landed
from landed.handlers import HandlerEvent

SENDER = "ACME"
TABLE = "CREATE TABLE IF NOT EXISTS failed_text (order_ref TEXT PRIMARY KEY, why TEXT)"  # in earnest a model of yours

log = logging.getLogger(__name__)

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}},
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
)


@csrf_exempt  # asked by programs, not by a page with a form
@require_POST
def text_about(request: HttpRequest, order: str) -> JsonResponse:
    """Tell a customer about an order."""
    if "VONAGE_API_SECRET" not in os.environ:
        return JsonResponse({"error": "set VONAGE_API_KEY and VONAGE_API_SECRET to send"}, status=503)
    to = request.POST["to"]
    message_id = send(to, f"Your order {order} is on its way.")
    landed.track(message_id, to=to, sender=SENDER, client_ref=order)
    return JsonResponse({"message_id": message_id}, status=202)


@require_GET
def about(_: HttpRequest, order: str) -> JsonResponse:
    """Tell whether the customer has to be told by other means, and why."""
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
        cursor.execute("SELECT why FROM failed_text WHERE order_ref = %s", [order])
        row = cursor.fetchone()
    return JsonResponse({"text_failed": row[0] if row else None})


@landed.on.failed
def note_failure(event: HandlerEvent) -> None:
    """Note it at the order. It can be called twice with one event, and may not mind."""
    order, why = event.message.client_ref, event.reason.meaning if event.reason else "nobody knows why"
    with connection.cursor() as cursor:
        cursor.execute(TABLE)
        cursor.execute("INSERT OR REPLACE INTO failed_text VALUES (%s, %s)", [order, why])
    connection.close()  # as Django does behind each request
    log.warning("the text about order %s did not arrive: %s", order, why)


def send(to: str, text: str) -> str:
    """Send a text through Vonage's Messages API; its message id."""
    answer = httpx.post(
        os.environ.get("VONAGE_API_URL", "https://api.nexmo.com") + "/v1/messages",
        auth=(os.environ["VONAGE_API_KEY"], os.environ["VONAGE_API_SECRET"]),
        json={"channel": "sms", "message_type": "text", "to": to, "from": SENDER, "text": text},
        timeout=10,
    )
    message_id: str = answer.raise_for_status().json()["message_uuid"]
    return message_id


urlpatterns = [
    *landed.Webhooks(worker=landed.Worker()).urls(),  # /webhooks/message-status and its sisters
    path("orders/<order>/text", text_about),
    path("orders/<order>", about),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
