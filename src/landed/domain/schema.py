"""What a receiver of events may rely on: the JSON Schema of all events, made from the code, and what would break it.

1. Everything that the code has is always sent, so every property is required; `null` stands where nothing is known.
2. Objects stay open: a receiver must be ready for more properties, as for more types of events.
3. *Closed* words, those that a receiver decides by, are an `enum`: `outcome` and `permanence`, and `type` within each
   kind of event. All other words are text with `examples`, and more of them may come at any time.
4. To add is no break, and neither is to say less than was allowed. To take away, to leave out at times, to be null at
   times, or to say what was not allowed is one. An event of a new type is none, since who hears it does not know it.

`breaks` compares by these rules; a test holds `event_schema` against what was promised.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, get_args

import msgspec

from landed.domain.events import (
    MESSAGE_TYPES,
    Event,
    EventType,
    InboundData,
    MessageData,
    QuarantineData,
)
from landed.domain.lifecycle import Source
from landed.domain.meanings import REASONS, Kind, Move
from landed.domain.receipt import Api, Outcome, Status
from landed.domain.worth import CHANNELS, Knows

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REF = "#/$defs/"
MORE_MAY_COME = "More may come."

Schema = Mapping[str, Any]

# When each is said.
MEANINGS: Mapping[EventType, str] = {
    EventType.ACCEPTED: "Vonage or a carrier has taken the message; whether it arrives is open.",
    EventType.DELIVERED: "A receipt says that the message arrived, or that it was read.",
    EventType.READ: "A receipt says that the person has opened the message.",
    EventType.FAILED: "A receipt says that the message did not arrive, and none of equal trust says that it did.",
    EventType.UNCONFIRMED: "A final receipt came that knows nothing: the message may have arrived or not.",
    EventType.CONFLICT: "Receipts contradict each other about the end of the message, or a verified one has overturned "
    "what an unverified one said.",
    EventType.INBOUND: "Somebody sent a message to one of your numbers.",
    EventType.QUARANTINE: "Requests were put into quarantine since that was last said.",
}

# Each kind of event by its name in the schema: what it carries, and its types.
GROUPS: Mapping[str, tuple[type[msgspec.Struct], tuple[EventType, ...]]] = {
    "MessageEvent": (MessageData, MESSAGE_TYPES),
    "InboundEvent": (InboundData, (EventType.INBOUND,)),
    "QuarantineEvent": (QuarantineData, (EventType.QUARANTINE,)),
}


class Field(msgspec.Struct, frozen=True):
    """What a property means, and the words that it has; no others if they are `closed`."""

    meaning: str
    words: tuple[str, ...] = ()
    closed: bool = False


# By their names in JSON; a name means the same wherever it stands, but for those in `FIELDS_OF`.
FIELDS: Mapping[str, Field] = {
    "id": Field("The same whenever this event is told, also after a replay: `evt_` and 32 hexadecimal digits."),
    "timestamp": Field("When landed understood what the event says; it stays, as the id does."),
    "data": Field("What it is about, as that stands at the moment of telling."),
    "account": Field("The account of Vonage's that it belongs to, by its name in landed's settings."),
    "message": Field("The message as it stands at the moment of telling, by all of its receipts."),
    "receipt": Field("The receipt that the event comes from."),
    "inbound": Field("What somebody sent."),
    "message_id": Field("Vonage's id of the message."),
    "outcome": Field("What became of the message.", tuple(Outcome), closed=True),
    "status": Field("Where it stands, in landed's words, which are the same for both APIs.", tuple(Status)),
    "provider_status": Field("The same in Vonage's own word, as it came."),
    "api": Field("Which of Vonage's APIs spoke.", tuple(Api)),
    "channel": Field("By what it was sent.", CHANNELS),
    "to": Field("Whom it was sent to."),
    "from": Field("Who sent it."),
    "client_ref": Field("The sender's own reference."),
    "network": Field("The mobile network, by its MCC and MNC."),
    "country": Field("The country of the network or else of the number, two letters of ISO 3166."),
    "code": Field("Vonage's error code, as it came."),
    "reason": Field("Why it is where it is, a slug of docs/reasons.md; null where nothing is wrong."),
    "detail": Field("What Vonage wrote beside the code."),
    "conflict": Field("Whether receipts say both that it arrived and that it did not."),
    "verified": Field("Whether it comes from what bore a signature that holds."),
    "stale": Field("Whether that signature was older than is usual."),
    "receipts": Field("How many different receipts there are of the message."),
    "sent_at": Field("When it was sent, by the sender's word."),
    "first_at": Field("When the first receipt came."),
    "final_at": Field("When the outcome was first heard; null while it is pending."),
    "latency_ms": Field(
        "Milliseconds from `sent_at`, or else `first_at`, to `final_at`; null where that says nothing."
    ),
    "price": Field("The price, exact, as a decimal number in text."),
    "currency": Field("The currency of the price, three letters of ISO 4217, where Vonage names it."),
    "segments": Field("How many segments a text had, where Vonage says so."),
    "occurred_at": Field("When it happened, by the provider's clock."),
    "received_at": Field("When landed received it."),
    "final": Field("Whether nothing more is to be expected after this word on this channel."),
    "knows": Field("Up to where the one who said it can know.", tuple(Knows)),
    "source": Field("Whose word it is: a webhook of Vonage's, or the sender's.", tuple(Source)),
    "copies": Field("How often the same receipt came."),
    "message_type": Field("What sort of message it is, in Vonage's word.", ("text", "image")),
    "text": Field("Its text, where it has one."),
    "slug": Field("The reason in a word, a slug of docs/reasons.md.", tuple(REASONS)),
    "permanence": Field("What sort of reason it is, and so what sense another try makes.", tuple(Kind), closed=True),
    "move": Field("Whose move it is.", tuple(Move)),
    "meaning": Field("What the reason means, a sentence."),
    "advice": Field("What to do about it, a sentence."),
    "retry_seconds": Field("After how many seconds another try makes sense; null where none helps."),
    "held": Field("How many requests are in quarantine."),
    "came": Field("How many came since that was last said."),
    "reasons": Field("How many of those came for which reason, by the word that `landed quarantine list` has for it."),
}
FIELDS_OF: Mapping[type[msgspec.Struct], Mapping[str, Field]] = {
    MessageData: {"reason": Field("Why the message is where it is; null where nothing is wrong.")},
}


def event_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of every event, one alternative for each kind; the same whenever it is made."""
    refs, made = msgspec.json.schema_components(
        [Event[data] for data, _ in GROUPS.values()],  # type: ignore[valid-type]
        ref_template=REF + "{name}",
    )
    events = {
        name: {**_object(Event, _resolved(ref, {"$defs": made}), types), "title": name}
        for (name, (_, types)), ref in zip(GROUPS.items(), refs, strict=True)
    }
    structs = dict.fromkeys(struct for data, _ in GROUPS.values() for struct in _structs(data))
    return {
        "$schema": DIALECT,
        "title": "Event",
        "description": "One event of landed's, told apart by its type. Be ready for properties and types that are not "
        "here: ignore what you do not know.",
        "oneOf": [{"$ref": REF + name} for name in events],
        "$defs": events | {struct.__name__: _object(struct, made[struct.__name__]) for struct in structs},
    }


