"""A Django application in one file that sends texts, and takes what Vonage says of them.

pip install landed django
VONAGE_SIGNATURE_SECRET=… python django_app.py runserver 8000
landed serve --role worker    # beside it, in the same directory: says what became of each message
"""

import os
import sys

import httpx
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

import landed

SENDER = "ACME"

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["*"],
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
    *landed.Webhooks().urls(),  # /webhooks/message-status and its sisters
    path("orders/<order>/text", text_about),
]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
