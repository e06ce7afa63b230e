"""The 2023 tutorial's script, for Flask's development server and for gunicorn: both of its webhooks in one function."""

import os
from pprint import pprint

from flask import Flask, request

app = Flask(__name__)


@app.route("/webhooks/message-status", methods=["GET", "POST"])
@app.route("/webhooks/delivery-receipt", methods=["GET", "POST"])
def message_status() -> str:
    """Print the receipt, as the tutorial does."""
    data = request.get_json() if request.is_json else dict(request.form) or dict(request.args)
    pprint(data)  # noqa: T203 - it is what the tutorial is about
    return "200"


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
