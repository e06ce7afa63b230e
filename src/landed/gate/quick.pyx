# cython: language_level=3, wraparound=False, cdivision=True
"""The quick way through the gate: the short way for heads that came before, compiled.

It does what `UsualRequests` does at a third of the cost, and knows nothing but what it learned from it: heads that
differ in nothing but the token or the query from two that went the short way. Whatever else comes goes there.
Properties hold that what it takes is taken there, too, with the same verdict and the same record.

landed is whole without it: where it was not compiled, all that is usual goes the short way.
"""

import hashlib
import os
import sys

import msgspec

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memchr, memcmp, memcpy

from landed.errors import BadSignature
from landed.gate.keeper import Judged
from landed.journal.record import REQUEST, Ids, RequestRecord, decode, encode
from landed.vonage.check import PREFIX
from landed.vonage.request import text_of
from landed.vonage.signing import (
    ISSUER,
    JWT_HEADER,
    SIG,
    UNIX_SECONDS_MAX,
    Coverage,
    HmacSha256,
    claims_of,
    pads_of,
    verify_sig,
)

include "sha256.pxi"

# A bounded number of heads is remembered, as in plain.py, and for each of them who signs.
SHAPES_MAX = 1_024
SHAPE_BYTES_MAX = 1_024
SIGNERS_MAX = 64

cdef enum:
    # What the encoding of a record, which knows no longer ones, is written for.
    REQUEST_BYTES_MAX = 0xFFFF
    QUERY_BYTES_MAX = 4_096
    FIELDS_MAX = 64
    ID_BYTES = 16
    ID_BYTES_OF_PROCESS = 10
    # As many characters is a digest in base64 without padding.
    CODE_CHARACTERS = 43
    # What is a character of no alphabet worth.
    NOTHING = 0xFF

cdef bytes BEARER = b"Bearer "
cdef bytes BEARER_LINE = b"\r\nAuthorization: " + BEARER
cdef bytes BREAK = b"\r\n"
cdef bytes BLANK_LINE = BREAK + BREAK
cdef bytes CHECK = PREFIX.encode()
# The letter in it that hardly any receipt has, and where.
cdef unsigned char RARE = c"k"
cdef Py_ssize_t RARE_AT = PREFIX.index("k")
cdef bytes HEADER = JWT_HEADER + b"."
cdef str BODY = Coverage.BODY.value
cdef long long MADE_MAX = UNIX_SECONDS_MAX
cdef int SECONDS_DIGITS = len(str(UNIX_SECONDS_MAX))
cdef long long AT_US_MIN = 0x1_0000_0000

# A record begins with its kind and its id's length, and ends with who accepted it, which is nobody.
cdef Py_ssize_t FIELDS = len(RequestRecord.__struct_fields__)
cdef bytes LEAD = encode((REQUEST, bytes(ID_BYTES), *[None] * (FIELDS - 1)))[:1 - FIELDS - ID_BYTES]
cdef bytes NOBODY = encode("")

cdef const unsigned char *ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# What each character is worth in base64 for URLs, and in hexadecimal.
cdef unsigned char[256] SEXTETS
cdef unsigned char[256] NIBBLES


cdef class Shape:
    """A head without its token or its query, as a record has it."""

    cdef bint by_token
    cdef Py_ssize_t body_bytes
    # What stands in a record before the token or query, and behind it.
    cdef bytes before
    cdef bytes behind
    # By account and API key: the verdict, and what stands in a record between its times and `before`.
    cdef dict outcomes


cdef class Signer:
    """A secret that somebody may have signed with, and whose it is."""

    cdef Hmac hmac
    cdef tuple whose
    # Whether a query may be signed by HMAC-SHA256 with it.
    cdef bint takes_sha256


cdef struct Cut:
    # Where the token or query begins and ends, and where the blank line behind the head is.
    bint by_token
    Py_ssize_t start
    Py_ssize_t end
    Py_ssize_t blank


