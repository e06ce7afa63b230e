"""Where a message went: country and operator by the network's code, or the country by the number alone.

The table beside this file is generated; its first lines name source and date, and `make networks` makes it again.
A code is what Vonage calls `network-code` or `network_code`: mobile country code and mobile network code, or a word
of Vonage's own as `US-TOLL-FREE`, which stays as it is.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files
from zlib import crc32

import msgspec

COUNTRY_DIGITS = 3
# What is longer is no code and no number, and is not remembered.
CHARACTERS_MAX = 32
NETWORKS_REMEMBERED_MAX = 4_096
NUMBERS_REMEMBERED_MAX = 16_384
PSEUDO = re.compile(r"([A-Z]{2})-[A-Z-]+")
NUMBER = re.compile(r"\d{7,15}")


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network: `country` is ISO 3166 alpha-2, `operator` the name it goes by; None where that is not known."""

    code: str
    country: str | None = None
    operator: str | None = None

    @property
    def name(self) -> str:
        """The operator, or else the code itself."""
        return self.operator or self.code


def network_of(code: str) -> Network:
    """What is known of a network's code; never fails."""
    return _network(code) if len(code) <= CHARACTERS_MAX else Network(code=code)


@lru_cache(NETWORKS_REMEMBERED_MAX)
def _network(code: str) -> Network:
    pseudo = PSEUDO.fullmatch(code)
    if pseudo:
        return Network(code=code, country=pseudo[1])
    country, operator = _table().get(code, ("", "")) if len(code) > COUNTRY_DIGITS else ("", "")
    if not country and code.isdigit():
        country = _table().get(code[:COUNTRY_DIGITS], ("", ""))[0]
    return Network(code=code, country=country or None, operator=operator or None)


def country_of_number(number: str) -> str | None:
    """The country that a number in international form was given out in; None for what is no number."""
    return _country(number) if len(number) <= CHARACTERS_MAX else None


@lru_cache(NUMBERS_REMEMBERED_MAX)
def _country(number: str) -> str | None:
    digits = number.removeprefix("+").removeprefix("00")
    # With a zero in front it is as people write it at home.
    if not NUMBER.fullmatch(digits) or digits[0] == "0":
        return None
    import phonenumbers  # noqa: PLC0415 - where there is a network, nobody needs it

    for length in (1, 2, 3):
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:length]))
        if regions is None:
            continue
        # The first region is the main one, to which what no other one claims belongs.
        parsed = phonenumbers.PhoneNumber(country_code=int(digits[:length]), national_number=int(digits[length:]))
        found = regions[0] if len(regions) == 1 else phonenumbers.region_code_for_number(parsed) or regions[0]
        return None if found == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY else found
    return None


def country_of(network: str | None, number: str | None) -> str | None:
    """A message's country: its network's, or else its recipient's number's."""
    country = None if network is None else network_of(network).country
    return country or (None if number is None else country_of_number(number))


def calling_code(country: str) -> int:
    """What numbers of a country begin with; 0 where that is not known."""
    import phonenumbers  # noqa: PLC0415 - the same

    code: int = phonenumbers.country_code_for_region(country)
    return code


def country_name(country: str) -> str:
    """A country's name in English; where it is not known, its two letters."""
    return _names().get(country, country)


def numbers_version() -> str:
    """Which edition of the numbering plans `country_of_number` goes by."""
    import phonenumbers  # noqa: PLC0415 - the same

    version: str = phonenumbers.__version__
    return version


@cache
def table_version() -> str:
    """Which edition of the table of networks this is."""
    return f"{crc32(_text().encode()):08x}"


def _text() -> str:
    return (files("landed.domain") / "networks.tsv").read_text("utf-8")


@cache
def _table() -> dict[str, tuple[str, str]]:
    """Code to country and name: of the operator, or, for a code of three digits or two letters, of the country."""
    rows = (line.split("\t") for line in _text().splitlines() if not line.startswith("#"))
    return {code: (country, name) for code, country, name in rows}


@cache
def _names() -> dict[str, str]:
    return {country: name for code, (country, name) in _table().items() if code == country}
