"""Makes `src/landed/domain/networks.tsv` again, from a public list of mobile networks.

    python tools/networks.py [FILE] > src/landed/domain/networks.tsv

The list is that of REPOSITORY at COMMIT (MIT licence, after the tables of Wikipedia), fetched from there or, where that
cannot be, read from FILE. What is kept of it are facts: code, country, and the name that an operator goes by. Networks
that work no longer, test networks and those that were only planned are left out.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = "cavoq/mcc-mnc-list"
COMMIT, DATE = "e827f7820af6c8ac1ed07a68c9b7ae3e4d39217f", "2024-09-09"
SOURCE = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/mcc-mnc-list.json"
LEFT_OUT = {"Not operational", "Reserved", "Returned spare", "Planned", "Test Network", "Testing"}
FETCH_SECONDS = 60
# Of entries for several territories the one with most people.
SEVERAL = {"YT/RE": "RE", "BL/GF/GP/MF/MQ": "GP", "BQ/CW/SX": "CW"}
# Countries that have numbers of their own and no mobile country code, or share one, by ISO 3166.
OTHER_NAMES = {
    "AC": "Ascension Island",
    "AX": "Åland Islands",
    "CC": "Cocos (Keeling) Islands",
    "CX": "Christmas Island",
    "EH": "Western Sahara",
    "GF": "French Guiana",
    "GG": "Guernsey",
    "GP": "Guadeloupe",
    "GU": "Guam",
    "IM": "Isle of Man",
    "IO": "British Indian Ocean Territory",
    "JE": "Jersey",
    "BL": "Saint Barthélemy",
    "BQ": "Caribbean Netherlands",
    "CW": "Curaçao",
    "MF": "Saint Martin",
    "MP": "Northern Mariana Islands",
    "MQ": "Martinique",
    "NF": "Norfolk Island",
    "PS": "Palestine",
    "RE": "Réunion",
    "SJ": "Svalbard and Jan Mayen",
    "SX": "Sint Maarten",
    "TA": "Tristan da Cunha",
    "VA": "Vatican City",
    "VI": "United States Virgin Islands",
    "YT": "Mayotte",
}

Entry = dict[str, Any]


def main() -> None:
    """Read the list and print the table."""
    entries = [entry for entry in json.loads(text_of(sys.argv[1:])) if is_network(entry)]
    print("# Mobile networks: code, country, operator; a code of three digits or two letters is a country's, named.")
    print(f"# Made by tools/networks.py from https://github.com/{REPOSITORY} at {COMMIT[:12]}, {DATE} (MIT licence).")
    countries = countries_of(entries)
    rows = {mcc: f"{mcc}\t{country}\t{name}" for mcc, (country, name) in countries.items()}
    names = dict(countries.values()) | OTHER_NAMES
    rows |= {country: f"{country}\t{country}\t{name}" for country, name in names.items()}

    def stands(entry: Entry) -> tuple[bool, bool]:
        """Of several entries for one code the one that works, in the country that the code is known for."""
        return entry["status"] == "Operational", iso(entry) == countries.get(entry["mcc"], ("", ""))[0]

    for entry in sorted(entries, key=stands):
        code = entry["mcc"] + entry["mnc"]
        rows[code] = f"{code}\t{iso(entry)}\t{clean(entry['brand'] or entry['operator'] or '')}"
    print("\n".join(rows[code] for code in sorted(rows)))


def text_of(arguments: list[str]) -> str:
    """The list, from a file or from where it comes from."""
    if arguments:
        return Path(arguments[0]).read_text()
    with urllib.request.urlopen(SOURCE, timeout=FETCH_SECONDS) as answer:
        text: str = answer.read().decode()
        return text


def is_network(entry: Entry) -> bool:
    """Whether a network of this code carries traffic, as far as is known."""
    is_coded = re.fullmatch(r"\d{3}", entry["mcc"] or "") and re.fullmatch(r"\d{2,3}", entry["mnc"] or "")
    return bool(is_coded) and entry["type"] != "Test" and entry["status"] not in LEFT_OUT


def countries_of(entries: list[Entry]) -> dict[str, tuple[str, str]]:
    """The country, and its name, that most networks of a mobile country code are in."""
    by_code: dict[str, Counter[tuple[str, str]]] = {}
    for entry in entries:
        if iso(entry):
            by_code.setdefault(entry["mcc"], Counter())[iso(entry), clean(entry["countryName"])] += 1
    return {mcc: counted.most_common(1)[0][0] for mcc, counted in by_code.items()}


def iso(entry: Entry) -> str:
    """The country's two letters; of parts of a country, the whole's."""
    code = entry["countryCode"] or ""
    return SEVERAL.get(code) or re.split(r"[/-]", code)[0]


def clean(name: str) -> str:
    """A name without the list's notes and line breaks."""
    return " ".join(re.sub(r"\[.*?\]|\(.*Kingdom.*\)|\(.*United States.*\)|\(France\)", "", name).split())


if __name__ == "__main__":
    main()
