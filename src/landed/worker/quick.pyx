# cython: language_level=3, wraparound=False, cdivision=True
"""Reads the usual receipts of the journal at a third of the cost, compiled.

It knows nothing but what it learned from `fold.read_record`: records that differ in nothing but their message, its
recipient, its reference, times, and what signs a request, from one that was read there. Whatever else comes is read
there. A property holds that what is read here says what is said there.

landed is whole without it: where it was not compiled, all is read by `fold.read_record`.
"""

import hashlib

from libc.string cimport memchr, memcmp, memcpy

from landed.domain.brief import KINDS_REMEMBERED_MAX
from landed.domain.moments import microseconds
from landed.journal.record import REQUEST, KeptRequest, encode
from landed.store import First
from landed.vonage.parse import MESSAGE_ID_CHARACTERS_MAX
from landed.vonage.sms import ESCAPED_TIME_CHARACTERS_MAX, read_escaped_time
from landed.vonage.usual import BYTES_MAX
from landed.vonage.values import REMEMBERED_MAX, read_scts, read_time

cdef enum:
    # Of a record without its bodies and headers; longer ones are read elsewhere.
    CONTEXT_BYTES_MAX = 1_024
    RECEIPT_BYTES_MAX = 2_048
    VALUE_BYTES_MAX = 256
    ID_BYTES = 16
    NUMBER_BYTES = 9

cdef enum:
    # What differs from receipt to receipt of one kind.
    MESSAGE
    TO
    CLIENT_REF
    OCCURRED
    PUSHED
    VARYING
    # Of a query, what is no part of the receipt.
    SIGNS
    NOTHING

assert BYTES_MAX <= RECEIPT_BYTES_MAX and MESSAGE_ID_CHARACTERS_MAX <= VALUE_BYTES_MAX

# A record begins with its kind and its id's length: https://github.com/msgpack/msgpack/blob/master/spec.md
cdef Py_ssize_t FIELDS = len(KeptRequest.__struct_fields__)
cdef bytes LEAD = encode((REQUEST, bytes(ID_BYTES), *[None] * (FIELDS - 1)))[:1 - FIELDS - ID_BYTES]
cdef Py_ssize_t ID_CHARACTERS_MAX = MESSAGE_ID_CHARACTERS_MAX
cdef Py_ssize_t PUSHED_BYTES_MAX = ESCAPED_TIME_CHARACTERS_MAX
cdef Py_ssize_t USUAL_BYTES_MAX = BYTES_MAX

# What may stand in a text that varies, of JSON and of a query: nothing that is escaped, or structure.
cdef bint[256] IN_JSON
cdef bint[256] IN_QUERY
# And what may stand anywhere in a query.
cdef bint[256] OF_QUERY

blake2b = hashlib.blake2b


cdef struct Span:
    const unsigned char *start
    Py_ssize_t size


cdef struct Found:
    # A receipt in its record: when it came, what varies, and its shape, which is all the rest.
    unsigned long long received_us
    bint is_json
    Span[VARYING] varying
    unsigned char[CONTEXT_BYTES_MAX + RECEIPT_BYTES_MAX + 2] shape
    Py_ssize_t shape_bytes


cdef class Likeness:
    """What receipts of one shape have in common."""

    cdef object kind
    # What stands in a receipt's key before the message id, and between that and the time; see `receipt_key`.
    cdef bytes before
    cdef bytes behind