def _structs(kind: object) -> Iterator[type[msgspec.Struct]]:
    """All that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from _structs(field.type)
    for part in get_args(kind):
        yield from _structs(part)


def _object(struct: type[msgspec.Struct], made: Schema, types: tuple[EventType, ...] = ()) -> dict[str, Any]:
    known = {**FIELDS, **FIELDS_OF.get(struct, {}), "type": Field("What is told.", types, closed=True)}
    properties = {
        field.encode_name: _property(made["properties"][field.encode_name], field.type, known[field.encode_name])
        for field in msgspec.structs.fields(struct)
    }
    return {
        "title": struct.__name__,
        "description": _first_sentence(struct),
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _property(made: Schema, kind: object, field: Field) -> dict[str, Any]:
    is_open = bool(field.words) and not field.closed
    meaning = f"{field.meaning} {MORE_MAY_COME}" if is_open else field.meaning
    # It is always sent, so nobody needs its default; the type's own words are the field's.
    made = {name: value for name, value in made.items() if name != "default"}
    if "anyOf" in made:
        return {"description": meaning, "anyOf": [_told(form, kind, field) for form in made["anyOf"]]}
    return {"description": meaning, **_told({"type": "string"} if field.closed else made, kind, field)}


def _told(form: Schema, kind: object, field: Field) -> dict[str, Any]:
    """A form of a property, with what is known of it where it is text."""
    if form.get("type") != "string":
        return dict(form)
    moment = {"format": "date-time"} if datetime in (kind, *get_args(kind)) else {}
    words = [str(word) for word in field.words]
    if not field.closed:
        return {**form, **moment, **({"examples": words} if words else {})}
    return {**form, **({"const": words[0]} if len(words) == 1 else {"enum": words})}


def _first_sentence(struct: type[msgspec.Struct]) -> str:
    return " ".join(re.split(r"(?<=\.)\s", inspect.cleandoc(struct.__doc__ or ""))[0].split())


# What breaks.

ANYTHING = "anything"
KINDS: Mapping[str, str] = {
    ANYTHING: "anything",
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "an object",
}
KIND_OF: Mapping[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
UNIONS = ("oneOf", "anyOf")
# What is followed and compared by itself.
STRUCTURE = frozenset({"type", "enum", "const", "properties", "required", "additionalProperties", "items"})
# What promises nothing.
ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "$comment", "title", "description", "default", "examples"})
ANNOTATIONS |= {"deprecated", "readOnly", "writeOnly"}
# Whether a new value of a keyword keeps what the old one promised. Any other keyword must stay as it was.
BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), operator.ge),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), operator.le),
}


def breaks(old: Schema, new: Schema) -> list[str]:
    """What would break a receiver that was written for the old schema, a sentence each; nothing where all is well.

    Both are documents as `event_schema` makes them. A sentence names the types of events that it holds for, unless it
    holds for all that there were. A property that is renamed is gone.
    """
    before, after = _by_type(old), _by_type(new)
    comparison = _Comparison(old, new)
    said: dict[str, list[str]] = {}
    kept = [word for word in before if word in after]
    for word in kept:
        for what in comparison.between(before[word], after[word], ""):
            said.setdefault(what, []).append(word)
    gone = [f"The event type {word} is gone." for word in before if word not in after]
    where = {what: "" if words == kept else f", in {', '.join(words)}" for what, words in said.items()}
    return gone + [f"{what}{where[what]}." for what in said]


def _by_type(document: Schema) -> dict[str, Schema]:
    """Each type of event, with what it looks like."""
    found: dict[str, list[Schema]] = {}
    for _, form in _forms(document, document):
        told = form.get("properties", {}).get("type", {})
        for word in told.get("enum", [told["const"]] if "const" in told else []):
            properties = {**form["properties"], "type": {"const": word}}
            found.setdefault(word, []).append({**form, "properties": properties})
    return {word: {"anyOf": forms} for word, forms in found.items()}


class _Comparison:
    """Two documents, and what is broken between a part of the one and a part of the other."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new

    def between(
        self, old: Schema, new: Schema, path: str, above: tuple[tuple[Schema, Schema], ...] = ()
    ) -> Iterator[str]:
        """What a reader of the old part is not ready for; `above` is what is being compared already."""
        if not old:
            return
        before = list(_forms(old, self._old))
        for kind, form in _forms(new, self._new):
            fitting = [was for has, was in before if has in (kind, ANYTHING) or (has, kind) == ("number", "integer")]
            if any((was, form) in above for was in fitting):
                continue
            if not fitting:
                yield f"`{path}` may be {KINDS[kind]} now, which it never was"
                continue
            yield from min((list(self._within(was, form, path, (*above, (was, form)))) for was in fitting), key=len)

    def _within(self, old: Schema, new: Schema, path: str, above: tuple[tuple[Schema, Schema], ...]) -> Iterator[str]:
        yield from _values(old, new, path)
        for keyword, promised in old.items():
            if keyword in STRUCTURE or keyword in ANNOTATIONS:
                continue
            keeps: Callable[[Any, Any], bool] = BOUNDS.get(keyword, operator.eq)
            if keyword not in new or not keeps(new[keyword], promised):
                yield f"`{path}` no longer keeps to {keyword} {promised}"
        yield from self._members(old, new, path, above)
        yield from self.between(_part(old, "items"), _part(new, "items"), f"{path}[]", above)

    def _members(self, old: Schema, new: Schema, path: str, above: tuple[tuple[Schema, Schema], ...]) -> Iterator[str]:
        had, has = old.get("properties", {}), new.get("properties", {})
        for name in had:
            at = _at(path, name)
            if name not in has:
                yield f"`{at}` is gone"
                continue
            if name in old.get("required", ()) and name not in new.get("required", ()):
                yield f"`{at}` may be missing now"
            yield from self.between(_part(had, name), _part(has, name), at, above)
        others = _part(old, "additionalProperties")
        for name in has:
            if name not in had:
                yield from self.between(others, _part(has, name), _at(path, name), above)
        yield from self.between(others, _part(new, "additionalProperties"), _at(path, "*"), above)