cdef class QuickWay:
    """The usual requests: those whose heads are known by itself, and the others as `other` takes them.

    Where they can be hashed by OpenSSL itself they are, unless not even `by_openssl`.
    """

    cdef object _other
    cdef object _keyring
    cdef object _windows
    cdef object _seen
    cdef double _jwt_back_seconds
    cdef double _sig_back_seconds
    cdef double _ahead_seconds
    cdef long long _copies_max
    cdef Py_ssize_t _bytes_max
    cdef dict _shapes
    # By their hashes, heads that came once.
    cdef set _heard
    cdef dict _signers
    cdef readonly bint by_openssl
    cdef unsigned char[ID_BYTES] _id

    def __init__(self, other, judge, keeper, *, bint by_openssl=True):
        self._other = other.taken
        self._bytes_max = min(other.bytes_max, REQUEST_BYTES_MAX)
        self._keyring = judge.keyring
        self._windows = judge.windows
        self._jwt_back_seconds = judge.windows.jwt_back_seconds
        self._sig_back_seconds = judge.windows.sig_back_seconds
        self._ahead_seconds = judge.windows.ahead_seconds
        self._seen = keeper.seen
        self._copies_max = keeper.seen.copies_max
        self._shapes = {}
        self._heard = set()
        self._signers = {}
        self.by_openssl = by_openssl and HAS_OPENSSL
        cdef bytes first = Ids().next()
        memcpy(self._id, <const unsigned char *>first, ID_BYTES)

    def taken(self, bytes data not None, long long now_us, str peer not None):
        """As `UsualRequests` has it."""
        judged = self._judged(data, now_us, peer)
        if judged is not None:
            return judged
        taken = self._other(data, now_us, peer)
        if type(taken) is Judged:
            self._learn(data, taken)
        return taken

    cdef object _judged(self, bytes data, long long now_us, str peer):
        """The request that these bytes are, all of them; None where it must go another way."""
        cdef Cut cut
        if len(data) > self._bytes_max or now_us < AT_US_MIN or not is_found(data, &cut):
            return None
        cdef Shape shape = self._shapes.get(key_of(data, &cut))
        cdef bytes body = part(data, cut.blank + len(BLANK_LINE), len(data))
        if shape is None or shape.by_token != cut.by_token or shape.body_bytes != len(body):
            return None
        cdef bytes varies = part(data, cut.start, cut.end)
        # A receipt of our own making, perhaps.
        if has_check(body) or has_check(varies):
            return None
        cdef bytes signature
        cdef tuple whose
        try:
            if cut.by_token:
                whose = self._signer_of_token(varies, body, now_us)
                signature = part(varies, len(varies) - CODE_CHARACTERS, len(varies)) if whose is not None else None
            else:
                signature, whose = self._signer_of_query(varies, now_us)
        except (BadSignature, msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            return None
        outcome = shape.outcomes.get(whose)
        if outcome is None or self._is_kept_often_enough(signature):
            return None
        verdict, begins = outcome
        self._count_id()
        record = record_of(self._id, now_us, begins, shape, varies, body, encode(peer))
        return Judged(verdict, now_us, signature, record)

    cdef object _learn(self, bytes data, judged):
        """Remember the head of a request that went the short way."""
        cdef Cut cut
        if len(data) > self._bytes_max or not is_found(data, &cut):
            return
        cdef bytes key = key_of(data, &cut), varies = part(data, cut.start, cut.end)
        if len(key) > SHAPE_BYTES_MAX or not self._came_before(key):
            return
        record = decode(judged.record)
        cdef Shape shape = self._shapes.get(key) or shape_of(record, varies, cut.by_token)
        cdef bytes begins = b"".join([encode(each) for each in (
            record.account, record.api_key, record.coverage, record.verified, record.stale, record.answer,
            record.method, record.path,
        )])
        # What would not give the very record is not remembered.
        if shape is None or not gives(shape, begins, varies, record, judged.record):
            return
        if key not in self._shapes and len(self._shapes) >= SHAPES_MAX:
            # Whoever sends others on purpose does not keep the usual ones out for long.
            self._shapes.clear()
        whose = (record.account, record.api_key)
        if whose not in shape.outcomes and len(shape.outcomes) >= SIGNERS_MAX:
            shape.outcomes.clear()
        shape.outcomes[whose] = (judged.verdict, begins)
        self._shapes[key] = shape

    cdef bint _came_before(self, bytes key):
        """Whether this head is worth learning: behind some proxies each has something of its own and never returns."""
        if key in self._shapes or hash(key) in self._heard:
            return True
        if len(self._heard) >= SHAPES_MAX:
            self._heard.clear()
        self._heard.add(hash(key))
        return False

    cdef tuple _signer_of_token(self, bytes token, bytes body, long long now_us):
        """The account and API key of who signed, if the token holds and is not stale; see `verify_jwt`."""
        cdef const unsigned char *text = token
        cdef Py_ssize_t payload = len(HEADER), dot = len(token) - CODE_CHARACTERS - 1
        if dot <= payload or text[dot] != c"." or memcmp(text, <const unsigned char *>HEADER, payload):
            return None
        cdef bytes encoded_claims = decoded(text + payload, dot - payload)
        # Without a body it may be the probe of a URL.
        if encoded_claims is None or not len(body) or (<const unsigned char *>body)[0] != c"{":
            return None
        claims = claims_of(encoded_claims)
        cdef bytes signing_input = part(token, 0, dot)
        cdef tuple whose = None
        cdef Signer signer
        cdef unsigned char[DIGEST_BYTES] digest
        # Every secret is tried, so that the time tells nothing of which one fits; of several the first stands.
        for signer in self._signers_of(claims.api_key):
            signer.hmac.code_of(signing_input, digest)
            if is_code_of(digest, text + dot + 1) and whose is None:
                whose = signer.whose
        made = claims.iat
        if whose is None or claims.iss != ISSUER or type(made) is not int:
            return None
        cdef Py_ssize_t hash_bytes
        cdef const char *given_hash = PyUnicode_AsUTF8AndSize(claims.payload_hash, &hash_bytes)
        hash_of(body, digest, self.by_openssl)
        if not is_hex_of(digest, <const unsigned char *>given_hash, hash_bytes):
            return None
        return whose if self._is_within(now_us, made, self._jwt_back_seconds) else None

    cdef tuple _signers_of(self, api_key):
        """See `Keyring.signers`."""
        cdef tuple signers = self._signers.get(api_key)
        if signers is None:
            signers = tuple([signer_of(each, api_key, self.by_openssl) for each in self._keyring.signers(api_key)])
            if len(self._signers) >= SIGNERS_MAX:
                self._signers.clear()
            self._signers[api_key] = signers
        return signers

    cdef tuple _signer_of_query(self, bytes query, long long now_us):
        """The signature, and the account and API key of who signed; None twice where it is stale or not plain."""
        cdef dict params
        cdef bytes base, given
        params, base = parameters_of(query)
        if params is None:
            return None, None
        given = params[SIG]
        if len(given) != 2 * DIGEST_BYTES:
            # By another method, of which there are several.
            signed = verify_sig(params, self._keyring, self._windows, base)
            if signed.is_stale(now_us / 1_000_000.0, self._ahead_seconds):
                return None, None
            return signed.signature, (signed.account, signed.api_key)
        api_key = params.get(b"api-key")
        if api_key is not None:
            api_key = text_of(api_key.decode())
        cdef tuple whose = None
        cdef Signer signer
        cdef unsigned char[DIGEST_BYTES] code
        for signer in self._signers_of(api_key):
            if signer.takes_sha256:
                signer.hmac.code_of(base, code)
                if is_hex_of(code, given, len(given)) and whose is None:
                    whose = signer.whose
        made = params.get(b"timestamp", b"")
        if whose is None or not 0 < len(made) <= SECONDS_DIGITS or not made.isdigit():
            return None, None
        return (given.lower(), whose) if self._is_within(now_us, int(made), self._sig_back_seconds) else (None, None)

    cdef bint _is_within(self, long long now_us, long long made_seconds, double back_seconds) noexcept:
        """Whether a signature that was made then is in its window; see `Signed.is_stale`."""
        cdef double age = now_us / 1_000_000.0 - made_seconds
        return 0 <= made_seconds <= MADE_MAX and -self._ahead_seconds <= age <= back_seconds

    cdef bint _is_kept_often_enough(self, bytes signature):
        """See `Seen`, the mere call of which would cost as much."""
        cdef dict newer = self._seen.newer, older = self._seen.older
        key = hash(signature)
        copies = newer.get(key)
        if copies is None:
            copies = older.get(key)
        return copies is not None and copies >= self._copies_max

    cdef void _count_id(self) noexcept:
        """The next id, as `Ids` gives them."""
        cdef int at = ID_BYTES
        while at > ID_BYTES_OF_PROCESS:
            at -= 1
            self._id[at] += 1
            if self._id[at]:
                break


# Where things are in a request.


cdef bint is_found(bytes data, Cut *cut) noexcept:
    """Whether these bytes begin with a whole head that has a token or a query, and where that is."""
    cdef const unsigned char *text = data
    cdef Py_ssize_t size = len(data)
    cut.by_token = False
    cut.blank = before(c"\r", text, size)
    while not begins_with(text + cut.blank, size - cut.blank, BLANK_LINE):
        if cut.blank == size:
            return False
        if not cut.by_token and begins_with(text + cut.blank, size - cut.blank, BEARER_LINE):
            cut.by_token = True
            cut.start = cut.blank + len(BEARER_LINE)
        cut.blank += 1
        cut.blank += before(c"\r", text + cut.blank, size - cut.blank)
    if cut.by_token:
        cut.end = cut.start + before(c"\r", text + cut.start, cut.blank + 1 - cut.start)
    else:
        cut.start = before(c"?", text, cut.blank) + 1
        if cut.start > cut.blank:
            return False
        cut.end = cut.start + before(c" ", text + cut.start, cut.blank - cut.start)
    return cut.start < cut.end <= cut.blank


cdef bytes key_of(bytes data, const Cut *cut):
    """A head without its token or query. Where a token was, its line is missing, so that the gap can be seen."""
    cdef Py_ssize_t start = cut.start - len(BEARER_LINE) + len(BREAK) if cut.by_token else cut.start
    cdef Py_ssize_t behind = cut.blank - cut.end
    cdef bytes key = PyBytes_FromStringAndSize(NULL, start + behind)
    cdef unsigned char *to = key
    memcpy(to, <const unsigned char *>data, start)
    memcpy(to + start, <const unsigned char *>data + cut.end, behind)
    return key


cdef bytes part(bytes data, Py_ssize_t start, Py_ssize_t end):
    """`data[start:end]`, for which an object of its own would be made."""
    if not 0 <= start <= end <= len(data):
        raise IndexError("It is not within the bytes.")
    return PyBytes_FromStringAndSize(<const char *>data + start, end - start)


cdef bint has_check(bytes text) noexcept:
    """Whether what every id of a check begins with is in there."""
    cdef const unsigned char *start = text
    cdef Py_ssize_t size = len(text), at = before(RARE, start, size)
    while at < size:
        if at >= RARE_AT and begins_with(start + at - RARE_AT, size - at + RARE_AT, CHECK):
            return True
        at += 1
        at += before(RARE, start + at, size - at)
    return False


cdef bint begins_with(const unsigned char *text, Py_ssize_t size, bytes what) noexcept:
    return size >= len(what) and not memcmp(text, <const unsigned char *>what, len(what))


cdef Py_ssize_t before(unsigned char what, const unsigned char *text, Py_ssize_t size) noexcept:
    """How many of so many bytes come before that one; all of them where it is not."""
    cdef const void *at = memchr(text, what, size)
    return size if at is NULL else <const unsigned char *>at - text


# Records, as `landed.journal.record` encodes them, in MessagePack:
# https://github.com/msgpack/msgpack/blob/master/spec.md


cdef Shape shape_of(record, bytes varies, bint by_token):
    """The head of a request without what varies; None where that is not in its place."""
    cdef Shape shape = Shape.__new__(Shape)
    shape.by_token = by_token
    shape.body_bytes = len(record.body)
    shape.outcomes = {}
    headers = encode(record.headers)
    if (record.coverage == BODY) != by_token:
        return None
    if not by_token:
        shape.before, shape.behind = b"", headers
        return shape if record.query == varies else None
    token = (b"Authorization", BEARER + varies)
    if record.headers.count(token) != 1:
        return None
    # By its name, too: another header may have the same value.
    line, value = encode(token), encode(token[1])
    before_line, _, behind = headers.partition(line)
    shape.before, shape.behind = encode(record.query) + before_line + line[:len(line) - len(value)], behind
    return shape


cdef bint gives(Shape shape, bytes begins, bytes varies, record, bytes wanted) except -1:
    """Whether with this shape a record is encoded just as wanted."""
    if len(record.id) != ID_BYTES or record.at_us != record.received_us or record.at_us < AT_US_MIN:
        return False
    return record_of(record.id, record.at_us, begins, shape, varies, record.body, encode(record.peer)) == wanted


cdef bytes record_of(
    const unsigned char *id, long long at_us, bytes begins, Shape shape, bytes varies, bytes body, bytes peer
):
    """The record of a request with this head; `peer` is encoded."""
    cdef Py_ssize_t varying = len(varies) + (len(BEARER) if shape.by_token else 0)
    cdef bytes record = PyBytes_FromStringAndSize(
        NULL,
        len(LEAD) + ID_BYTES + 2 * NUMBER_BYTES + len(begins) + len(shape.before) + size_bytes(varying) + varying
        + len(shape.behind) + size_bytes(len(body)) + len(body) + len(peer) + len(NOBODY),
    )
    cdef Writer writer
    writer.at = record
    writer.end = writer.at + len(record)
    put(&writer, LEAD, len(LEAD))
    put(&writer, id, ID_BYTES)
    put_number(&writer, at_us)
    put_number(&writer, at_us)
    put(&writer, begins, len(begins))
    put(&writer, shape.before, len(shape.before))
    put_size(&writer, varying)
    if shape.by_token:
        put(&writer, BEARER, len(BEARER))
    put(&writer, varies, len(varies))
    put(&writer, shape.behind, len(shape.behind))
    put_size(&writer, len(body))
    put(&writer, body, len(body))
    put(&writer, peer, len(peer))
    put(&writer, NOBODY, len(NOBODY))
    return record


cdef struct Writer:
    # Where the next byte goes, and where the room ends.
    unsigned char *at
    const unsigned char *end


cdef enum:
    # Of a number beyond 32 bits.
    NUMBER_BYTES = 9


cdef int put(Writer *writer, const unsigned char *what, Py_ssize_t size) except -1:
    if size > writer.end - writer.at:
        raise IndexError("A record is longer than was reckoned.")
    memcpy(writer.at, what, size)
    writer.at += size
    return 0


cdef int put_number(Writer *writer, unsigned long long number) except -1:
    cdef unsigned char[NUMBER_BYTES] encoded
    cdef int at
    encoded[0] = 0xCF
    for at in range(8):
        encoded[8 - at] = number >> (8 * at) & 0xFF
    return put(writer, encoded, NUMBER_BYTES)


cdef Py_ssize_t size_bytes(Py_ssize_t size) noexcept:
    return 2 if size <= 0xFF else 3


cdef int put_size(Writer *writer, Py_ssize_t size) except -1:
    """What stands before so many bytes, up to REQUEST_BYTES_MAX."""
    cdef unsigned char[3] encoded
    if size <= 0xFF:
        encoded[0], encoded[1] = 0xC4, size
    else:
        encoded[0], encoded[1], encoded[2] = 0xC5, size >> 8, size & 0xFF
    return put(writer, encoded, size_bytes(size))


# Base64 for URLs, without padding: https://datatracker.ietf.org/doc/html/rfc4648#section-5


cdef bytes decoded(const unsigned char *text, Py_ssize_t size):
    """The bytes that so many characters stand for; None where they stand for none."""
    if size % 4 == 1:
        return None
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size * 3 // 4)
    cdef unsigned char *to = out
    cdef Py_ssize_t at = 0, rest = size % 4
    cdef unsigned int bits
    cdef unsigned char one, two, three, four, wrong = 0
    while at < size - rest:
        one, two, three, four = SEXTETS[text[at]], SEXTETS[text[at + 1]], SEXTETS[text[at + 2]], SEXTETS[text[at + 3]]
        wrong |= one | two | three | four
        bits = one << 18 | two << 12 | three << 6 | four
        to[0], to[1], to[2] = bits >> 16 & 0xFF, bits >> 8 & 0xFF, bits & 0xFF
        at += 4
        to += 3
    if rest:
        one, two = SEXTETS[text[at]], SEXTETS[text[at + 1]]
        three = SEXTETS[text[at + 2]] if rest == 3 else 0
        wrong |= one | two | three
        to[0] = one << 2 & 0xFF | two >> 4
        if rest == 3:
            to[1] = two << 4 & 0xFF | three >> 2
    return None if wrong == NOTHING else out


cdef bint is_code_of(const unsigned char *digest, const unsigned char *code) noexcept:
    """Whether these CODE_CHARACTERS stand for the bytes of a digest; how long it takes tells nothing."""
    cdef unsigned int bits = 0
    cdef unsigned char differs = 0
    cdef int at, held = 0, compared = 0
    for at in range(DIGEST_BYTES):
        bits = bits << 8 | digest[at]
        held += 8
        while held >= 6:
            held -= 6
            differs |= ALPHABET[bits >> held & 0x3F] ^ code[compared]
            compared += 1
    differs |= ALPHABET[bits << (6 - held) & 0x3F] ^ code[compared]
    return not differs


cdef bint is_hex_of(const unsigned char *digest, const unsigned char *text, Py_ssize_t size) noexcept:
    """Whether that is a digest in hexadecimal; how long it takes tells nothing."""
    cdef unsigned char differs = 0
    cdef int at
    if size != 2 * DIGEST_BYTES:
        return False
    for at in range(DIGEST_BYTES):
        differs |= NIBBLES[text[2 * at]] ^ digest[at] >> 4
        differs |= NIBBLES[text[2 * at + 1]] ^ digest[at] & 0xF
    return not differs


# Signed queries.


cdef struct Field:
    # Where its name begins, where its value does, and where that ends, in the decoded query.
    Py_ssize_t name
    Py_ssize_t value
    Py_ssize_t end


cdef tuple parameters_of(bytes query):
    """Of a signed query what `verify_sig` looks at, and its signature base; None twice where it is not plain.

    As `plain_query` has them; what is not plain here may be plain there.
    """
    cdef unsigned char[QUERY_BYTES_MAX] text
    # With an `&` and an `=` for each field.
    cdef unsigned char[QUERY_BYTES_MAX + 2 * FIELDS_MAX] base
    cdef Field[FIELDS_MAX] fields
    cdef unsigned char *end = base
    cdef int each, count = fields_of(query, text, fields)
    if count < 0 or not is_sorted(text, fields, count):
        return None, None
    cdef dict params = {}
    cdef Field field
    cdef Py_ssize_t name_bytes, value_bytes
    for each in range(count):
        field = fields[each]
        name_bytes, value_bytes = field.value - field.name, field.end - field.value
        if is_one_of_three(text + field.name, name_bytes):
            params[text[field.name:field.value]] = text[field.value:field.end]
            if name_bytes == 3:
                continue
        end[0] = c"&"
        memcpy(end + 1, text + field.name, name_bytes)
        end += 1 + name_bytes
        end[0] = c"="
        memcpy(end + 1, text + field.value, value_bytes)
        end += 1 + value_bytes
    return (params, base[:end - base]) if SIG in params else (None, None)


cdef bint is_one_of_three(const unsigned char *name, Py_ssize_t size) noexcept:
    """Whether a name is `sig`, or one of the two that `verify_sig` looks at beside it."""
    if size == 3:
        return not memcmp(name, b"sig", 3)
    if size == 7:
        return not memcmp(name, b"api-key", 7)
    return size == 9 and not memcmp(name, b"timestamp", 9)


cdef int fields_of(bytes query, unsigned char *text, Field *fields) noexcept:
    """Decode a query and say where its fields are, and how many they are; -1 where it is not plain.

    `text` has room for QUERY_BYTES_MAX, `fields` for FIELDS_MAX.
    """
    cdef const unsigned char *given = query
    cdef Py_ssize_t size = len(query), at = 0, written = 0
    cdef int count = 0
    cdef bint in_value = False
    cdef unsigned char code
    if size > QUERY_BYTES_MAX:
        return -1
    fields[0].name = 0
    while at < size:
        code = given[at]
        at += 1
        if code <= 0x20 or code >= 0x7F or code == c"#":
            return -1
        if code == c"&":
            if not in_value or count + 1 == FIELDS_MAX:
                return -1
            fields[count].end = written
            count += 1
            fields[count].name = written
            in_value = False
        elif code == c"=":
            if in_value or written == fields[count].name:
                return -1
            fields[count].value = written
            in_value = True
        else:
            if code == c"+":
                code = c" "
            elif code == c"%":
                if at + 2 > size or NIBBLES[given[at]] == NOTHING or NIBBLES[given[at + 1]] == NOTHING:
                    return -1
                code = NIBBLES[given[at]] << 4 | NIBBLES[given[at + 1]]
                at += 2
                if code == 0 or code == c"&" or code == c"=":
                    return -1
            text[written] = code
            written += 1
    if not in_value:
        return -1
    fields[count].end = written
    return count + 1


cdef bint is_sorted(const unsigned char *text, Field *fields, int count) noexcept:
    """Sort fields, of which there are few, by the bytes of their names; False where a name comes twice."""
    cdef int done, at, order
    cdef Field field
    for done in range(1, count):
        field = fields[done]
        at = done
        while at > 0:
            order = compared(text, &field, &fields[at - 1])
            if order == 0:
                return False
            if order > 0:
                break
            fields[at] = fields[at - 1]
            at -= 1
        fields[at] = field
    return True


cdef int compared(const unsigned char *text, const Field *one, const Field *other) noexcept:
    """Less than 0 where the one's name stands before the other's, more than 0 where behind it."""
    cdef Py_ssize_t bytes_of_one = one.value - one.name, bytes_of_other = other.value - other.name
    cdef int order = memcmp(text + one.name, text + other.name, min(bytes_of_one, bytes_of_other))
    return order if order else (bytes_of_one > bytes_of_other) - (bytes_of_one < bytes_of_other)


cdef Signer signer_of(given, api_key, bint by_openssl):
    cdef Signer signer = Signer.__new__(Signer)
    signer.hmac = Hmac(given.secret, by_openssl)
    signer.whose = (given.account.name, api_key)
    method = given.account.method
    signer.takes_sha256 = method is None or method == "sha256"
    return signer


def _fill_tables():
    cdef int code
    for code in range(256):
        SEXTETS[code] = NIBBLES[code] = NOTHING
    for code in range(64):
        SEXTETS[ALPHABET[code]] = code
    for code in range(10):
        NIBBLES[c"0" + code] = code
    for code in range(6):
        NIBBLES[c"a" + code] = NIBBLES[c"A" + code] = 10 + code


_fill_tables()
