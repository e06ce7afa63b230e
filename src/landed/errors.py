"""The tree of errors. The type says whose fault it is and what happens next; nothing matches on text.

LandedError
├── BadSignature      the sender's: the request does not bear a signature that holds
├── Unreadable        the sender's: the request is none of Vonage's known forms
├── SettingsError     the operator's: a setting is wrong (exit 2)
├── SurroundingsError the machine's: port, disk, lock, data of another version (exit 3)
│   ├── JournalBroken   the journal cannot say what is durable: its process ends
│   ├── Unanswered      Vonage or a network: no answer came, so a change may have been made or not
│   └── Unable          a file cannot be opened or written now, and nothing was: it may work later
│       ├── StoreUnable     the store rolled back: the fold waits and tries again
│       └── JournalUnable   the journal rolled back: answered 503, tried again
├── Refused           Vonage's: it answered a question or a change with no (exit 3)
├── NotTaken          Vonage's: it certainly did not take a message, and says why
├── Unclear           nobody's: whether Vonage took a message cannot be known
└── FoldStopped       ours or the operator's: going on would skip or repeat records
"""


class LandedError(Exception):
    """Anything that landed raises on purpose; its text is one sentence for a person.

    `exit_code` is what a command ends with: 2 for wrong usage or settings, 3 for the surroundings.
    """

    exit_code = 3


class _WithReason(LandedError):
    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class BadSignature(_WithReason):
    """The request is not signed by a secret that was given.

    `reason` is one of: `missing`, `malformed`, `algorithm`, `issuer`, `wrong`, `body`, `account`,
    `uncovered`.
    """


class Unreadable(_WithReason):
    """The request is none of Vonage's known forms.

    `reason` is one of: `not-a-form`, `unknown-form`, `no-message-id`.
    """


class NotTaken(_WithReason):
    """Vonage did not take a message. `reason` is a slug of `landed.domain.meanings`, `wait_seconds` when to try again.

    `taken` has the ids of those parts of a long text that it did take.
    """

    def __init__(self, reason: str, sentence: str, wait_seconds: float, taken: tuple[str, ...] = ()) -> None:
        super().__init__(reason, sentence)
        self.wait_seconds = wait_seconds
        self.taken = taken


class Refused(LandedError):
    """Vonage answered a question or a change with no; `status` is HTTP's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Unclear(LandedError):
    """Whether Vonage took a message cannot be known: the request left, and no answer came that says so."""


class SettingsError(LandedError):
    """A setting is wrong: what, where and what to do."""

    exit_code = 2


class SurroundingsError(LandedError):
    """The machine said no: a port, a disk, a lock, a file of another version."""


class Unanswered(SurroundingsError):
    """No answer came to a question or a change, which may have been made all the same."""


class Unable(SurroundingsError):
    """Nothing was written, and a later try may succeed: the disk is full, failing or read-only, or a file is held."""


class StoreUnable(Unable):
    """Nothing was written: the disk is full or another process holds the store."""


class JournalBroken(SurroundingsError):
    """A write failed in a way that leaves durability unknown; the process must end, never retry."""


class JournalUnable(Unable):
    """Nothing was written: the disk is full or another process holds the journal."""


class FoldStopped(LandedError):
    """The fold will not go on: its position does not fit the journal or another fold moved it."""
