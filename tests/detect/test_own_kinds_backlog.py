"""A backlog that is drained gives the alerts that it would have given live: the pace of the ticks does not matter."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.own_kinds import BEGIN, DAY, HOUR, MINUTE, Detection, partial, rule, stands
from weir.detect.kinds import absence, beacon, first_seen
from weir.detect.rules import Correlation

KINDS = {
    "absence": rule(absence, "absence", after="15m"),
    "beacon": rule(beacon, "beacon", intervals=4, regularity=0.6),
    "first_seen": rule(first_seen, "first_seen", field="source.ip", learn="1h", forget="1d"),
}


@pytest.mark.parametrize("correlation", KINDS.values(), ids=KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_drained_backlog_gives_what_it_would_have_given_live(correlation: Correlation, seed: int) -> None:
    rng = random.Random(seed)
    times = [BEGIN]
    for _ in range(80):
        times.append(times[-1] + rng.choice([MINUTE, MINUTE, MINUTE, 5 * MINUTE, 40 * MINUTE, 3 * HOUR, 2 * DAY]))
    made = [partial([], values={f"v{rng.randrange(6)}": [at]}) for at in times]
    found: list[dict[str, tuple[Any, ...]]] = []
    for step in (MINUTE, 7 * HOUR, 100 * DAY):
        detection = Detection(correlation)
        ticked = BEGIN
        for at, one in zip(times, made, strict=True):
            # Live ticks tell of time in silence; those of a backlog come now and then.
            while step < HOUR and at - ticked > 2 * DAY:
                ticked += DAY
                detection.tick(ticked)
            for low in range(ticked + step, at, step):
                ticked = low
                detection.tick(low)
            detection.hear(one, at)
        for low in (9 * DAY, 20 * DAY):
            detection.tick(times[-1] + low)
            detection.tick(times[-1] + low)
        found.append({key: value[:5] for key, value in stands(detection.alerts).items()})
    assert found[0] == found[1] == found[2]
