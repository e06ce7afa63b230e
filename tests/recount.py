"""Counts messages from the raw requests in a journal, by itself: nothing of landed's is imported here.

    python tests/recount.py JOURNAL

It writes one JSON object: for each dimension and value the counts by outcome, the cost by outcome, and the latencies of
what was delivered. It knows the forms that tests/test_stats.py sends, and no others.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from urllib.parse import parse_qsl

import msgspec

# Lowest first.
RANKS = ["submitted", "accepted", "buffered", "expired", "unknown", "failed", "rejected", "undeliverable"]
RANKS += ["delivered", "read"]
OUTCOMES = {"submitted": "pending", "accepted": "pending", "buffered": "pending", "expired": "unconfirmed"}
OUTCOMES |= {"unknown": "unconfirmed", "failed": "failed", "rejected": "failed", "undeliverable": "failed"}
OUTCOMES |= {"delivered": "delivered", "read": "delivered"}
CODES = {
    "2": "absent-subscriber-temporary",
    "6": "anti-spam-rejection",
    "9": "opted-out",
    "12": "destination-unreachable",
    "1180": "absent-subscriber-temporary",
    "1240": "opted-out",
    "1300": "not-a-user",
    "1360": "expired",
}
WORDS = {"expired": "expired", "unknown": "unknown", "undeliverable": "provider-error"}
COUNTRIES = {"23410": "GB", "26201": "DE", "310260": "US", "51502": "PH", "US-TOLL-FREE": "US"}
# All numbers that are sent to begin with 44.
COUNTRY_OF_NUMBERS = "GB"
HOUR_US = 3_600_000_000


def main() -> None:
    """Read, join, count, print."""
    messages: dict[str, list[dict[str, object]]] = defaultdict(list)
    for (data,) in sqlite3.connect(sys.argv[1]).execute("SELECT data FROM record ORDER BY position"):
        record = msgspec.msgpack.decode(data)
        if record[0] == "request":
            for fact in facts_of(record[12], record[14]):
                messages[str(fact["id"])].append(fact | {"received_us": record[3]})
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    costs: dict[str, dict[str, dict[str, Decimal]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(Decimal)))
    latencies: dict[str, list[int]] = defaultdict(list)
    for facts in messages.values():
        joined = join(facts)
        for by in ("network", "country", "channel", "sender", "reason", "hour"):
            counts[by][str(joined[by])][str(joined["outcome"])] += 1
            if joined["price"] is not None:
                costs[by][str(joined[by])][str(joined["outcome"])] += Decimal(str(joined["price"]))
        if joined["latency_ms"] is not None:
            latencies[str(joined["network"])].append(int(str(joined["latency_ms"])))
    told = {by: {value: dict(each) for value, each in several.items()} for by, several in counts.items()}
    cost = {
        by: {value: {outcome: format(each, "f") for outcome, each in sums.items()} for value, sums in several.items()}
        for by, several in costs.items()
    }
    sys.stdout.write(
        json.dumps({"counts": told, "cost": cost, "latencies": {k: sorted(v) for k, v in latencies.items()}})
    )


def facts_of(query: bytes, body: bytes) -> list[dict[str, object]]:
    """What a request says."""
    text = body.decode()
    if text.startswith("{"):
        fields = json.loads(text)
    else:
        fields = dict(parse_qsl((query or body).decode(), keep_blank_values=True))
    if "message_uuid" in fields:
        usage, error = fields.get("usage", {}), fields.get("error", {})
        return [
            {
                "id": fields["message_uuid"],
                "word": fields["status"],
                "channel": fields["channel"],
                "network": fields.get("destination", {}).get("network_code", ""),
                "sender": fields["from"],
                "code": str(error.get("title", "")),
                "price": usage.get("price"),
            }
        ]
    return [
        {
            "id": fields["messageId"],
            "word": fields["status"],
            "channel": "sms",
            "network": fields.get("network-code", ""),
            "sender": fields["to"],
            "code": fields["err-code"].lstrip("0"),
            "price": fields.get("price"),
        }
    ]


def join(facts: list[dict[str, object]]) -> dict[str, object]:
    """What became of a message: the highest word stands, and each other thing is the highest one's that has it."""

    def rank(fact: dict[str, object]) -> int:
        # The Messages API says `rejected` of what expired.
        return RANKS.index("expired" if fact["code"] == "1360" else str(fact["word"]))

    ordered = sorted(facts, key=rank, reverse=True)
    top = ordered[0]
    outcome = OUTCOMES[RANKS[rank(top)]]
    first_us = min(int(str(fact["received_us"])) for fact in facts)
    final_us = min(int(str(fact["received_us"])) for fact in facts if OUTCOMES[RANKS[rank(fact)]] == outcome)
    reason = ""
    if outcome != "delivered":
        reason = CODES.get(str(top["code"]), "") or WORDS.get(str(top["word"]), "")
        if not reason and outcome == "failed":
            reason = "no-reason-given"
    network = str(next((fact["network"] for fact in ordered if fact["network"]), ""))
    return {
        "outcome": outcome,
        "reason": reason,
        "channel": top["channel"],
        "sender": top["sender"],
        "network": network,
        "country": COUNTRIES.get(network, COUNTRY_OF_NUMBERS),
        "price": next((fact["price"] for fact in ordered if fact["price"] is not None), None),
        "hour": first_us // HOUR_US,
        "latency_ms": (final_us - first_us) // 1000 if outcome == "delivered" and final_us > first_us else None,
    }


if __name__ == "__main__":
    main()