cdef class QuickReader:
    """The records of shapes that are known, by itself; all others as `other` reads them."""

    cdef object _other
    cdef dict _known
    # By what they were read from, a time, the same in a key, and whether its zone was assumed.
    cdef dict _times

    def __init__(self, other):
        self._other = other
        self._known = {}
        self._times = {}

    def read(self, long long position, bytes data not None):
        """As `fold.read_record` has it."""
        cdef Found found
        cdef tuple occurred, pushed
        cdef bytes shape
        cdef Likeness likeness
        if not is_found(data, &found):
            return self._other(position, data)
        occurred, pushed = self._times_of(&found)
        shape = shape_of(&found, occurred, pushed)
        likeness = self._known.get(shape)
        if likeness is not None:
            return first_of(likeness, position, &found, occurred, pushed)
        told = self._other(position, data)
        if type(told) is First:
            likeness = likeness_of(told.kind)
            # What would not say the very same is not remembered.
            if first_of(likeness, position, &found, occurred, pushed) == told:
                if len(self._known) >= KINDS_REMEMBERED_MAX:
                    self._known.clear()
                self._known[shape] = likeness
        return told

    cdef tuple _times_of(self, Found *found):
        """Both times of a receipt."""
        if found.is_json:
            return self._time(found.varying[OCCURRED], read_time), (None, b"", False)
        return self._time(found.varying[OCCURRED], read_scts), self._time(found.varying[PUSHED], read_escaped_time)

    cdef tuple _time(self, Span span, reader):
        if span.start is NULL:
            return None, b"", False
        cdef bytes text = span.start[:span.size]
        cdef tuple time = self._times.get((reader, text))
        if time is None:
            read = reader(text.decode())
            at, assumed = (read, read is not None) if reader is read_scts else read
            time = (at, b"" if at is None else str(microseconds(at)).encode(), assumed)
            if len(self._times) >= REMEMBERED_MAX:
                self._times.clear()
            self._times[reader, text] = time
        return time


cdef bytes shape_of(Found *found, tuple occurred, tuple pushed):
    """What tells receipts of one kind from others, with the reading of the times that is a part of the kind."""
    cdef bint assumed = occurred[2] or pushed[2]
    found.shape[found.shape_bytes] = c"J" if found.is_json else c"Q"
    found.shape[found.shape_bytes + 1] = assumed
    return found.shape[:found.shape_bytes + 2]


cdef object first_of(Likeness likeness, long long position, Found *found, tuple occurred, tuple pushed):
    cdef Span message = found.varying[MESSAGE]
    cdef bytes message_id = message.start[:message.size], time = occurred[1]
    return First(
        position,
        found.received_us,
        likeness.kind,
        message_id.decode("ascii"),
        text_of(found.varying[TO]),
        text_of(found.varying[CLIENT_REF]),
        occurred[0],
        pushed[0],
        blake2b(likeness.before + message_id + likeness.behind + time, digest_size=16).digest(),
        hash_of(message_id),
    )


cdef long long hash_of(bytes message_id) except? -1:
    """As `landed.store.rows.hash_of` has it."""
    cdef bytes digest = blake2b(message_id, digest_size=8).digest()
    cdef const unsigned char *byte = digest
    cdef unsigned long long hash = 0
    cdef int at
    for at in range(8):
        hash = hash << 8 | byte[at]
    return <long long>hash


cdef str text_of(Span span):
    return None if span.start is NULL else span.start[:span.size].decode("ascii")


cdef Likeness likeness_of(kind):
    cdef Likeness likeness = Likeness.__new__(Likeness)
    likeness.kind = kind
    likeness.before = f"{kind.api.value}\0{kind.account}\0".encode("utf-8", "surrogatepass")
    likeness.behind = f"\0{kind.provider_status}\0{kind.code or ''}\0".encode("utf-8", "surrogatepass")
    return likeness


# Where things are in a record.


cdef bint is_found(bytes data, Found *found) noexcept:
    """Whether these bytes are the record of a receipt of a usual shape, and where what varies is."""
    cdef const unsigned char *at = data
    cdef const unsigned char *end = at + len(data)
    cdef const unsigned char *context
    cdef Span query, body, other
    cdef int each
    if end - at < len(LEAD) + ID_BYTES + 2 * NUMBER_BYTES or memcmp(at, <const unsigned char *>LEAD, len(LEAD)):
        return False
    at += len(LEAD) + ID_BYTES
    if at[0] != 0xCF or at[NUMBER_BYTES] != 0xCF:
        return False
    found.received_us = 0
    for each in range(1, NUMBER_BYTES):
        found.received_us = found.received_us << 8 | at[NUMBER_BYTES + each]
    at += 2 * NUMBER_BYTES
    context = at
    # Account, API key, coverage, whether it is verified and stale, its answer, method and path.
    for each in range(8):
        if not is_value(&at, end, &other):
            return False
    if at - context > CONTEXT_BYTES_MAX:
        return False
    memcpy(found.shape, context, at - context)
    found.shape_bytes = at - context
    if not are_bytes(&at, end, &query) or not are_headers(&at, end) or not are_bytes(&at, end, &body):
        return False
    # From whom it came, and who accepted it.
    for each in range(2):
        if at < end and 0xC4 <= at[0] <= 0xC5 or not is_value(&at, end, &other) or not is_ascii(other):
            return False
    if at != end or query.size + body.size > USUAL_BYTES_MAX:
        return False
    for each in range(VARYING):
        found.varying[each].start = NULL
    found.is_json = body.size > 0 and body.start[0] == c"{"
    if found.is_json:
        return is_status(body, found)
    if query.size and body.size:
        return False
    return is_query(query if query.size else body, found)


