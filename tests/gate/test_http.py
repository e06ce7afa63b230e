"""Each awkward or malformed request, over a real socket: its answer, and whether it was kept."""

import random
import re
from urllib.parse import quote

import pytest

from landed.gate.judge import ANSWERS

RECEIPT = b"messageId=m&msisdn=1&to=2&status=delivered&err-code=0"
STATUS = b'{"message_uuid":"u","to":"1","from":"2","channel":"sms","status":"delivered"}'
TARGET = b"/webhooks/delivery-receipt?" + RECEIPT
PATH = b"/webhooks/message-status"
HOST = b"Host: example.com\r\n"
CUTS_MAX = 10
BYTEWISE_MAX = 600


def get(target=TARGET, *fields, method=b"GET", version=b"HTTP/1.1", host=HOST):
    return b"%s %s %s\r\n%s%s\r\n" % (method, target, version, host, b"".join(field + b"\r\n" for field in fields))


def post(body=STATUS, *fields, target=PATH, **kwargs):
    return get(target, b"Content-Length: %d" % len(body), *fields, method=b"POST", **kwargs) + body


def chunked(wire, *fields, target=PATH, **kwargs):
    return get(target, b"Transfer-Encoding: chunked", *fields, method=b"POST", **kwargs) + wire


def in_chunks(body, size=1, extension=b""):
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n\r\n"


def lines(*each):
    return b"".join(line + b"\r\n" for line in each) + b"\r\n"


def smuggled(*fields, before=b"", **kwargs):
    """A second request, which only those see who read these fields as its sender hopes."""
    return get(PATH, *fields, method=b"POST", **kwargs) + before + b"0\r\n\r\n" + get()


def row(name, data, *statuses, kept=None):
    kept = sum(status in (200, 204) for status in statuses) if kept is None else kept
    return pytest.param(data, list(statuses), kept, id=name)


