"""Wrong settings stop the start, with every mistake named at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from weir.ops.settings import ServiceSettings, SettingsError, load


class ExampleSettings(ServiceSettings):
    """Settings of no real service."""

    example_port: int = Field(1, ge=1, le=65535)
    example_password: SecretStr | None = None
    example_ca_file: Path | None = None


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEIR_CONFIG", raising=False)
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")


def mistakes(config: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(ExampleSettings, config_file=config)
    return "\n".join(caught.value.mistakes)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "weir.yaml"
    config.write_text("example_port: 7\nsite: north\n")
    monkeypatch.setenv("WEIR_EXAMPLE_PORT", "8")
    settings = load(ExampleSettings, config_file=config)
    assert (settings.example_port, settings.site) == (8, "north")


def test_the_brokers_may_come_under_kafkas_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEIR_KAFKA_BOOTSTRAP_SERVERS")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:1")
    assert load(ExampleSettings).kafka_bootstrap_servers == "broker:1"


def test_every_mistake_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "weir.yaml"
    config.write_text("example_prot: 7\nlog_level: loud\n")
    monkeypatch.setenv("WEIR_EXAMPLE_PORT", "70000")
    monkeypatch.setenv("WEIR_SIET", "x")
    text = mistakes(config)
    assert "example_prot is not a setting; did you mean example_port?" in text
    assert "WEIR_SIET is not a setting; did you mean WEIR_SITE?" in text
    assert "WEIR_EXAMPLE_PORT" in text
    assert "weir.yaml: log_level" in text


def test_missing_brokers_are_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEIR_KAFKA_BOOTSTRAP_SERVERS")
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert "make up" in mistakes()


def test_a_broker_without_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "a:1,b")
    assert "'b' is not host:port" in mistakes()


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_EXAMPLE_CA_FILE", "/nowhere/ca.pem")
    assert "WEIR_EXAMPLE_CA_FILE: no file /nowhere/ca.pem" in mistakes()


def test_secrets_are_in_no_message_and_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_EXAMPLE_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load(ExampleSettings))
    monkeypatch.setenv("WEIR_EXAMPLE_PORT", "0")
    assert "hunter2" not in mistakes()


@pytest.mark.parametrize("content", ["- a\n", "a: [\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    config = tmp_path / "weir.yaml"
    config.write_text(content)
    assert "weir.yaml" in mistakes(config)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "none.yaml" in mistakes(tmp_path / "none.yaml")