cdef bint is_value(const unsigned char **at, const unsigned char *end, Span *value) noexcept:
    """Step over a text, bytes, a small number, a truth or nothing; `value` is the text or the bytes."""
    cdef const unsigned char *start = at[0]
    cdef Py_ssize_t left = end - start, lead, size
    if left < 1:
        return False
    value.start = NULL
    if start[0] < 0x80 or 0xC0 == start[0] or 0xC2 <= start[0] <= 0xC3:
        at[0] += 1
        return True
    if start[0] == 0xCC or start[0] == 0xCD:
        lead = 2 if start[0] == 0xCC else 3
        if left < lead:
            return False
        at[0] += lead
        return True
    if 0xA0 <= start[0] <= 0xBF:
        lead, size = 1, start[0] - 0xA0
    elif left >= 2 and (start[0] == 0xC4 or start[0] == 0xD9):
        lead, size = 2, start[1]
    elif left >= 3 and (start[0] == 0xC5 or start[0] == 0xDA):
        lead, size = 3, start[1] << 8 | start[2]
    else:
        return False
    if left < lead + size:
        return False
    value.start, value.size = start + lead, size
    at[0] += lead + size
    return True


cdef bint are_bytes(const unsigned char **at, const unsigned char *end, Span *value) noexcept:
    cdef const unsigned char *start = at[0]
    return is_value(at, end, value) and 0xC4 <= start[0] <= 0xC5


cdef bint are_headers(const unsigned char **at, const unsigned char *end) noexcept:
    """Step over an array of pairs."""
    cdef Py_ssize_t left = end - at[0], count
    cdef Span value
    if left >= 1 and 0x90 <= at[0][0] <= 0x9F:
        count = at[0][0] - 0x90
        at[0] += 1
    elif left >= 3 and at[0][0] == 0xDC:
        count = at[0][1] << 8 | at[0][2]
        at[0] += 3
    else:
        return False
    while count:
        if end - at[0] < 1 or at[0][0] != 0x92:
            return False
        at[0] += 1
        if not are_bytes(at, end, &value) or not are_bytes(at, end, &value):
            return False
        count -= 1
    return True


cdef bint is_ascii(Span text) noexcept:
    cdef Py_ssize_t at
    if text.start is NULL:
        return False
    for at in range(text.size):
        if text.start[at] >= 0x80:
            return False
    return True


# Receipts of the Messages API.


cdef bint is_status(Span body, Found *found) noexcept:
    """Find what varies in a JSON object, none of whose texts has an escape, and add the rest to the shape."""
    cdef const unsigned char *at = body.start
    cdef const unsigned char *end = at + body.size
    cdef const unsigned char *kept = at
    cdef const unsigned char *close
    cdef int depth = 0
    cdef int name
    if memchr(at, c"\\", body.size) is not NULL:
        return False
    while at < end:
        if at[0] == c"{" or at[0] == c"[":
            depth += 1
        elif at[0] == c"}" or at[0] == c"]":
            depth -= 1
        elif at[0] == c'"':
            close = quote_behind(at + 1, end)
            if close is NULL:
                return False
            name = name_in_json(at + 1, close - at - 1) if depth == 1 else NOTHING
            if name != NOTHING:
                # However else it may be spelled: if it came twice, one of both would be taken for what is alike.
                if end - close < 4 or close[1] != c":":
                    return False
                at = close + (3 if close[2] == c" " else 2)
                close = quote_behind(at + 1, end)
                if at[0] != c'"' or close is NULL or not is_taken(found, name, at + 1, close - at - 1, IN_JSON):
                    return False
                keep(found, kept, at + 1)
                kept = close
            at = close
        at += 1
    keep(found, kept, end)
    return found.varying[MESSAGE].start is not NULL


