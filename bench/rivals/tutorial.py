"""The 2023 tutorial's script, for Flask's development server and for gunicorn."""

import logging
import os

from flask import Flask, request

app = Flask(__name__)
logging.getLogger("werkzeug").disabled = True


@app.route("/webhooks/message-status", methods=["GET", "POST"])
@app.route("/webhooks/delivery-receipt", methods=["GET", "POST"])
def message_status() -> str:
    """Take the receipt as the tutorial does, but for printing it."""
    _data = request.get_json() if request.is_json else dict(request.form) or dict(request.args)
    return "200"


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
