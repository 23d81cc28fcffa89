"""What Sigma's correlations mean, as vectors: rules, batches of events in the order of their receipt, and the alerts they come to.

Each file holds a list of cases:

    - name: …
      correlation: {type: event_count, rules: [a], group-by: [user.name], timespan: 1m, condition: {gte: 3}}
      more: […]                 # further documents: other correlations
      weir: {entities: {…}}     # of the correlation
      steps:
        - {at: 30, a: [0, 10, 20], user.name: x}   # a batch received 30 s after the begin: events of rule a at these seconds
        - {at: 31, b: [5, 6], destination.port: [80, 443]}   # fields by event; `null` for none
        - {tick: 90}            # nothing received before is still to come; `partition` and `topic` where there are several
        - {again: 0}            # the batch of that step once more
      expect:                   # alerts in their last state, by the order of their first record; what is given is compared
        - {count: 3, state: new, group: [x], measured: 3, first: 0, last: 20}
      told: [new 3]             # state and count of each record, where that matters
      problem: …                # instead of both: why the correlation is left out

`a`, `b` and `c` are rules about flows with that `event.action`; `login` is one about authentication, `ids` one about alerts of
an intrusion detection system. The correlation is `main` where `more` refers to it. Keys `partition`, `topic`, `offset` and
`receiver` say how a batch comes. Events have user.name x unless they say otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from weir.detect.offline import Offline
from weir.detect.reading.loading import load_rules

SECOND = 1_000_000
BEGIN = 20_717 * 86_400 * SECOND
VECTORS = Path(__file__).parent / "vectors" / "correlations"
DATASETS = {"a": "network-flow", "b": "network-flow", "c": "network-flow", "login": "authentication", "ids": "ids-alert"}
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(VECTORS.glob("*.yml"))
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))
]


def documents(case: dict[str, Any]) -> list[dict[str, Any]]:
    rules = [
        {
            "title": name,
            "id": f"00000000-0000-4000-8000-00000000000{number}",
            "name": name,
            "logsource": {"product": "weir", "service": dataset},
            "detection": {"s": {"event.action": name}, "condition": "s"},
            # Quiet: it is the correlations that are looked at.
            "level": "low",
        }
        for number, (name, dataset) in enumerate(DATASETS.items())
    ]
    main = {"title": "main", "name": "main", "id": "00000000-0000-4000-8000-0000000000ff", "level": "high"}
    main |= {"correlation": case["correlation"]} | ({"weir": case["weir"]} if "weir" in case else {})
    more = [
        {"id": f"00000000-0000-4000-8000-0000000001{number:02}", "title": one["name"], "level": "high"} | one
        for number, one in enumerate(case.get("more", []))
    ]
    return [*rules, main, *more]


def make_batch(step: dict[str, Any], number: int) -> dict[str, list[dict[str, Any]]]:
    batch: dict[str, list[dict[str, Any]]] = {}
    about = {"at", "partition", "topic", "offset", "receiver", *DATASETS}
    for rule, dataset in DATASETS.items():
        times = step.get(rule, [])
        for i, time in enumerate(times if isinstance(times, list) else [times]):
            fields = {"user.name": "x"} | {name: value for name, value in step.items() if name not in about}
            content = {name: value[i] if isinstance(value, list) else value for name, value in fields.items()}
            record = {name.replace(".", "_"): value for name, value in content.items()}
            record |= {"event_action": rule, "timestamp": None if time is None else BEGIN + round(time * SECOND)}
            record |= {"event_created": BEGIN + round(step["at"] * SECOND), "event_id": f"{number:032x}-{rule}{i}-0"}
            record |= {"raw_topic": "raw", "raw_partition": 0, "raw_offset": number}
            if "receiver" in step:
                record["event_hash"] = f"{rule} {time} {sorted(content.items())}"
            batch.setdefault(dataset, []).append(record)
    return batch


def run(case: dict[str, Any], detection: Offline) -> None:
    for number, step in enumerate(case["steps"]):
        where = {"raw_topic": step.get("topic", "raw"), "raw_partition": step.get("partition", 0)}
        if "tick" in step:
            detection.tick(BEGIN + round(step["tick"] * SECOND), **where)
            continue
        number, batch = (step["again"], case["steps"][step["again"]]) if "again" in step else (number, step)  # noqa: PLW2901
        where = {"raw_topic": batch.get("topic", "raw"), "raw_partition": batch.get("partition", 0)}
        detection.feed(
            make_batch(batch, number),
            BEGIN + round(batch["at"] * SECOND),
            raw_offset=batch.get("offset", number),
            receiver=batch.get("receiver", ""),
            **where,
        )


def described(alert: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What there is of what is wanted."""
    found: dict[str, Any] = {
        "rule": alert["rule_name"],
        "count": alert["event_count"],
        "state": alert["state"],
        "group": list(alert["group_by"].values()),
        "measured": alert["measured"],
        "first": (alert["first_seen"] - BEGIN) / SECOND,
        "last": (alert["last_seen"] - BEGIN) / SECOND,
        "values": sorted(alert["values"]),
        "related": {name: sorted(values) for name, values in alert["related"].items()},
        "entities": alert["entities"],
        "datasets": sorted(alert["datasets"]),
        "members": len(alert["member_alerts"]),
        "created": (alert["alert_created"] - BEGIN) / SECOND,
    }
    return {name: found[name] for name in wanted}


@pytest.mark.parametrize("case", CASES)
def test_a_vector(case: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump_all(documents(case)), encoding="utf-8")
    rule_set = load_rules(tmp_path)
    if "problem" in case:
        assert any(case["problem"] in str(problem) for problem in rule_set.problems), rule_set.problems
        return
    assert rule_set.problems == ()
    detection = Offline(rule_set)
    run(case, detection)
    # Rules that no correlation of the case refers to alert by themselves; they are not what is looked at.
    alerts = [alert for alert in detection.alerts if alert["rule_name"] not in DATASETS or "generate" in str(case)]
    last: dict[str, dict[str, Any]] = {}
    for alert in alerts:
        last[alert["alert_id"]] = alert
    assert [described(alert, wanted) for alert, wanted in zip(last.values(), case["expect"], strict=False)] == case["expect"]
    assert len(last) == len(case["expect"])
    if "told" in case:
        assert [f"{alert['state']} {alert['event_count']}" for alert in alerts] == case["told"]


def test_there_are_as_many_vectors_as_is_said() -> None:
    assert len(CASES) >= 80
