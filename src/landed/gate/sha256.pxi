"""SHA-256, and HMAC by it, from the OpenSSL that hashlib goes by, without what hashlib and OpenSSL put around it.

That takes as long as to hash a receipt does (measured). OpenSSL has called these functions deprecated since 3.0, and has
them all the same. Where they are not found, or do not give what hashlib gives, all is hashed by hashlib.

https://docs.openssl.org/3.5/man3/SHA256_Init/
"""

cdef extern from "dlfcn.h":
    void *dlopen(const char *path, int flags)
    void *dlsym(void *library, const char *name)
    int RTLD_LAZY

cdef enum:
    DIGEST_BYTES = 32
    # Of OpenSSL's state, with room for a larger one: it has 28 words.
    STATE_WORDS = 64

ctypedef struct State:
    unsigned int[STATE_WORDS] words

ctypedef int (*Init)(State *state) noexcept nogil
ctypedef int (*Update)(State *state, const void *text, size_t size) noexcept nogil
ctypedef int (*Final)(unsigned char *digest, State *state) noexcept nogil

cdef Init sha256_init = NULL
cdef Update sha256_update = NULL
cdef Final sha256_final = NULL


cdef int hash_of(bytes text, unsigned char *digest, bint by_openssl) except -1:
    """The hash of a text, DIGEST_BYTES."""
    cdef State state
    if by_openssl:
        sha256_init(&state)
        sha256_update(&state, <const unsigned char *>text, len(text))
        sha256_final(digest, &state)
    else:
        put_digest(hashlib.sha256(text).digest(), digest)
    return 0


cdef class Hmac:
    """HMAC-SHA256 under one key, whose pads are hashed once; see `HmacSha256`."""

    cdef bint by_openssl
    cdef State inner
    cdef State outer
    cdef object by_hashlib

    def __init__(self, bytes key not None, bint by_openssl):
        cdef bytes inner, outer
        self.by_openssl = by_openssl
        self.by_hashlib = HmacSha256(key)
        if by_openssl:
            inner, outer = pads_of(key)
            sha256_init(&self.inner)
            sha256_update(&self.inner, <const unsigned char *>inner, len(inner))
            sha256_init(&self.outer)
            sha256_update(&self.outer, <const unsigned char *>outer, len(outer))

    cdef int code_of(self, bytes text, unsigned char *code) except -1:
        """The code of a text, DIGEST_BYTES."""
        cdef State inner, outer
        if self.by_openssl:
            inner, outer = self.inner, self.outer
            sha256_update(&inner, <const unsigned char *>text, len(text))
            sha256_final(code, &inner)
            sha256_update(&outer, code, DIGEST_BYTES)
            sha256_final(code, &outer)
        else:
            put_digest(self.by_hashlib.digest(text), code)
        return 0


cdef int put_digest(bytes digest, unsigned char *place) except -1:
    if len(digest) != DIGEST_BYTES:
        raise ValueError("It is no digest of SHA-256.")
    memcpy(place, <const unsigned char *>digest, DIGEST_BYTES)
    return 0


cdef bint find_openssl() except -1:
    """Whether hashlib's OpenSSL has these functions, and they hash."""
    global sha256_init, sha256_update, sha256_final
    module = sys.modules.get("_hashlib")
    file = getattr(module, "__file__", None)
    # Where only approved ways of hashing are allowed, some OpenSSL end the process at these.
    if file is None or module.get_fips_mode():
        return False
    cdef bytes path = os.fsencode(file)
    # It is loaded, and so is the library that it goes by.
    cdef void *library = dlopen(path, RTLD_LAZY)
    if library is NULL:
        return False
    sha256_init = <Init>dlsym(library, "SHA256_Init")
    sha256_update = <Update>dlsym(library, "SHA256_Update")
    sha256_final = <Final>dlsym(library, "SHA256_Final")
    if sha256_init is NULL or sha256_update is NULL or sha256_final is NULL:
        return False
    cdef unsigned char[DIGEST_BYTES] digest
    cdef bytes text = bytes(range(200))
    hash_of(text, digest, True)
    return digest[:DIGEST_BYTES] == hashlib.sha256(text).digest()


cdef bint HAS_OPENSSL = find_openssl()