cdef const unsigned char *quote_behind(const unsigned char *at, const unsigned char *end) noexcept:
    return <const unsigned char *>memchr(at, c'"', end - at) if at < end else NULL


cdef int name_in_json(const unsigned char *name, Py_ssize_t size) noexcept:
    if size == 2 and not memcmp(name, b"to", 2):
        return TO
    if size == 9 and not memcmp(name, b"timestamp", 9):
        return OCCURRED
    if size == 10 and not memcmp(name, b"client_ref", 10):
        return CLIENT_REF
    if size == 12 and not memcmp(name, b"message_uuid", 12):
        return MESSAGE
    return NOTHING


# Receipts of the SMS API.


cdef bint is_query(Span query, Found *found) noexcept:
    """Find what varies in a query string or form, and add the rest to the shape."""
    cdef const unsigned char *at = query.start
    cdef const unsigned char *end = at + query.size
    cdef const unsigned char *behind
    cdef const unsigned char *equals
    cdef int name
    while at < end:
        behind = <const unsigned char *>memchr(at, c"&", end - at)
        behind = end if behind is NULL else behind
        equals = <const unsigned char *>memchr(at, c"=", behind - at)
        if equals is NULL or memchr(equals + 1, c"=", behind - equals - 1) is not NULL:
            return False
        if not is_all(at, behind - at, OF_QUERY):
            return False
        name = name_in_query(at, equals - at)
        if name == NOTHING:
            keep(found, at, behind)
        else:
            keep(found, at, equals)
            if name == PUSHED:
                if not is_taken(found, name, equals + 1, behind - equals - 1, OF_QUERY):
                    return False
            elif name != SIGNS and not is_taken(found, name, equals + 1, behind - equals - 1, IN_QUERY):
                return False
        if behind < end:
            keep(found, behind, behind + 1)
            if behind + 1 == end:
                return False
        at = behind + 1
    return found.varying[MESSAGE].start is not NULL


cdef int name_in_query(const unsigned char *name, Py_ssize_t size) noexcept:
    if size == 3 and not memcmp(name, b"sig", 3):
        return SIGNS
    if size == 4 and not memcmp(name, b"scts", 4):
        return OCCURRED
    if size == 5 and not memcmp(name, b"nonce", 5):
        return SIGNS
    if size == 6 and not memcmp(name, b"msisdn", 6):
        return TO
    if size == 9 and not memcmp(name, b"messageId", 9):
        return MESSAGE
    if size == 9 and not memcmp(name, b"timestamp", 9):
        return SIGNS
    if size == 10 and not memcmp(name, b"client-ref", 10):
        return CLIENT_REF
    if size == 17 and not memcmp(name, b"message-timestamp", 17):
        return PUSHED
    return NOTHING


cdef bint is_taken(
    Found *found, int name, const unsigned char *start, Py_ssize_t size, const bint *allowed
) noexcept:
    """Whether this value, the only one of its name, is plain enough to vary."""
    cdef Py_ssize_t size_max = VALUE_BYTES_MAX
    if name == MESSAGE:
        size_max = ID_CHARACTERS_MAX
    elif name == PUSHED:
        size_max = PUSHED_BYTES_MAX
    if found.varying[name].start is not NULL or not 0 < size <= size_max or not is_all(start, size, allowed):
        return False
    found.varying[name].start, found.varying[name].size = start, size
    return True


cdef bint is_all(const unsigned char *start, Py_ssize_t size, const bint *allowed) noexcept:
    cdef Py_ssize_t at
    for at in range(size):
        if not allowed[start[at]]:
            return False
    return True


cdef void keep(Found *found, const unsigned char *start, const unsigned char *end) noexcept:
    """Add to the shape, which has room for all of a usual receipt."""
    memcpy(found.shape + found.shape_bytes, start, end - start)
    found.shape_bytes += end - start


def _fill_tables():
    cdef int code
    for code in range(256):
        character = chr(code)
        letters = character.isascii() and character.isalnum()
        OF_QUERY[code] = letters or character in "-._~!$'()*,;:@/?%+="
        IN_QUERY[code] = OF_QUERY[code] and character not in "%+="
        IN_JSON[code] = 0x20 < code < 0x7F and character not in '"\\{}[]'


_fill_tables()