WELL_FORMED = [
    row("get", get(), 204),
    row("post", post(), 200),
    row("head", get(method=b"HEAD"), 204),
    row("get-with-body", post(STATUS, target=PATH).replace(b"POST", b"GET"), 200),
    row("post-without-length", get(method=b"POST"), 204),
    row("chunked", chunked(in_chunks(STATUS, 10)), 200),
    row("chunks-of-one-byte", chunked(in_chunks(STATUS)), 200),
    row("chunk-extensions", chunked(in_chunks(STATUS, 9, b';a=b;c="d"')), 200),
    row("chunk-size-with-zeros", chunked(b"0000000000000005\r\na=b&c\r\n0\r\n\r\n"), 200),
    row("chunk-size-in-capitals", chunked(b"A\r\n" + b"a=45678901\r\n0\r\n\r\n"), 200),
    row("trailers", chunked(in_chunks(STATUS)[:-2] + b"X-Sum: 1\r\n\r\n"), 200),
    row("coding-in-capitals", chunked(in_chunks(STATUS)).replace(b"chunked", b"Chunked"), 200),
    row("lines-before-the-request", b"\r\n\r\n\n" + get(), 204),
    row("empty-header", get(TARGET, b"X-Empty:"), 204),
    row("blanks-around-a-value", get(TARGET, b"X:  \t a \t "), 204),
    row("blanks-behind-a-length", get(PATH, b"Content-Length: 3  ", method=b"POST") + b"a=b", 200),
    row("high-bytes-in-a-value", get(TARGET, b"X: \xff\xfe\x80"), 204),
    row("close", get(TARGET, b"Connection: close"), 204),
    row("1.0", get(version=b"HTTP/1.0"), 204),
    row("1.0-without-host", get(version=b"HTTP/1.0", host=b""), 204),
    row("1.0-keep-alive-is-closed", get(TARGET, b"Connection: keep-alive", version=b"HTTP/1.0") * 2, 204),
    row("1.0-expect-is-ignored", post(STATUS, b"Expect: 100-continue", version=b"HTTP/1.0"), 200),
    row("expect", post(STATUS, b"Expect: 100-continue"), 100, 200),
    row("expect-in-capitals", post(STATUS, b"EXPECT: 100-CONTINUE"), 100, 200),
    row("expect-unknown", post(STATUS, b"Expect: a-miracle"), 200),
    row("expect-unknown-without-body", get(TARGET, b"Expect: a-miracle"), 204),
    row("expect-twice", post(STATUS, b"Expect: 100-continue", b"Expect: a-miracle"), 100, 200),
    row("expect-listed", post(STATUS, b"Expect: a-miracle, 100-Continue"), 100, 200),
    row("expect-with-parameter", post(STATUS, b"Expect: 100-continue;a=b"), 200),
    row("expect-without-body", get(TARGET, b"Expect: 100-continue"), 204),
    row("host-with-port", get(host=b"Host: a:3000\r\n"), 204),
    row("host-of-ipv6", get(host=b"Host: [::1]:3000\r\n"), 204),
    row("host-empty", get(host=b"Host:\r\n"), 204),
    row("absolute-form", get(b"http://example.com" + TARGET), 204),
    row("absolute-form-in-capitals", get(b"HTTPS://example.com" + TARGET), 204),
    row("slash-behind", get(b"/webhooks/delivery-receipt/?" + RECEIPT), 204),
    row("slashes-doubled", get(b"//webhooks//delivery-receipt?" + RECEIPT), 204),
    row("path-escaped", get(b"/webhooks/delivery%2Dreceipt?" + RECEIPT), 204),
    row("query-of-odd-bytes", get(b"/webhooks/delivery-receipt?%00%ff&&=&\"<>'{}|^`"), 204),
    row("probe", get(PATH), 200, kept=0),
    row("probe-with-question-mark", get(PATH + b"?"), 200, kept=0),
    row("probe-with-blank-body", post(b" \r\n"), 200, kept=0),
    row("health", get(b"/healthz"), 200, kept=0),
    row("upgrade-h2c", post(STATUS, b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"Connection: Upgrade"), 200),
    row("upgrade-h2c-chunked", chunked(in_chunks(STATUS), b"Upgrade: h2c", b"Connection: Upgrade"), 200),
    row("upgrade-expecting", post(STATUS, b"Upgrade: a", b"Connection: upgrade", b"Expect: 100-continue"), 100, 200),
    row("upgrade-websocket", get(TARGET, b"Upgrade: websocket", b"Connection: keep-alive, Upgrade"), 204),
    row("upgrade-probe", get(PATH, b"Upgrade: websocket", b"Connection: Upgrade"), 200, kept=0),
    row("upgrade-without-connection", post(STATUS, b"Upgrade: h2c"), 200),
    row("upgrade-1.0", post(STATUS, b"Upgrade: h2c", b"Connection: Upgrade", version=b"HTTP/1.0"), 200),
    row("pipelined", get() + post() + get(b"/") + get(PATH) + chunked(b"0\r\n\r\n"), 204, 200, 404, 200, 200, kept=2),
    row("pipelined-behind-close", get(TARGET, b"Connection: close") + get(), 204),
    row("pipelined-trailers", chunked(b"0\r\nHost: evil\r\n\r\n") + get(host=b""), 200, 400, kept=0),
    row("rubbish-behind", get() + b"\x00\x01\x02", 204, 400),
    row("rubbish-with-a-blank-behind", get() + b"rubbish rubbish\r\n\r\n", 204, 400),
    row("rubbish-behind-close", get(TARGET, b"Connection: close") + b"\x00\x01\x02", 204),
    row("body-behind-its-length", post(STATUS + b"x").replace(b": 78", b": 77"), 200, 400),
    row("length-with-zeros", get(PATH, b"Content-Length: 003", method=b"POST") + b"a=b", 200),
    row("length-behind-tab", get(PATH, b"Content-Length:\t3\t", method=b"POST") + b"a=b", 200),
    row("length-of-nothing", get(TARGET, b"Content-Length: 0"), 204),
    row("head-with-body", post().replace(b"POST", b"HEAD"), 200),
    row("get-with-chunks", chunked(in_chunks(STATUS)).replace(b"POST", b"GET", 1), 200),
    row("last-chunk-of-many-zeros", chunked(b"3\r\na=b\r\n000\r\n\r\n"), 200),
    row("last-chunk-with-extension", chunked(b"3\r\na=b\r\n0;a=b\r\n\r\n"), 200),
    row("chunk-extension-quoting-semicolons", chunked(b'3;a="b;c"\r\na=b\r\n0\r\n\r\n'), 200),
    row("coding-behind-tab", chunked(in_chunks(STATUS)).replace(b": chunked", b":\tchunked"), 200),
    row("coding-under-another-name", post(STATUS, b"Transfer_Encoding: chunked"), 200),
    row("expect-chunked", chunked(in_chunks(STATUS), b"Expect: 100-continue"), 100, 200),
    row("expect-length-of-nothing", post(b"", b"Expect: 100-continue"), 200, kept=0),
    row("lines-between-requests", get() + b"\r\n\r\n" + get(), 204, 204),
    row("close-in-capitals", get(TARGET, b"CONNECTION: CLOSE") + get(), 204),
    row("close-among-others", get(TARGET, b"Connection: keep-alive, close") + get(), 204),
    row("close-twice", get(TARGET, b"Connection: keep-alive", b"Connection: close") + get(), 204),
    row("host-in-small-letters", get(host=b"host:example.com\r\n"), 204),
    row("absolute-form-with-user", get(b"http://a:b@example.com" + TARGET), 204),
    row("absolute-form-with-port", get(b"http://example.com:80" + TARGET), 204),
    row("absolute-form-of-another-host", get(b"http://other.example" + TARGET), 204),
    row("slashes-escaped", get(b"/webhooks%2Fdelivery-receipt?" + RECEIPT), 204),
    row("fragment", get(TARGET + b"#a"), 204),
    row("question-marks", get(TARGET + b"?a?b"), 204),
    row("tunnelled-get", get(TARGET, b"X-HTTP-Method-Override: DELETE"), 204),
    row("pipelined-unknown-between", get() + get(b"/") + get(), 204, 404, 204),
    row("pipelined-put-between", get() + get(method=b"PUT") + get(), 204, 405, 204),
    row("pipelined-malformed-between", get() + get(host=b"") + get(), 204, 400),
    row("pipelined-cut-short", get() + get()[:-2], 204),
    row("cr-before-the-request", b"\r" + get(), 204),
    row("expect-empty", post(STATUS, b"Expect:"), 200),
]  # fmt: skip

