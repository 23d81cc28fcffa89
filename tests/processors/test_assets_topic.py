"""What records of the assets' topic do to the entries; the topic itself is read in test_enrichment_process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from weir.ops import logging as ops_logging
from weir.processors import assets_topic
from weir.processors.assets_topic import AssetsTopic
from weir.processors.settings import ProcessorSettings


@pytest.fixture
def topic() -> AssetsTopic:
    return AssetsTopic(ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9"), ops_logging.get("test"))


def put(topic: AssetsTopic, key: bytes, value: Any) -> None:
    content = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    topic._take_one(key, content, "t/0@1")


def names(topic: AssetsTopic) -> list[str]:
    return [str(subject.value[0]) for subject in topic.subjects()]


def test_a_later_record_of_a_key_replaces_the_entry_and_one_without_value_takes_it_back(topic: AssetsTopic) -> None:
    put(topic, b"a", {"ip": "10.0.0.1", "name": "one"})
    put(topic, b"b", {"host": "h", "name": "two"})
    put(topic, b"a", {"ip": "10.0.0.1", "name": "three"})
    assert names(topic) == ["two", "three"]
    put(topic, b"b", None)
    put(topic, b"never there", None)
    assert names(topic) == ["three"]
    assert topic.refused == 0


@pytest.mark.parametrize(
    "value", [b"{", b"[]", {"ip": "x"}, {"nope": 1}, {"ip": "10.0.0.1", "host": "h"}, {"ip": "10.0.0.2", "name": "x" * 20_000}, {}]
)
def test_a_broken_record_is_counted_and_changes_nothing(topic: AssetsTopic, value: Any) -> None:
    put(topic, b"a", {"ip": "10.0.0.1", "name": "one"})
    put(topic, b"a", value)
    assert names(topic) == ["one"]
    assert topic.refused == 1


def test_there_is_a_bound(topic: AssetsTopic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets_topic, "MAX_ENTRIES", 2)
    for number in range(4):
        put(topic, str(number).encode(), {"ip": f"10.0.0.{number}", "name": str(number)})
    put(topic, b"1", {"ip": "10.0.0.1", "name": "changed"})
    assert names(topic) == ["0", "changed"]
    assert topic.refused == 2
