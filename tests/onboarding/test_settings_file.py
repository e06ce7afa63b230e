"""Values are put into a settings file where they belong, and nothing else of it changes."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.errors import SettingsError
from landed.onboarding.settings_file import text_of_new, values_in, with_values

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ID = "35cc0d8e-a412-4fbc-8ede-18746b010cdc"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'sender = "ACME"\n'),
        ('sender = "old"\n', 'sender = "ACME"\n'),
        ("  sender='old' # ours\n", 'sender = "ACME"\n'),
        ('# The sender.\n# sender = "…"\nport = 1\n', '# The sender.\nsender = "ACME"\nport = 1\n'),
        ('# sender = "…"\nsender = "old"\n', '# sender = "…"\nsender = "ACME"\n'),
        ("port = 1\n", 'port = 1\nsender = "ACME"\n'),
        ("port = 1\n\n[limits]\nin_flight_max = 5\n", 'port = 1\n\nsender = "ACME"\n[limits]\nin_flight_max = 5\n'),
        (
            '[[account]]\nname = "b"\nsender = "x"\n',
            'sender = "ACME"\n[[account]]\nname = "b"\nsender = "x"\n',
        ),
        ('sender = "ACME"  # stays\n', 'sender = "ACME"  # stays\n'),
    ],
    ids=["empty", "set", "blanks", "waiting", "both", "nowhere", "before a table", "of a table", "as it is"],
)
def test_a_value_goes_where_its_setting_stands(before, after):
    assert with_values(before, {"sender": "ACME"}) == after


def test_in_a_new_file_only_the_lines_that_wait_change():
    new = text_of_new()
    changed = with_values(new, {"sender": "ACME", "vonage_application_id": ID, "public_url": "https://a.example"})
    different = [(old, now) for old, now in zip(new.splitlines(), changed.splitlines(), strict=True) if old != now]
    assert different == [
        ('# public_url = "…"', 'public_url = "https://a.example"'),
        ('# vonage_application_id = "…"', f'vonage_application_id = "{ID}"'),
        ('# sender = "…"', 'sender = "ACME"'),
    ]


@pytest.mark.parametrize(
    "text",
    ['note = """\nsender = "old"\n"""\n', "note = '''\n# sender = 1\n'''\n", 'sender = """\na\nb"""\n'],
    ids=["in a text", "in a literal", "a text of several lines"],
)
def test_what_cannot_be_changed_safely_is_left_to_a_person(text):
    with pytest.raises(SettingsError, match='set sender = "ACME" there'):
        with_values(text, {"sender": "ACME"})


def test_a_file_that_is_no_toml_is_refused():
    with pytest.raises(SettingsError, match="is no TOML"):
        values_in("sender = ")


@given(
    st.dictionaries(
        st.sampled_from(["sender", "port", "host", "public_url", "note"]),
        texts,
    ),
    st.dictionaries(
        st.sampled_from(["sender", "vonage_private_key"]),
        texts,
    ),
    st.sampled_from(["", "[limits]\nin_flight_max = 5\n", "# a comment\n"]),
)
def test_the_file_says_afterwards_what_was_wanted_and_what_it_said_before(before, values, end):
    text = "".join(with_values("", {name: value}) for name, value in before.items()) + end
    changed = with_values(text, values)
    assert tomllib.loads(changed) == tomllib.loads(text) | values