MALFORMED = [
    row("nothing", b""),
    row("lines-only", b"\r\n\r\n"),
    row("head-cut-short", get()[:-2]),
    row("line-cut-short", get()[:20]),
    row("body-cut-short", post()[:-1]),
    row("chunk-cut-short", chunked(b"5\r\na=b")),
    row("chunks-without-last", chunked(in_chunks(STATUS)[:-5])),
    row("chunks-without-end", chunked(in_chunks(STATUS)[:-2])),
    row("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), 400),
    row("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0", 400),
    row("0.9", b"GET " + PATH + b"\r\n\r\n", 400),
    row("0.9-named", get(version=b"HTTP/0.9"), 400),
    row("1.2", get(version=b"HTTP/1.2"), 400),
    row("1.10", get(version=b"HTTP/1.10"), 400),
    row("2.0", get(version=b"HTTP/2.0"), 400),
    row("version-in-small-letters", get(version=b"http/1.1"), 400),
    row("rtsp", get(version=b"RTSP/1.0"), 400),
    row("ice", get(version=b"ICE/1.0", method=b"SOURCE"), 400),
    row("no-version", b"GET " + TARGET + b" \r\n" + HOST + b"\r\n", 400),
    row("no-target", b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    row("two-blanks-behind-method", get().replace(b"GET ", b"GET  "), 400),
    row("two-blanks-before-version", get().replace(b" HTTP", b"  HTTP"), 400),
    row("tab-behind-method", get().replace(b"GET ", b"GET\t"), 400),
    row("tab-before-version", get().replace(b" HTTP", b"\tHTTP"), 400),
    row("blank-behind-version", get(version=b"HTTP/1.1 "), 400),
    row("blank-before-method", b" " + get(), 400),
    row("blank-in-target", get(b"/webhooks/delivery-receipt?a=b c"), 400),
    row("high-bytes-in-target", get(TARGET + b"\xe9"), 400),
    row("control-in-target", get(TARGET + b"\x01"), 400),
    row("nul-in-target", get(TARGET + b"\x00"), 400),
    row("target-without-slash", get(b"webhooks"), 400),
    row("bare-lf-everywhere", get().replace(b"\r\n", b"\n"), 400),
    row("bare-lf-behind-version", get().replace(b"1.1\r\n", b"1.1\n"), 400),
    row("bare-lf-behind-header", get(TARGET, b"X: a\nY: b"), 400),
    row("bare-lf-at-end", get()[:-2] + b"\n", 400),
    row("bare-cr-in-value", get(TARGET, b"X: a\rb"), 400),
    row("bare-cr-behind-version", get().replace(b"1.1\r\n", b"1.1\r"), 400),
    row("nul-in-value", get(TARGET, b"X: a\0b"), 400),
    row("control-in-value", get(TARGET, b"X: a\x01b"), 400),
    row("delete-in-value", get(TARGET, b"X: a\x7fb"), 400),
    row("blank-before-colon", get(TARGET, b"X : a"), 400),
    row("tab-before-colon", get(TARGET, b"X\t: a"), 400),
    row("header-without-colon", get(TARGET, b"X"), 400),
    row("header-without-name", get(TARGET, b": a"), 400),
    row("odd-name", get(TARGET, b"X(a): b"), 400),
    row("high-bytes-in-name", get(TARGET, b"X\xff: b"), 400),
    row("folded-value", get(TARGET, b"X: a\r\n b"), 400),
    row("folded-by-tab", get(TARGET, b"X: a\r\n\tb"), 400),
    row("folded-first-line", get(host=b" Host: a\r\n"), 400),
    row("host-missing", get(host=b""), 400),
    row("host-twice", get(host=HOST * 2), 400),
    row("host-twice-in-1.0", get(host=HOST * 2, version=b"HTTP/1.0"), 400),
    row("host-with-blank", get(host=b"Host: a b\r\n"), 400),
    row("host-with-path", get(host=b"Host: a/b\r\n"), 400),
    row("host-with-user", get(host=b"Host: a@b\r\n"), 400),
    row("host-of-high-bytes", get(host=b"Host: \xc3\xa9\r\n"), 400),
    row("both-lengths", chunked(in_chunks(STATUS), b"Content-Length: 5"), 400),
    row("both-lengths-other-order", get(PATH, b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    row("length-twice-the-same", post(STATUS, b"Content-Length: %d" % len(STATUS)), 400),
    row("length-twice", post(STATUS, b"Content-Length: 1"), 400),
    row("length-listed", get(PATH, b"Content-Length: 3, 3") + b"a=b", 400),
    row("length-signed", get(PATH, b"Content-Length: +3") + b"a=b", 400),
    row("length-negative", get(PATH, b"Content-Length: -3") + b"a=b", 400),
    row("length-hexadecimal", get(PATH, b"Content-Length: 0x3") + b"a=b", 400),
    row("length-fraction", get(PATH, b"Content-Length: 3.0") + b"a=b", 400),
    row("length-empty", get(PATH, b"Content-Length:"), 400),
    row("length-word", get(PATH, b"Content-Length: three"), 400),
    row("length-beyond-64-bits", get(PATH, b"Content-Length: 99999999999999999999"), 400),
    row("length-over-the-limit", get(PATH, b"Content-Length: 262145"), 413),
    row("length-huge", get(PATH, b"Content-Length: 9999999999999999"), 413),
    row("length-over-the-limit-expecting", get(PATH, b"Content-Length: 262145", b"Expect: 100-continue"), 413),
    row("coding-unknown", get(PATH, b"Transfer-Encoding: gzip"), 400),
    row("coding-before-chunked", get(PATH, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 400),
    row("coding-behind-chunked", get(PATH, b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n", 400),
    row("coding-twice", chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), 400),
    row("coding-twice-in-one", get(PATH, b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n", 400),
    row("coding-identity", get(PATH, b"Transfer-Encoding: identity"), 400),
    row("coding-empty", get(PATH, b"Transfer-Encoding:", b"Content-Length: 3") + b"a=b", 400),
    row("coding-almost", get(PATH, b"Transfer-Encoding: xchunked") + b"0\r\n\r\n", 400),
    row("coding-with-control", get(PATH, b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n", 400),
    row("coding-quoted", get(PATH, b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n", 400),
    row("coding-in-1.0", chunked(in_chunks(STATUS), version=b"HTTP/1.0"), 400),
    row("chunk-size-word", chunked(b"x\r\n"), 400),
    row("chunk-size-empty", chunked(b"\r\n"), 400),
    row("chunk-size-negative", chunked(b"-1\r\n"), 400),
    row("chunk-size-prefixed", chunked(b"0x3\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-size-after-blank", chunked(b" 3\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-size-before-blank", chunked(b"3 \r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-size-beyond-64-bits", chunked(b"f" * 17 + b"\r\n"), 400),
    row("chunk-longer-than-said", chunked(b"3\r\na=bc\r\n0\r\n\r\n"), 400),
    row("chunk-shorter-than-said", chunked(b"4\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-without-line-end", chunked(b"3\r\na=b0\r\n\r\n"), 400),
    row("chunk-with-bare-lf", chunked(b"3\na=b\n0\n\n"), 400),
    row("chunk-extension-with-bare-lf", chunked(b"3;a\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-extension-with-control", chunked(b"3;\x01\r\na=b\r\n0\r\n\r\n"), 400),
    row("trailer-malformed", chunked(b"0\r\nX : a\r\n\r\n"), 400),
    row("trailer-length", chunked(b"0\r\nContent-Length: 5\r\n\r\n"), 400),
    row("expect-on-a-malformed-head", chunked(b"", b"Expect: 100-continue", host=b""), 400),
    row("connect", lines(b"CONNECT example.com:443 HTTP/1.1", b"Host: example.com:443"), 405),
    row("connect-with-body", lines(b"CONNECT a:1 HTTP/1.1", b"Host: a", b"Content-Length: 3") + b"a=b", 405),
    row("put", get(method=b"PUT"), 405),
    row("delete", get(method=b"DELETE"), 405),
    row("options", get(method=b"OPTIONS"), 405),
    row("trace", get(method=b"TRACE"), 405),
    row("patch-with-body", post().replace(b"POST", b"PATCH"), 405),
    row("method-unknown", get(method=b"BREW"), 405),
    row("method-longer", get(method=b"GETS"), 405),
    row("method-in-small-letters", get(method=b"get"), 405),
    row("method-endless", b"A" * 100_000, 400),
    row("method-of-odd-letters", get(method=b"G(ET"), 400),
    row("path-unknown", get(b"/"), 404),
    row("path-unknown-by-post", post(target=b"/webhooks"), 404),
    row("path-longer", get(b"/webhooks/delivery-receipts"), 404),
    row("path-climbing", get(b"/webhooks/../etc/passwd"), 404),
    row("path-in-capitals", get(b"/WEBHOOKS/delivery-receipt"), 404),
    row("path-with-nul", get(PATH + b"%00"), 404),
    row("star", get(b"*", method=b"OPTIONS"), 404),
    row("absolute-form-without-path", get(b"http://example.com"), 404),
    row("url-too-long", get(TARGET + b"&x=" + b"x" * 9_000), 414),
    row("header-too-long", get(TARGET, b"X: " + b"x" * 17_000), 431),
    row("header-endless", b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, 431),
    row("header-name-endless", b"GET / HTTP/1.1\r\n" + b"x" * 100_000, 431),
    row("headers-too-many", get(TARGET, *[b"X: a"] * 64), 431),
    row("trailers-too-many", chunked(b"0\r\n" + b"X: a\r\n" * 64 + b"\r\n"), 431),
    row("url-endless", b"GET /" + b"x" * 100_000, 414),
    row("trailer-endless", chunked(b"0\r\nX: " + b"x" * 3_000_000), 413),
    row("lines-endless", b"\r\n" * 20_000, 431),
    row("chunk-extension-endless", chunked(b"1;" + b"x" * 3_000_000), 413),
    row("chunked-over-the-limit", chunked(in_chunks(b"x" * 262_145, 4_096)), 413),
    row("chunk-extension-after-blank", chunked(b"3 ;a=b\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-extension-before-blank", chunked(b"3; a=b\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-extension-empty", chunked(b"3;\r\na=b\r\n0\r\n\r\n"), 400),
    row("dot-in-path", get(b"/./webhooks/delivery-receipt?" + RECEIPT), 404),
    row("smuggled-by-length", smuggled(b"Content-Length: 6", b"Transfer-Encoding: chunked"), 400),
    row("smuggled-by-coding", smuggled(b"Transfer-Encoding: chunked", b"Content-Length: 4", before=b"1\r\na\r\n"), 400),
    row("smuggled-by-blank-before-colon", smuggled(b"Content-Length: 5", b"Transfer-Encoding : chunked"), 400),
    row("smuggled-by-two-codings", smuggled(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"), 400),
    row("smuggled-by-folded-coding", smuggled(b"Content-Length: 5", b"Transfer-Encoding:\r\n chunked"), 400),
    row("smuggled-by-lf", smuggled(b"X: y\nTransfer-Encoding: chunked", b"Content-Length: 5"), 400),
    row("smuggled-by-cr", smuggled(b"X: y\rTransfer-Encoding: chunked", b"Content-Length: 5"), 400),
    row("smuggled-by-nul", smuggled(b"Transfer-Encoding: chunked\0", b"Content-Length: 5"), 400),
    row("smuggled-by-line-of-name", smuggled(b"Transfer-Encoding\r\n: chunked", b"Content-Length: 5"), 400),
    row("smuggled-by-1.0", smuggled(b"Transfer-Encoding: chunked", b"Content-Length: 5", version=b"HTTP/1.0"), 400),
    row("length-blank-before-colon", get(PATH, b"Content-Length : 3") + b"a=b", 400),
    row("length-with-underscore", get(PATH, b"Content-Length: 1_0") + b"a=b&c=d&e=", 400),
    row("length-of-two-words", get(PATH, b"Content-Length: 3 3") + b"a=b", 400),
    row("length-with-control", get(PATH, b"Content-Length: \x0b3") + b"a=b", 400),
    row("length-with-nul", get(PATH, b"Content-Length: 3\0") + b"a=b", 400),
    row("length-of-other-digits", get(PATH, "Content-Length: ٣".encode()) + b"a=b", 400),
    row("length-exponential", get(PATH, b"Content-Length: 3e0") + b"a=b", 400),
    row("length-twice-in-other-letters", post(STATUS, b"content-length: 5"), 400),
    row("length-just-beyond-64-bits", get(PATH, b"Content-Length: 18446744073709551616"), 400),
    row("coding-with-parameter", get(PATH, b"Transfer-Encoding: chunked;q=1") + b"0\r\n\r\n", 400),
    row("coding-behind-comma", get(PATH, b"Transfer-Encoding: ,chunked") + b"0\r\n\r\n", 400),
    row("coding-before-comma", get(PATH, b"Transfer-Encoding: chunked,") + b"0\r\n\r\n", 400),
    row("coding-with-blank-within", get(PATH, b"Transfer-Encoding: chun ked") + b"0\r\n\r\n", 400),
    row("chunk-size-plus", chunked(b"+3\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-size-with-underscore", chunked(b"0_3\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-size-before-tab", chunked(b"3\t\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-of-64-bits-cut-short", chunked(b"ffffffffffffffff\r\na=b")),
    row("chunk-size-wrapped", chunked(b"10000000000000003\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-over-the-limit-cut-short", chunked(b"40001\r\na=b")),
    row("chunks-over-64-bits-cut-short", chunked(b"1\r\na\r\nffffffffffffffff\r\nb")),
    row("chunk-extension-with-cr", chunked(b"3;a\rb\r\na=b\r\n0\r\n\r\n"), 400),
    row("chunk-with-bare-cr", chunked(b"3\ra=b\r0\r\r"), 400),
    row("chunk-before-bare-cr", chunked(b"3\r\na=b\rX0\r\n\r\n"), 400),
    row("chunk-last-with-bare-lf", chunked(b"3\r\na=b\r\n0\r\n\n"), 400),
    row("chunk-last-with-rubbish", chunked(b"3\r\na=b\r\n0\r\nX\r\n\r\n"), 400),
    row("trailer-coding", chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
    row("trailer-folded", chunked(b"0\r\nX: a\r\n b\r\n\r\n"), 400),
    row("trailer-with-nul", chunked(b"0\r\nX: \0\r\n\r\n"), 400),
    row("nul-in-name", get(TARGET, b"X\0: a"), 400),
    row("control-in-name", get(TARGET, b"X\x01: a"), 400),
    row("blank-in-name", get(TARGET, b"X Y: a"), 400),
    row("blank-line-of-blanks", get(TARGET, b"  "), 400),
    row("nul-in-method", get(method=b"GE\0T"), 400),
    row("nul-behind-version", get(version=b"HTTP/1.1\0"), 400),
    row("two-crs-behind-version", get().replace(b"1.1\r\n", b"1.1\r\r\n"), 400),
    row("two-crs-at-end", get()[:-2] + b"\r\r\n", 400),
    row("nul-before-the-request", b"\0" + get(), 400),
    row("byte-order-mark", b"\xef\xbb\xbf" + get(), 400),
    row("version-with-comma", get(version=b"HTTP/1,1"), 400),
    row("version-with-zero", get(version=b"HTTP/01.1"), 400),
    row("version-with-blank", get(version=b"HTTP/ 1.1"), 400),
    row("version-without-minor", get(version=b"HTTP/1"), 400),
    row("version-of-https", get(version=b"HTTPS/1.1"), 400),
    row("version-3.0", get(version=b"HTTP/3.0"), 400),
    row("host-twice-in-other-letters", get(host=HOST + b"HOST: other\r\n"), 400),
    row("host-listed", get(host=b"Host: a, b\r\n"), 400),
    row("host-with-control", get(host=b"Host: a\x01\r\n"), 400),
    row("host-missing-in-absolute-form", get(b"http://example.com" + TARGET, host=b""), 400),
    row("authority-form", get(b"example.com:80"), 400),
    row("absolute-form-of-ftp", get(b"ftp://example.com" + TARGET), 404),
    row("absolute-form-without-host", get(b"http://" + TARGET), 400),
    row("star-by-get", get(b"*"), 404),
    row("path-bad-escape", get(b"/webhooks/delivery%zzreceipt"), 404),
    row("path-climbing-escaped", get(b"/%2e%2e/webhooks/delivery-receipt?" + RECEIPT), 404),
    row("path-with-backslash", get(b"\\webhooks\\delivery-receipt"), 400),
    row("path-with-parameter", get(b"/webhooks/delivery-receipt;a=b"), 404),
    row("path-overlong-utf-8", get(b"/webhooks%c0%afdelivery-receipt"), 404),
    row("method-long", get(method=b"A" * 33), 400),
    row("method-empty", b" " + TARGET + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    row("method-with-digits", get(method=b"GET2"), 405),
    row("method-search", get(method=b"SEARCH"), 405),
    row("connect-by-authority-then-get", lines(b"CONNECT a:1 HTTP/1.1", b"Host: a") + get(), 405),
    row("proxy-protocol-1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(), 400),
    row("proxy-protocol-2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + get(), 400),
    row("ssh", b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    row("smtp", b"EHLO example.com\r\n", 400),
    row("redis", b"*1\r\n$4\r\nPING\r\n", 400),
    row("socks-5", b"\x05\x01\x00", 400),
    row("tls-alert", b"\x15\x03\x01\x00\x02\x02\x28", 400),
    row("json-alone", STATUS + b"\r\n\r\n", 400),
]  # fmt: skip


@pytest.mark.parametrize(("data", "statuses", "kept"), WELL_FORMED + MALFORMED)
def test_the_answer_is_what_the_standard_says_and_only_what_is_answered_2xx_is_kept(shared, data, statuses, kept):
    before = shared.reader.last_position()

    answers = shared.ask(data, to_head=data.startswith(b"HEAD"))

    assert [answer.status for answer in answers] == statuses
    assert len(shared.kept(before)) == kept


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_every_path_takes_every_method_and_keeps_the_bytes(shared, path, method):
    before = shared.reader.last_position()
    body = STATUS if method == b"POST" else b""

    (answer,) = shared.ask(
        post(body, b"X-One: 1", target=path.encode() + b"?a=%20b&c", host=HOST).replace(b"POST", method, 1),
        to_head=method == b"HEAD",
    )

    (record,) = shared.kept(before)
    assert (answer.status, answer.body) == (ANSWERS[path], b"")
    assert (record.method, record.path, record.query, record.body) == (method.decode(), path, b"a=%20b&c", body)
    assert record.headers == ((b"Host", b"example.com"), (b"Content-Length", b"%d" % len(body)), (b"X-One", b"1"))
    assert (record.answer, record.peer, record.received_us) == (ANSWERS[path], "127.0.0.1", record.at_us)


def cuts(data):
    """The bytes as a piece each, and in two at many places, half of them where a part ends."""
    chance = random.Random(data)  # noqa: S311 - the same ones each time
    ends = [match.end() for match in re.finditer(rb"[\r\n :;]", data[:BYTEWISE_MAX]) if match.end() < len(data)]
    places = {
        *chance.sample(range(1, len(data)), min(CUTS_MAX, len(data) - 1)),
        *chance.sample(ends, min(CUTS_MAX, len(ends))),
    }
    bytewise = [data[at : at + 1] for at in range(BYTEWISE_MAX)]
    return [*bytewise, data[BYTEWISE_MAX:]], *([data[:at], data[at:]] for at in sorted(places))


@pytest.mark.parametrize("data", [pytest.param(each.values[0], id=each.id) for each in WELL_FORMED + MALFORMED[1:]])
def test_a_request_that_comes_in_pieces_is_answered_and_kept_as_the_one_that_comes_whole(shared, data):
    shared.holds_in_pieces(data, *cuts(data))


def test_an_answer_to_head_has_no_body_even_when_it_is_refused(shared):
    for data in (get(b"/other", method=b"HEAD"), get(TARGET, b"X: " + b"x" * 17_000, method=b"HEAD")):
        (answer,) = shared.ask(data, to_head=True)
        assert answer.status in (404, 431)


def test_answers_say_what_to_do(shared):
    (unknown,) = shared.ask(get(method=b"PUT"))
    (refused,) = shared.ask(b"\x16\x03")

    assert unknown.headers[b"allow"] == b"GET, HEAD, POST"
    assert refused.headers[b"connection"] == b"close"
    assert b"well-formed" in refused.body


def test_a_connection_stays_open_from_request_to_request(shared):
    with shared.connect() as client:
        for _ in range(3):
            client.send(get())
            assert b"connection" not in client.answer().headers


def test_the_last_answer_says_that_it_is_the_last(shared):
    (answer,) = shared.ask(get(TARGET, b"Connection: close"))

    assert answer.headers[b"connection"] == b"close"


def test_the_body_may_wait_for_100_continue(shared):
    with shared.connect() as client:
        data = post(STATUS, b"Expect: 100-continue")
        client.send(data[: -len(STATUS)])
        assert client.answer().status == 100
        client.send(STATUS)
        assert client.answer().status == 200


def test_continue_keeps_its_place_behind_earlier_answers(shared):
    with shared.connect() as client:
        client.send(get() + post(STATUS, b"Expect: 100-continue") + get())
        assert [client.answer().status for _ in range(4)] == [204, 100, 200, 204]


def test_a_query_is_kept_as_its_raw_bytes(shared):
    before = shared.reader.last_position()
    query = quote("ü&=", safe="").encode() + b"&%zz&%"

    shared.ask(get(b"/webhooks/inbound-sms?" + query))

    assert [record.query for record in shared.kept(before)] == [query]
