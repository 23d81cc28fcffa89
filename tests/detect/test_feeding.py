"""Alerts that count in another correlation: several that one signals record raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weir.detect.offline import Offline
from weir.detect.reading.loading import load_rules

BEGIN = 1_790_000_000_000_000
RULES = """title: One
id: 11111111-1111-4111-8111-111111111111
name: one
logsource: {category: file_audit, product: qumulo}
detection: {sel: {event.action: fs_delete}, condition: sel}
---
title: Many
id: 22222222-2222-4222-8222-222222222222
name: many
correlation: {type: event_count, rules: [one], group-by: [user.id], timespan: 1m, condition: {gte: 2}}
---
title: Several users
id: 33333333-3333-4333-8333-333333333333
correlation: {type: event_count, rules: [many], timespan: 1h, condition: {gte: 3}}
"""


def deletion(number: int, user: str) -> dict[str, Any]:
    return {
        "event_id": f"{'0' * 32}-{number}-0", "timestamp": BEGIN + number * 100_000, "event_created": BEGIN,
        "event_module": "qumulo", "event_action": "fs_delete", "user_id": user,
        "raw_topic": "raw", "raw_partition": 0, "raw_offset": number,
    }  # fmt: skip


@pytest.mark.parametrize("batches", [1, 6], ids=["in one batch", "in a batch each"])
def test_alerts_of_several_groups_count_in_one_group_however_they_come(tmp_path: Path, batches: int) -> None:
    (tmp_path / "rules.yml").write_text(RULES, encoding="utf-8")
    detection = Offline(load_rules(tmp_path))
    detection.tick(BEGIN)
    events = [deletion(number, f"u{number % 3}") for number in range(6)]
    size = len(events) // batches
    for number in range(batches):
        detection.feed({"file-audit": events[number * size : (number + 1) * size]}, BEGIN, raw_offset=number)
    (alert,) = detection.alerts
    assert (alert["rule_name"], alert["event_count"]) == ("Several users", 3)
    assert len(alert["member_alerts"]) == 3