def _values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    if "enum" not in old:
        return
    words = [msgspec.json.encode(value).decode() for value in old["enum"]]
    if "enum" not in new:
        yield f"`{path}` may be other than {', '.join(words)} now"
        return
    said = [msgspec.json.encode(value).decode() for value in new["enum"]]
    yield from (f"`{path}` may be {word} now, which it never was" for word in said if word not in words)


def _part(schema: Schema, name: str) -> Schema:
    """A part of a schema: `true`, as where there is none, allows anything, and `false` nothing."""
    part: Schema | bool = schema.get(name, True)
    if isinstance(part, bool):
        return {} if part else {"enum": []}
    return part


def _forms(schema: Schema, document: Schema) -> Iterator[tuple[str, Schema]]:
    """The kinds of JSON that a part of a schema allows, each with what it says of that kind; references followed."""
    if "$ref" in schema:
        yield from _forms(_resolved(schema, document), document)
        return
    for union in UNIONS:
        if union in schema:
            rest = {name: value for name, value in schema.items() if name != union}
            for form in schema[union]:
                yield from _forms({**rest, **form}, document)
            return
    if "const" in schema:
        schema = {**{name: value for name, value in schema.items() if name != "const"}, "enum": [schema["const"]]}
    if "enum" in schema:
        for kind, values in _grouped(schema["enum"]).items():
            yield kind, {**schema, "type": kind, "enum": values}
        return
    kinds = schema.get("type", ANYTHING)
    yield from ((kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _resolved(schema: Schema, document: Schema) -> Schema:
    """What a reference leads to, with what stands beside it."""
    rest = {name: value for name, value in schema.items() if name != "$ref"}
    return {**document["$defs"][schema["$ref"].removeprefix(REF)], **rest}


def _grouped(values: Iterable[object]) -> dict[str, list[object]]:
    grouped: dict[str, list[object]] = {}
    for value in values:
        grouped.setdefault(KIND_OF[type(value)], []).append(value)
    return grouped


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
