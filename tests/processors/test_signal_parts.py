"""Signals of more groups than one record holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from weir.bus.codec import Decoder, Encoder
from weir.detect.kinds.common import SignalsHeader
from weir.processors.runtime import MAX_EVENT_BYTES, Processor


def test_signals_of_very_many_groups_come_in_parts_that_lose_none() -> None:
    bucket = {"start": 1, "count": 1, "first": 1, "last": 1, "hashes": b"", "times": b"", "values": b"", "numbers": b""}
    partials = [{"correlation_id": "c" * 36, "group": [f"{i}" + "g" * 400], "buckets": [bucket]} for i in range(5_000)]
    record: dict[str, Any] = {"signals_id": "abc-3", "kind": "partials", "partials": partials}
    processor = cast("Processor", SimpleNamespace(encode_signals=Encoder("signals")))
    values = Processor._signal_parts(processor, record)
    assert all(len(value) <= MAX_EVENT_BYTES for value in values)
    found = [Decoder()(value) for value in values]
    assert [SignalsHeader.of(one).part for one in found] == [0, 1, 2]
    assert found[0]["signals_id"] == "abc-3"
    assert [p["group"] for one in found for p in one["partials"]] == [p["group"] for p in partials]
