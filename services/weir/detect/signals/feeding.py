"""Correlations of correlations: what an alert counts as in the correlations that its own one feeds.

An alert is one event, however often it is told: it counts when it is told first, at the time of its latest event so far. Later
records of it extend what is known of its times, so that "A, then B within an hour" holds for the latest event of A too. Its
group-by values and entities stand for fields (`correlating`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from weir.detect.matching.fields import getter
from weir.detect.rules import Correlation, Member, Source
from weir.detect.signals.gathering import MAX_EVIDENCE, MAX_SAMPLES, carried_by, group_text, numbers_of, value_hash, values_of
from weir.detect.signals.partials import partition_of

__all__ = ["signals_of_alerts"]

PROCESSOR = "process.detector"
# So many alerts in one record, and so much evidence and samples of all that one record led to: a record must stay under 1 MB.
# Further evidence is left out; it is in the alerts themselves.
MAX_FED_PARTIALS = 100
MAX_FED_EVIDENCE = 1_000
MAX_FED_SAMPLES = 100
MAX_FED_ENTITY_CHARACTERS = 256


def signals_of_alerts(
    alerts: Iterable[tuple[dict[str, Any], list[str]]],
    correlations: Mapping[str, Correlation],
    partition: int,
    offset: int,
    partitions: int,
) -> list[tuple[int, dict[str, Any]]]:
    """Signals records (kind alerts) of the alerts that one signals record led to, by the partition they belong to.

    Partition and offset of what led to them tell a repeat from news, so what goes to one partition is in one record, or in
    parts of one (`SignalsHeader`).

    Args:
        alerts: alert records, each with the raw topics it came from.
        correlations: all, by id.
        partition: signals partition of the record that led to the alerts.
        offset: its offset there.
        partitions: number of signals partitions.
    """
    found: dict[int, dict[str, Any]] = {}
    evidence_left, samples_left = MAX_FED_EVIDENCE, MAX_FED_SAMPLES
    for alert, topics in alerts:
        inner = correlations[alert["rule_id"]]
        for fed in (correlations[name] for name in inner.feeds if name in correlations):
            for member in fed.members:
                if member.rule is not None or member.id != inner.id:
                    continue
                partial = _partial(alert, fed, member, member.sources[""])
                partial["evidence"], partial["samples"] = partial["evidence"][:evidence_left], partial["samples"][:samples_left]
                evidence_left -= len(partial["evidence"])
                samples_left -= len(partial["samples"])
                to = partition_of(fed.id, partial["group"], partitions)
                record = found.setdefault(to, _record(alert, partition, offset, to))
                record["received_at"] = max(record["received_at"], alert["alert_created"])
                record["raw_topic"] = ",".join(sorted({*filter(None, record["raw_topic"].split(",")), *topics}))
                record["partials"].append(partial)
    return [(to, part) for to, record in sorted(found.items()) for part in _parts(record)]


def _parts(record: dict[str, Any]) -> Iterable[dict[str, Any]]:
    partials = record["partials"]
    for part, begin in enumerate(range(0, len(partials), MAX_FED_PARTIALS)):
        suffix = f"+{part}" if part else ""
        yield record | {
            "signals_id": f"{record['signals_id']}{suffix}",
            "partials": partials[begin : begin + MAX_FED_PARTIALS],
        }


def _record(alert: Mapping[str, Any], partition: int, offset: int, to: int) -> dict[str, Any]:
    return {
        "signals_id": f"alerts-{partition}-{offset}-{to}",
        "kind": "alerts",
        "processor": PROCESSOR,
        "rule_set": alert["rule_version"],
        "raw_topic": "",
        "raw_partition": partition,
        "raw_offset": offset,
        "received_at": 0,
        "receiver": "",
        "partials": [],
    }


def _partial(alert: dict[str, Any], fed: Correlation, member: Member, source: Source) -> dict[str, Any]:
    first, last, is_new = alert["first_seen"], alert["last_seen"], alert["revision"] == 1
    carried = carried_by(fed)
    found = [getter(name)(alert) for name in source.values]
    buckets: dict[int, dict[str, Any]] = {}
    for time in (first, last):
        start = time // fed.slice_us * fed.slice_us
        bucket = buckets.setdefault(start, _bucket(start, time))
        bucket["last"] = time
        if carried.rule_times:
            known = bucket["rules"][0]["times"] if bucket["rules"] else b""
            bucket["rules"] = [{"label": member.label, "count": int(is_new), "times": known + struct.pack(">q", time)}]
    texts = list(values_of(found)) if carried.values else []
    if is_new:
        bucket = buckets[last // fed.slice_us * fed.slice_us]
        bucket["count"] = 1
        bucket["times"] = struct.pack(">q", last) if carried.times else b""
        bucket["values"] = b"".join(struct.pack(">Qqq", value_hash(text), last, last) for text in texts)
        if carried.sums and (numbers := numbers_of(found)):
            bucket["sum"], bucket["number_count"] = sum(numbers), len(numbers)
            entries = [(value_hash(f"{alert['alert_id']}{i}"), number) for i, number in enumerate(numbers)]
            bucket["numbers"] = b"".join(struct.pack(">Qd", *entry) for entry in entries)
    entities = {
        name: group_text(value)[:MAX_FED_ENTITY_CHARACTERS]
        for name, path in source.entities.items()
        if (value := getter(path)(alert))
    }
    return {
        "correlation_id": fed.id,
        "group": [group_text(getter(name)(alert)) for name in source.group],
        "buckets": [buckets[start] for start in sorted(buckets)],
        "evidence": alert["evidence"][:MAX_EVIDENCE] if is_new else [],
        "samples": alert["samples"][:MAX_SAMPLES] if is_new else [],
        "entities": entities,
        "shown": texts[: carried.shown],
        "datasets": alert["datasets"],
        "member_alerts": [alert["alert_id"]],
    }


def _bucket(start: int, time: int) -> dict[str, Any]:
    return {
        "start": start, "count": 0, "first": time, "last": time, "hashes": b"", "times": b"", "rules": [], "values": b"",
        "values_left_out": False, "numbers": b"", "sum": 0.0, "number_count": 0,
    }  # fmt: skip
