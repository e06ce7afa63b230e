"""Countries and operators, by the network's code or by the number."""

import re
from importlib.resources import files

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landed.domain.networks import country_name, country_of, country_of_number, network_of


@pytest.mark.parametrize(
    ("code", "country", "operator"),
    [
        ("23410", "GB", "O2 (UK)"),
        ("26201", "DE", "Telekom"),
        ("310260", "US", "T-Mobile"),
        ("51502", "PH", "Globe"),
        ("520999", "TH", None),
        ("234999", "GB", None),
        ("US-TOLL-FREE", "US", None),
        ("ZM-PREMIUM", "ZM", None),
        ("IT-PREMIUM", "IT", None),
        ("310", "US", None),
        ("GB", None, None),
        ("12345", None, None),
        ("", None, None),
        ("23410 ", None, None),
        ("us-toll-free", None, None),
        ("٢٣٤١٠", None, None),
    ],
)
def test_a_networks_code_is_looked_up_and_never_fails(code, country, operator):
    network = network_of(code)

    assert (network.code, network.country, network.operator) == (code, country, operator)
    assert network.name == (operator or code)


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("447700900001", "GB"),
        ("+44 7700 900001".replace(" ", ""), "GB"),
        ("00491701234567", "DE"),
        ("14155550123", "US"),
        ("16135550123", "CA"),
        ("12425551234", "BS"),
        ("77011234567", "KZ"),
        ("79161234567", "RU"),
        ("441481960194", "GG"),
        ("390612345678", "IT"),
        ("85298765432", "HK"),
        ("80012345678", None),
        ("AcmeInc", None),
        ("12345", None),
        ("", None),
        ("9999999999999", None),
        ("07700900001", None),
        ("0123456789", None),
    ],
)
def test_a_numbers_country(number, country):
    assert country_of_number(number) == country


@given(st.text(max_size=20))
def test_anything_may_be_asked(text):
    network_of(text)
    country_of_number(text)


def test_the_network_says_more_than_the_number():
    assert country_of("26201", "447700900001") == "DE"
    assert country_of("12345", "447700900001") == "GB"
    assert country_of(None, "447700900001") == "GB"
    assert country_of(None, None) is None


def test_countries_have_names():
    assert country_name("GB") == "United Kingdom"
    assert country_name("RE") == "Réunion"
    assert country_name("XX") == "XX"


def test_every_country_that_a_number_can_have_has_a_name():
    regions = {each for several in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.values() for each in several} - {"001"}

    assert [region for region in sorted(regions) if country_name(region) == region] == []


def test_the_table_names_its_source_and_date_and_is_small():
    text = (files("landed.domain") / "networks.tsv").read_text("utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]

    assert re.search(r"https://\S+ at \w+, \d{4}-\d\d-\d\d", " ".join(comments))
    assert len(text) < 100_000
    assert len({row[0] for row in rows}) == len(rows)
    for code, country, name in rows:
        assert re.fullmatch(r"\d{3}(\d{2,3})?|[A-Z]{2}", code)
        assert re.fullmatch(r"([A-Z]{2})?", country)
        assert name == name.strip()
