"""Who sends, as receivers ask: labels, refusals, a catalogue that changes while it is in use."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support import eventually
from weir.model.sources import read_catalogue
from weir.ops.settings import SettingsError, load
from weir.receivers.publishing.batching import Source
from weir.receivers.settings import ReceiverSettings
from weir.receivers.sources import MAX_REMEMBERED, Sources

KNOWN = """
sources:
  - name: lb-1
    address: 192.0.2.10
    vendor: Kemp
    site: hki
    time_zone: Europe/Helsinki
    tenant: acme
    copies: true
"""


def settings_for(**values: Any) -> ReceiverSettings:
    return ReceiverSettings(kafka_bootstrap_servers="localhost:9092", sources_poll_seconds=0.05, **values)


def test_a_known_sender_is_labelled_with_all_that_is_known_of_it() -> None:
    sources = Sources(read_catalogue(KNOWN))
    found = sources.of("192.0.2.10", "udp", 5514)
    assert found == Source("192.0.2.10", "udp", 5514, None, "lb-1", "acme", "Kemp", "hki", "Europe/Helsinki", copied=True)
    assert sources.of("192.0.2.10", "udp", 5514) == found


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        ("accept", Source("192.0.2.99", "tcp", 1)),
        ("quarantine", Source("192.0.2.99", "tcp", 1, quarantined=True)),
        ("refuse", None),
    ],
)
def test_an_unknown_sender_is_treated_as_the_operator_says(unknown: str, expected: Source | None) -> None:
    sources = Sources(read_catalogue(KNOWN), unknown=unknown)
    assert sources.of("192.0.2.99", "tcp", 1) == expected
    known = sources.of("192.0.2.10", "tcp", 1)
    assert known is not None
    assert not known.quarantined


def test_who_is_not_on_the_allow_list_is_refused_known_or_not() -> None:
    sources = Sources(read_catalogue(KNOWN), allow="198.51.100.0/24, 2001:db8::/32")
    assert sources.of("192.0.2.10", "udp", 1) is None
    assert sources.of("198.51.100.7", "udp", 1) == Source("198.51.100.7", "udp", 1)
    assert sources.of("2001:db8::1", "udp", 1) == Source("2001:db8::1", "udp", 1)


def test_without_a_catalogue_everybody_is_taken() -> None:
    assert Sources().of("192.0.2.1", "udp", 5, "CN=x") == Source("192.0.2.1", "udp", 5, "CN=x")


def test_a_flood_of_invented_addresses_does_not_grow_memory() -> None:
    sources = Sources(read_catalogue(KNOWN))

    def flood(network: int, count: int) -> None:
        for i in range(count):
            sources.of(f"{network}.{i >> 16}.{i >> 8 & 255}.{i & 255}", "udp", 5514)

    flood(10, MAX_REMEMBERED)
    gc.collect()
    tracemalloc.start()
    flood(11, 3 * MAX_REMEMBERED)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The newcomers stand in the place of those before, which were not traced.
    assert grown < MAX_REMEMBERED * 1_000


def test_a_changed_file_counts_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(KNOWN)
    sources = Sources.of_settings(settings_for(sources_file=path))

    def name(ip: str) -> str | None:
        found = sources.of(ip, "udp", 5514)
        return None if found is None else found.name

    assert (name("192.0.2.10"), name("192.0.2.11")) == ("lb-1", None)
    with structlog.testing.capture_logs() as logs:
        path.write_text("sources:\n- name: x\n- nmae: y\n")
        (entry,) = eventually(lambda: [e for e in logs if e["log_level"] == "error"])
        assert entry["mistakes"][0].startswith(f"{path}:2: source 'x': nothing to match")
        assert len(entry["mistakes"]) >= 2
        assert name("192.0.2.10") == "lb-1"
        # As Kubernetes and careful editors do it: another file under the same name.
        other = tmp_path / "new"
        other.write_text("sources: [{name: lb-2, address: 192.0.2.0/24}]")
        other.rename(path)
        eventually(lambda: name("192.0.2.10") == "lb-2")
        assert name("192.0.2.11") == "lb-2", "what was remembered of unknown senders is forgotten"
        path.unlink()
        eventually(lambda: any("No such file" in str(e.get("mistakes")) for e in logs))
        assert name("192.0.2.10") == "lb-2"


def test_the_thread_that_follows_the_file_ends_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(KNOWN)
    before = {t for t in threading.enumerate() if t.name == "sources"}
    sources = Sources.of_settings(settings_for(sources_file=path))
    (thread,) = {t for t in threading.enumerate() if t.name == "sources"} - before
    assert thread.is_alive()
    del sources
    gc.collect()
    eventually(lambda: not thread.is_alive())


def test_wrong_settings_and_a_wrong_catalogue_stop_the_start_all_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("sources:\n- name: x\n- nmae: y\n")
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("WEIR_SOURCES_FILE", str(path))
    monkeypatch.setenv("WEIR_RECEIVER_ALLOW", "10.0.0.0/8,nowhere")
    with pytest.raises(SettingsError) as caught:
        load(ReceiverSettings)
    text = "\n".join(caught.value.mistakes)
    for words in (f"{path}:2: source 'x': nothing", f"{path}:3: source: 'nmae' is not", "WEIR_RECEIVER_ALLOW: 'nowhere' is no"):
        assert words in text


def test_to_treat_unknown_senders_otherwise_a_catalogue_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("WEIR_SOURCES_UNKNOWN", "refuse")
    with pytest.raises(SettingsError, match="without WEIR_SOURCES_FILE all senders are unknown"):
        load(ReceiverSettings)
