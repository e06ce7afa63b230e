"""What stands before landed on the internet, in all the ways it can go wrong: a small proxy in a thread."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


def _as_it_came(request):
    return request


def _without(name):
    def change(request):
        path, headers, body = request
        return path, {key: value for key, value in headers.items() if key.lower() != name}, body

    return change


def _written_anew(request):
    path, headers, body = request
    return path, headers, json.dumps(json.loads(body)).encode() if body else body


def _decoded_query(request):
    path, headers, body = request
    return path.replace("&timestamp=", "%C3%97tamp="), headers, body


def _without_query(request):
    path, headers, body = request
    return path.partition("?")[0], headers, body


CHANGES = {
    "passes": _as_it_came,
    "drops Authorization": _without("authorization"),
    "writes JSON anew": _written_anew,
    "decodes the query": _decoded_query,
    "drops the query": _without_query,
}
ANSWERS = {
    "redirects": (301, {"Location": "https://elsewhere.example/"}),
    "does not know the path": (404, {}),
    "wants a password": (401, {}),
    "has nobody behind it": (502, {}),
    "says yes to everything": (200, {}),
}


class Front:
    """The proxy: `does` is a key of CHANGES or ANSWERS."""

    def __init__(self, port, certificate=None):
        self.does = "passes"
        self.prefix = ""
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self):
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                if front.does in ANSWERS:
                    self._answer(*ANSWERS[front.does], b"")
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
                path, headers, body = CHANGES[front.does]((self.path, headers, body))
                behind = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                behind.request(self.command, path, body or None, headers)
                answer = behind.getresponse()
                self._answer(answer.status, {}, answer.read())
                behind.close()

            do_GET = do_POST = do_HEAD = _pass  # noqa: N815 - the names that http.server has

            def _answer(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def fronting(port, certificate=None):
    front = Front(port, certificate)
    try:
        yield front
    finally:
        front.close()
