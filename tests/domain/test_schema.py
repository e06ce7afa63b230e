"""What a receiver of events may rely on: the schema is the events', and what was promised is kept."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from landed.domain.events import EventType, called_for, decode_event, encode_event
from landed.domain.samples import CASES, facts_of, sample_of
from landed.domain.schema import GROUPS, MEANINGS, REF, breaks, event_schema

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
SCHEMAS = Path(__file__).parent.parent.parent / "schemas"
MESSAGE = "message.accepted, message.failed, message.unconfirmed, message.conflict, message.delivered, message.read"


def test_what_was_promised_to_receivers_is_kept():
    """Fails when a receiver that was written for `schemas/events-1.json` would break.

    Each sentence is a change to take back: leave what there is as it is, and say what is new in a property or a type of
    event of its own. When something new is released, copy `docs/events.schema.json` over the baseline, and it is
    promised, too. Never copy it to make this pass, except before the first release, when nothing is promised yet.
    """
    assert breaks(json.loads((SCHEMAS / "events-1.json").read_text()), event_schema()) == []


def test_the_schema_is_the_same_whenever_it_is_made():
    assert json.dumps(event_schema()) == json.dumps(event_schema())


def test_every_type_has_a_meaning_and_a_place_in_the_schema():
    assert set(MEANINGS) == set(EventType)
    assert sorted(event for _, types in GROUPS.values() for event in types) == sorted(EventType)


def followed(schema):
    """A part of the schema and what it refers to."""
    return event_schema()["$defs"][schema["$ref"].removeprefix(REF)] if "$ref" in schema else schema


def misfits(value, schema, path="event"):
    """What of a JSON object is not in its schema, or the other way round."""
    schema = followed(schema)
    forms = [followed(form) for form in schema.get("anyOf", [schema])]
    if not isinstance(value, dict):
        allowed = {"string": str, "integer": int, "boolean": bool, "null": type(None)}
        if not any(type(value) is allowed.get(form["type"]) and fits(value, form) for form in forms):
            yield f"{path}: {value!r}"
        return
    (form,) = [form for form in forms if form["type"] == "object"]
    if "properties" not in form:
        return
    for name in form["properties"].keys() ^ value.keys() | form["properties"].keys() ^ set(form["required"]):
        yield f"{path}.{name}"
    for name in form["properties"].keys() & value.keys():
        yield from misfits(value[name], form["properties"][name], f"{path}.{name}")


def fits(value, form):
    if form.get("format") == "date-time":
        return datetime.fromisoformat(value).tzinfo is not None
    return value in form.get("enum", [form.get("const", value)])


@pytest.mark.parametrize("event", EventType)
def test_an_event_is_as_the_schema_says_whole(event):
    told = json.loads(encode_event(sample_of(event, NOON)))
    (group,) = [name for name, (_, types) in GROUPS.items() if event in types]
    assert list(misfits(told, {"$ref": REF + group})) == []


@pytest.mark.parametrize("event", EventType)
def test_an_event_is_one_alternative_of_the_schema_for_a_library(event):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(event_schema())
    validator = jsonschema.Draft202012Validator(event_schema())
    told = json.loads(encode_event(sample_of(event, NOON)))
    validator.validate(told)
    assert not validator.is_valid({**told, "type": "message.lost"})
    assert not validator.is_valid({name: value for name, value in told.items() if name != "data"})


@pytest.mark.parametrize("event", EventType)
def test_a_sample_is_what_its_facts_call_for_and_can_be_read(event):
    sample = sample_of(event, NOON)
    assert decode_event(encode_event(sample)) == sample
    assert event not in CASES or event in called_for(facts_of(event, NOON))


def test_every_property_says_what_it_means():
    for name, struct in event_schema()["$defs"].items():
        assert struct["description"].endswith("."), name
        assert all(each["description"].endswith(".") for each in struct["properties"].values()), name


# Changes, by what is done to the definitions; and what is said of them.


def gone(struct, name):
    def change(schema):
        del schema["$defs"][struct]["properties"][name]
        schema["$defs"][struct]["required"].remove(name)

    return change


def renamed(struct, name, new):
    def change(schema):
        properties = schema["$defs"][struct]["properties"]
        properties[new] = properties.pop(name)
        schema["$defs"][struct]["required"] = list(properties)

    return change


def is_now(struct, name, form):
    def change(schema):
        schema["$defs"][struct]["properties"][name] = form

    return change


def may_be_missing(struct, name):
    def change(schema):
        schema["$defs"][struct]["required"].remove(name)

    return change


def added(struct, name, *, required):
    def change(schema):
        schema["$defs"][struct]["properties"][name] = {"type": "string"}
        if required:
            schema["$defs"][struct]["required"].append(name)

    return change


def types_of(group, *words):
    return is_now(group, "type", {"type": "string", "enum": list(words)})


def no_group(group):
    def change(schema):
        schema["oneOf"] = [form for form in schema["oneOf"] if form["$ref"] != REF + group]

    return change


def new_group(schema):
    event = copy.deepcopy(schema["$defs"]["InboundEvent"])
    event["properties"]["type"] = {"const": "balance.low"}
    schema["$defs"]["BalanceEvent"] = event
    schema["oneOf"].append({"$ref": f"{REF}BalanceEvent"})


def moved(struct, new):
    """Another name for a definition, which nobody sees."""

    def change(schema):
        text = json.dumps(schema).replace(f'"{REF}{struct}"', f'"{REF}{new}"')
        schema.update(json.loads(text))
        schema["$defs"][new] = schema["$defs"].pop(struct)

    return change


def inlined(schema):
    data = schema["$defs"].pop("QuarantineData")
    schema["$defs"]["QuarantineEvent"]["properties"]["data"] = data


NULL = {"type": "null"}
TEXT = {"type": "string"}
ALL_TYPES = MESSAGE.split(", ")

CHANGES = {
    "none": (lambda _: None, []),
    "a-description": (is_now("MessageData", "account", TEXT | {"description": "Whose.", "examples": ["b"]}), []),
    "a-property-gone": (gone("MessageView", "country"), [f"`data.message.country` is gone, in {MESSAGE}."]),
    "a-property-renamed": (
        renamed("InboundView", "text", "body"),
        ["`data.inbound.text` is gone, in inbound.received."],
    ),
    "a-property-of-all-gone": (
        lambda schema: [gone(group, "timestamp")(schema) for group in GROUPS],
        ["`timestamp` is gone."],
    ),
    "data-gone": (gone("QuarantineEvent", "data"), ["`data` is gone, in quarantine.growing."]),
    "no-longer-required": (
        may_be_missing("ReceiptView", "copies"),
        [f"`data.receipt.copies` may be missing now, in {MESSAGE}."],
    ),
    "the-type-no-longer-required": (
        may_be_missing("InboundEvent", "type"),
        ["`type` may be missing now, in inbound.received."],
    ),
    "a-property-added": (added("MessageView", "segments", required=True), []),
    "an-optional-property-added": (added("QuarantineEvent", "hint", required=False), []),
    "may-be-null": (
        is_now("MessageView", "outcome", {"anyOf": [{"type": "string", "enum": ["failed"]}, NULL]}),
        [f"`data.message.outcome` may be null now, which it never was, in {MESSAGE}."],
    ),
    "may-be-null-as-a-list-of-types": (
        is_now("InboundView", "api", {"type": ["string", "null"]}),
        ["`data.inbound.api` may be null now, which it never was, in inbound.received."],
    ),
    "an-object-may-be-null": (
        is_now("InboundData", "inbound", {"anyOf": [{"$ref": f"{REF}InboundView"}, NULL]}),
        ["`data.inbound` may be null now, which it never was, in inbound.received."],
    ),
    "never-null-any-more": (is_now("MessageView", "channel", TEXT), []),
    "always-null": (is_now("MessageView", "country", NULL), []),
    "another-type": (
        is_now("QuarantineData", "held", TEXT),
        ["`data.held` may be text now, which it never was, in quarantine.growing."],
    ),
    "a-whole-number-with-fractions": (
        is_now("QuarantineData", "held", {"type": "number"}),
        ["`data.held` may be a number now, which it never was, in quarantine.growing."],
    ),
    "anything": (
        is_now("InboundView", "api", {}),
        ["`data.inbound.api` may be anything now, which it never was, in inbound.received."],
    ),
    "a-map-of-something-else": (
        is_now("QuarantineData", "reasons", {"type": "object", "additionalProperties": TEXT}),
        ["`data.reasons.*` may be text now, which it never was, in quarantine.growing."],
    ),
    "a-map-of-anything": (
        is_now("QuarantineData", "reasons", {"type": "object"}),
        ["`data.reasons.*` may be anything now, which it never was, in quarantine.growing."],
    ),
    "a-map-with-a-property-of-its-own": (
        is_now("QuarantineData", "reasons", {"type": "object", "properties": {"all": NULL}}),
        [
            "`data.reasons.all` may be null now, which it never was, in quarantine.growing.",
            "`data.reasons.*` may be anything now, which it never was, in quarantine.growing.",
        ],
    ),
    "a-closed-word-more": (
        is_now("ReasonView", "permanence", {"enum": ["permanent", "seasonal"]}),
        [f'`data.reason.permanence` may be "seasonal" now, which it never was, in {MESSAGE}.'],
    ),
    "a-closed-word-fewer": (is_now("ReasonView", "permanence", {"enum": ["permanent"]}), []),
    "a-constant-of-a-closed-list": (is_now("ReasonView", "permanence", {"const": "permanent"}), []),
    "a-closed-list-opened": (
        is_now("ReceiptView", "outcome", TEXT),
        [
            (
                '`data.receipt.outcome` may be other than "pending", "delivered", "failed", "unconfirmed" now, in '
                f"{MESSAGE}."
            )
        ],
    ),
    "an-open-list-closed": (is_now("ReasonView", "move", {"enum": ["nobody", "sender"]}), []),
    "a-format-gone": (
        is_now("MessageView", "sent_at", {"anyOf": [TEXT, NULL]}),
        [f"`data.message.sent_at` no longer keeps to format date-time, in {MESSAGE}."],
    ),
    "another-format": (
        is_now("InboundEvent", "timestamp", TEXT | {"format": "date"}),
        ["`timestamp` no longer keeps to format date-time, in inbound.received."],
    ),
    "a-format-more": (is_now("InboundData", "account", TEXT | {"format": "uuid"}), []),
    "an-event-type-gone": (
        types_of("MessageEvent", *[word for word in ALL_TYPES if word != "message.read"]),
        ["The event type message.read is gone."],
    ),
    "an-event-type-more": (types_of("MessageEvent", *ALL_TYPES, "message.overdue"), []),
    "another-constant": (
        is_now("InboundEvent", "type", {"const": "inbound.came"}),
        ["The event type inbound.received is gone."],
    ),
    "a-kind-of-event-gone": (no_group("QuarantineEvent"), ["The event type quarantine.growing is gone."]),
    "a-kind-of-event-more": (new_group, []),
    "an-event-type-of-another-kind": (
        lambda schema: [
            no_group("InboundEvent")(schema),
            types_of("QuarantineEvent", "quarantine.growing", "inbound.received")(schema),
        ],
        [
            "`data.account` is gone, in inbound.received.",
            "`data.inbound` is gone, in inbound.received.",
        ],
    ),
    "a-definition-renamed": (moved("ReasonView", "Reason"), []),
    "a-definition-inlined": (inlined, []),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_a_change_breaks_receivers_or_does_not(change, said):
    new = copy.deepcopy(event_schema())
    change(new)
    assert breaks(event_schema(), new) == said


# What the code does not make today: one property of an event, before and after.
FORMS = {
    "longer": ({"type": "string", "maxLength": 10}, {"type": "string", "maxLength": 20}, ["maxLength 10"]),
    "shorter": ({"type": "string", "maxLength": 10}, {"type": "string", "maxLength": 5}, []),
    "less": ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": -1}, ["minimum 0"]),
    "more": ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}, []),
    "a-pattern-gone": ({"type": "string", "pattern": "^evt_"}, TEXT, ["pattern ^evt_"]),
    "a-list-of-others": ({"type": "array", "items": TEXT}, {"type": "array", "items": NULL}, ["null"]),
    "a-list-of-fewer": ({"type": "array", "items": {"type": ["string", "null"]}}, {"type": "array", "items": TEXT}, []),
    "a-whole-number-of-numbers": ({"type": "number"}, {"type": "integer"}, []),
    "anything-before": ({}, {"type": ["integer", "null"]}, []),
    "true-is-anything": (True, NULL, []),
    "nothing-more-was-to-come": (
        {"type": "object", "properties": {}, "additionalProperties": False},
        {"type": "object", "properties": {"more": TEXT}, "additionalProperties": False},
        ["text"],
    ),
    "one-of-two-objects": (
        {"oneOf": [{"type": "object", "properties": {"a": TEXT}}, {"type": "object", "properties": {"b": TEXT}}]},
        {"type": "object", "properties": {"b": TEXT}},
        [],
    ),
    "a-keyword-that-is-not-known": ({"type": "string", "not": {"const": ""}}, TEXT, ["not {'const': ''}"]),
    "a-tree": ({"$ref": f"{REF}Tree"}, {"$ref": f"{REF}Tree"}, []),
}


def document(form):
    """A schema of one type of event."""
    event = {"type": "object", "properties": {"type": {"const": "it"}, "x": form}, "required": ["type", "x"]}
    tree = {"type": "object", "properties": {"leaves": {"type": "array", "items": {"$ref": f"{REF}Tree"}}}}
    return {"oneOf": [event], "$defs": {"Tree": tree}}


@pytest.mark.parametrize(("old", "new", "said"), FORMS.values(), ids=FORMS)
def test_a_form_is_narrowed_or_breaks_receivers(old, new, said):
    found = breaks(document(old), document(new))
    assert [part for part in said if part in "".join(found)] == said
    assert len(found) == len(said)


def test_a_tree_that_changed_is_found_below_itself():
    new = document({"$ref": f"{REF}Tree"})
    new["$defs"]["Tree"]["properties"]["leaves"] = {"type": "null"}
    assert breaks(document({"$ref": f"{REF}Tree"}), new) == ["`x.leaves` may be null now, which it never was."]
