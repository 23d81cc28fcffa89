"""Every mistake in a sink's settings is named, all at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weir.model.topics import DATASETS
from weir.ops.settings import SettingsError, load
from weir.sinks.sentinel import SentinelSettings
from weir.sinks.siem import SiemSettings

SENTINEL = {
    "WEIR_SENTINEL_ENDPOINT": "https://dce.example",
    "WEIR_SENTINEL_DCR_IMMUTABLE_ID": "dcr-1",
}
SIEM = {"WEIR_SIEM_HOST": "siem.example", "WEIR_SIEM_PORT": "6514"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WEIR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")


def mistakes(monkeypatch: pytest.MonkeyPatch, cls: type[SentinelSettings] | type[SiemSettings], **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(cls)
    return str(caught.value)


def test_sentinel_delivers_every_event_topic_and_alerts_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SENTINEL.items():
        monkeypatch.setenv(name, value)
    assert load(SentinelSettings).topics == [*(f"events.{dataset}" for dataset in DATASETS), "alerts"]
    monkeypatch.setenv("WEIR_SENTINEL_TOPICS", "alerts, events.cef")
    assert load(SentinelSettings).topics == ["alerts", "events.cef"]


def test_sentinel_names_all_mistakes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = mistakes(
        monkeypatch,
        SentinelSettings,
        WEIR_SENTINEL_ENDPOINT="http://dce.example",
        WEIR_SENTINEL_TOPICS="events.cef,raw.syslog",
        WEIR_SENTINEL_AUTH="client-secret",
    )
    for expected in ("WEIR_SENTINEL_ENDPOINT", "'raw.syslog'", "WEIR_SENTINEL_TENANT_ID", "WEIR_SENTINEL_CLIENT_SECRET"):
        assert expected in text


def test_sentinel_needs_a_rule_for_every_topic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIR_SENTINEL_TOPICS", "events.cef,alerts")
    text = mistakes(monkeypatch, SentinelSettings, WEIR_SENTINEL_ENDPOINT="https://dce.example")
    assert "WEIR_SENTINEL_DCR_IMMUTABLE_ID is not set" in text
    file = tmp_path / "weir.yaml"
    file.write_text("sentinel_dcr_by_topic: {events.cef: dcr-2, alerts: dcr-3}\n")
    settings = load(SentinelSettings, config_file=file)
    assert (settings.rule("events.cef"), settings.rule("alerts")) == ("dcr-2", "dcr-3")


def test_sentinel_needs_the_token_file_it_is_told_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = mistakes(monkeypatch, SentinelSettings, **SENTINEL, WEIR_SENTINEL_AUTH="static-token-file")
    assert "WEIR_SENTINEL_TOKEN_FILE is not set" in text


def test_siem_takes_alerts_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SIEM.items():
        monkeypatch.setenv(name, value)
    assert load(SiemSettings).topics == ["alerts"]
    text = mistakes(monkeypatch, SiemSettings, WEIR_SIEM_TOPICS="alerts,events.cef")
    assert "only alerts cross the WAN" in text
    assert "events.cef" in text
    monkeypatch.setenv("WEIR_SIEM_ALLOW_TOPICS_BESIDE_ALERTS", "true")
    assert load(SiemSettings).topics == ["alerts", "events.cef"]


def test_siem_names_all_mistakes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    text = mistakes(
        monkeypatch, SiemSettings, WEIR_SIEM_TRANSPORT="tcp", WEIR_SIEM_TOPICS="events.cef", WEIR_SIEM_KEY_FILE=str(key)
    )
    for expected in ("WEIR_SIEM_HOST is not set", "WEIR_SIEM_PORT is not set", "only alerts", "WEIR_SIEM_KEY_FILE"):
        assert expected in text
