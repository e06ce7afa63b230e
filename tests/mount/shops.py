"""Applications with handlers that write down each of their calls: what began and what ended, in which process.

What a call does is told by the first word of its message's id.
"""

import asyncio
import os
import sys
import threading
import time

import landed

SLOW_SECONDS = 1.0


@landed.on.delivered
def arrived(event):
    """A plain function."""
    note("begun", event)
    doing = event.message.message_id.partition("-")[0]
    if doing == "slow":
        time.sleep(SLOW_SECONDS)
    elif doing == "bad" and event.attempt == 1:
        raise RuntimeError("as it was told")
    elif doing == "hanging":
        threading.Event().wait()
    note("ended", event)


@landed.on.failed
async def lost(event):
    """A coroutine function."""
    note("begun", event)
    if event.message.message_id.startswith("slow-"):
        await asyncio.sleep(SLOW_SECONDS)
    note("ended", event)


def note(word, event):
    """Write down a call; several processes may."""
    line = f"{word} {event.message.message_id} {os.getpid()} {event.attempt}\n"
    file = os.open(os.environ["TEST_CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def mounted():
    """The webhooks of a shop."""
    return landed.Webhooks(worker=landed.Worker())


def flask():
    """A Flask application."""
    from flask import Flask  # noqa: PLC0415 - one of them is used

    app = Flask(__name__)
    app.register_blueprint(mounted().blueprint())
    return app


def django():
    """A Django application."""
    from django.conf import settings  # noqa: PLC0415 - the same
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415 - the same

    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="of this test", ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
    sys.modules[__name__].urlpatterns = mounted().urls()
    return get_wsgi_application()


def fastapi():
    """A FastAPI application."""
    from fastapi import FastAPI  # noqa: PLC0415 - the same

    webhooks = mounted()
    app = FastAPI(lifespan=webhooks.lifespan)
    app.mount("/webhooks", webhooks.asgi)
    return app


def asgi():
    """Nothing but the webhooks, which have their own lifespan."""
    return mounted().asgi
