"""The mount under servers of its own, beside the examples."""

import os

import landed

webhooks = landed.Webhooks(prefix=os.environ.get("TEST_PREFIX", ""))
wsgi = webhooks.wsgi
asgi = webhooks.asgi
