"""The ADX sink against the stand-in of the cluster, with a real Azurite behind queued ingestion."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from azure.kusto.data.exceptions import KustoClientInvalidConnectionStringException
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.model.test_mappings import full_record
from tests.support import eventually
from weir.bus.codec import Encoder
from weir.local.azurite import ACCOUNT_NAME, Azurite
from weir.local.standins.adx import AdxStandIn
from weir.model.kusto import adx_mapping_command, adx_table_command
from weir.model.mappings import projectable_topics, projection
from weir.model.topics import TopicNames, declarations
from weir.ops.settings import SettingsError, load
from weir.sinks.adx import AdxDestination, AdxSettings, pack
from weir.sinks.destination import Misconfigured, Retry, Row
from weir.sinks.kusto_ingest import judge
from weir.sinks.runtime import run_sink

FLOWS = "events.network-flow"


def event(topic: str, number: int) -> dict[str, Any]:
    record = full_record(topic)
    return record | {"alert_id" if topic == "alerts" else "event_id": f"{number:032x}-0-0"}


def rows_of(topic: str, count: int, first: int = 0) -> list[Row]:
    return [Row(topic, 1, first + number, 1_700_000_000_000, event(topic, first + number)) for number in range(count)]


class Cluster:
    """The stand-in, asked over HTTP like anybody else would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, **wishes: Any) -> None:
        answer = requests.post(f"{self.url}/_control", json=wishes, timeout=10)
        assert answer.status_code == 200, answer.text

    def stats(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/_stats", timeout=10).json()  # type: ignore[no-any-return]

    def rows(self, table: str) -> list[dict[str, Any]]:
        return requests.get(f"{self.url}/_rows?table={table}&limit=100", timeout=10).json()  # type: ignore[no-any-return]

    def loaded(self, table: str, count: int) -> dict[str, Any]:
        """Wait until the table holds so many distinct ids; the table's counts."""

        def look() -> dict[str, Any] | None:
            counts: dict[str, Any] = self.stats()["tables"].get(table, {})
            return counts if counts.get("distinct") == count else None

        return eventually(look, 20, f"{table} did not get {count} rows")

    def execute(self, command: str) -> None:
        answer = requests.post(f"{self.url}/v1/rest/mgmt", json={"db": "weir", "csl": command}, timeout=10)
        assert answer.status_code == 200, answer.text


@pytest.fixture
def cluster(azurite: Azurite) -> Iterator[Cluster]:
    table_url = f"http://127.0.0.1:{azurite.table_port}/{ACCOUNT_NAME}"
    with AdxStandIn(azurite.blob_url, azurite.queue_url, table_url) as stand_in:
        yield Cluster(stand_in.url)


def settings_for(monkeypatch: pytest.MonkeyPatch, url: str, **more: str) -> AdxSettings:
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "ADX_INGEST_URL": url,
        "ADX_ENGINE_URL": url,
        "ADX_DATABASE": "weir",
        "ADX_AUTH": "none",
    } | more
    for name, value in values.items():
        monkeypatch.setenv(f"WEIR_{name}", value)
    return load(AdxSettings)


@pytest.fixture
def destination(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdxDestination]:
    made = AdxDestination(settings_for(monkeypatch, cluster.url))
    yield made
    made.close()


# -- rows


def test_rows_are_packed_as_json_lines_of_the_size_that_is_told() -> None:
    rows = rows_of(FLOWS, 1000)
    packed, size, rejected = pack(projection("adx", FLOWS).project, rows)
    text = gzip.decompress(packed)
    assert len(text) == size
    assert rejected == []
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["EventOffset"] for line in lines] == list(range(1000))


def test_a_record_that_json_cannot_say_is_rejected_alone() -> None:
    rows = rows_of(FLOWS, 3)
    rows[1].record["source_bytes"] = 1 << 70
    packed, _, rejected = pack(projection("adx", FLOWS).project, rows)
    assert [row.row.offset for row in rejected] == [1]
    assert "64-bit" in rejected[0].reason
    assert len(gzip.decompress(packed).splitlines()) == 2


# -- against the cluster


def test_rows_of_every_topic_land_typed_with_no_column_dropped(cluster: Cluster, destination: AdxDestination) -> None:
    destination.prepare(projectable_topics())
    for topic in projectable_topics():
        assert destination.send(topic, rows_of(topic, 5)) == []
    for topic in projectable_topics():
        made = projection("adx", topic)
        counts = cluster.loaded(made.table, 5)
        assert counts["rows"] == 5
        stored = cluster.rows(made.table)[0]
        sent = orjson.loads(orjson.dumps(made.project(event(topic, 0), 1, stored["EventOffset"])))
        assert {name for name, value in stored.items() if value is not None} == set(sent)
        for column in made.columns:
            if column.type in {"int", "long", "real", "boolean", "dynamic"} and column.name in sent:
                value = stored[column.name]
                assert (orjson.loads(value) if column.type == "dynamic" and isinstance(value, str) else value) == sent[column.name]
    stats = cluster.stats()
    assert (stats["dropped_columns"], stats["misfits"], stats["failed"]) == ({}, {}, 0)
    assert destination.counters.requests == len(projectable_topics())
    assert destination.counters.bytes_sent == stats["bytes_in"]


def test_prepare_may_be_called_again_and_again(destination: AdxDestination) -> None:
    destination.prepare(["alerts"])
    destination.prepare(["alerts", FLOWS])


@pytest.mark.parametrize("broken", ["tempstorage0", "tempstorage1"])
def test_a_failing_container_loses_nothing(cluster: Cluster, destination: AdxDestination, broken: str) -> None:
    """The SDK by itself would send an empty blob to the second container and report success."""
    cluster.control(blob_fail_containers=[broken])
    destination.prepare([FLOWS])
    for first in range(0, 800, 200):
        assert destination.send(FLOWS, rows_of(FLOWS, 200, first)) == []
    counts = cluster.loaded("NetworkFlow", 800)
    assert counts["rows"] == 800
    assert cluster.stats()["failed"] == 0


def test_no_container_at_all_is_a_retry(cluster: Cluster, destination: AdxDestination) -> None:
    cluster.control(blob_fail_containers=["tempstorage0", "tempstorage1"])
    destination.prepare([FLOWS])
    with pytest.raises(Retry, match="KustoBlobError"):
        destination.send(FLOWS, rows_of(FLOWS, 1))


def test_storage_that_refuses_connections_is_given_up_soon(destination: AdxDestination, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to its defaults, the SDK would try each container for a minute and a half."""
    destination.prepare([FLOWS])
    client = destination._ingest
    dead = client._get_containers()[0]
    dead = type(dead)(dead.url.replace(dead.parsed.netloc, "127.0.0.1:1"))
    monkeypatch.setattr(client, "_get_containers", lambda: [dead, dead])
    begun = time.monotonic()
    with pytest.raises(Retry, match="refused"):
        destination.send(FLOWS, rows_of(FLOWS, 1))
    assert time.monotonic() - begun < 15


def test_throttled_management_is_a_retry_with_the_time_that_was_asked_for(cluster: Cluster, destination: AdxDestination) -> None:
    cluster.control(script=[{"status": 429, "headers": {"Retry-After": "17"}, "body": {"error": {"code": "x", "message": "x"}}}])
    with pytest.raises(Retry) as caught:
        destination.prepare([FLOWS])
    assert caught.value.retry_after == 17
    destination.prepare([FLOWS])


@pytest.mark.parametrize("step", [{"drop": True}, {"status": 503}, {"status": 500, "body": {"a": 1}}, {"status": 502}])
def test_an_outage_of_the_cluster_is_a_retry(cluster: Cluster, destination: AdxDestination, step: dict[str, Any]) -> None:
    cluster.control(script=[step])
    with pytest.raises(Retry):
        destination.prepare([FLOWS])
    destination.prepare([FLOWS])


def test_missing_rights_are_a_retry_that_says_what_to_do(cluster: Cluster, destination: AdxDestination) -> None:
    denied = {"error": {"code": "Forbidden", "message": "x", "@message": "Principal is not authorized", "@permanent": True}}
    cluster.control(script=[{"status": 403, "body": denied}])
    with pytest.raises(Retry, match=r"not authorized; give the identity the roles Ingestor"):
        destination.prepare([FLOWS])


def test_a_database_that_is_not_there_is_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    made = AdxDestination(settings_for(monkeypatch, cluster.url, ADX_DATABASE="nowhere"))
    with pytest.raises(Retry, match=r"nowhere.*WEIR_ADX_DATABASE"):
        made.prepare([FLOWS])


def test_a_cluster_that_hangs_is_given_up_after_the_timeout(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    made = AdxDestination(settings_for(monkeypatch, cluster.url, ADX_TIMEOUT_SECONDS="1"))
    cluster.control(script=[{"delay": 8}])
    with pytest.raises(Retry, match="KustoNetworkError"):
        made.prepare([FLOWS])
    # Table and mapping pass; then the data management endpoint hangs, which the SDK would wait an hour for.
    cluster.control(reset_script=True, script=[{}, {}, {"delay": 8}])
    with pytest.raises(Retry, match="KustoNetworkError"):
        made.prepare([FLOWS])
    made.close()


def test_without_the_right_to_make_tables_they_are_checked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    made = AdxDestination(settings_for(monkeypatch, cluster.url, ADX_CREATE_TABLES="false"))
    with pytest.raises(Retry, match="Alert"):
        made.prepare(["alerts"])
    cluster.execute(".create table Alert (AlertId:string)")
    with pytest.raises(Retry, match=r"table Alert lacks columns State, .* and the JSON mapping weir_v1"):
        made.prepare(["alerts"])
    cluster.execute(adx_table_command(projection("adx", "alerts")))
    with pytest.raises(Retry, match="lacks the JSON mapping"):
        made.prepare(["alerts"])
    cluster.execute(adx_mapping_command(projection("adx", "alerts")))
    made.prepare(["alerts"])
    made.close()


def test_a_token_from_a_file_is_enough(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    more = {"ADX_AUTH": "static-token-file", "ADX_TOKEN_FILE": str(token)}
    made = AdxDestination(settings_for(monkeypatch, cluster.url, **more))
    made.prepare(["alerts"])
    made.send("alerts", rows_of("alerts", 2))
    cluster.loaded("Alert", 2)
    made.close()


def test_a_token_file_that_went_away_is_a_retry(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    made = AdxDestination(settings_for(monkeypatch, cluster.url, ADX_AUTH="static-token-file", ADX_TOKEN_FILE=str(token)))
    token.unlink()
    with pytest.raises(Retry, match="WEIR_ADX_AUTH"):
        made.prepare(["alerts"])


def test_an_address_that_the_sdk_does_not_trust_ends_the_sink() -> None:
    made = judge(KustoClientInvalidConnectionStringException("not trusted"), "https://kusto.example.org")
    assert isinstance(made, Misconfigured)
    assert "WEIR_ADX_INGEST_URL" in str(made)


@pytest.mark.kafka
def test_from_kafka_to_tables(kafka: str, topic_prefix: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the runtime of all sinks, with a cluster that throttles, fails and drops connections in between."""
    topics = [FLOWS, "events.cef", "alerts"]
    names = TopicNames(topic_prefix)
    created = [NewTopic(names[topic], 2, 1) for topic in [*topics, *(f"{topic}.dlq" for topic in topics)]]
    created.append(NewTopic(names["ledger"], 1, 1))
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics(created).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": kafka})
    for topic in topics:
        encode = Encoder(declarations()[topic].schema)
        for number in range(300):
            producer.produce(names[topic], encode(event(topic, number)), partition=number % 2)
    assert producer.flush(30) == 0
    settings = settings_for(
        monkeypatch,
        cluster.url,
        KAFKA_BOOTSTRAP_SERVERS=kafka,
        TOPIC_PREFIX=topic_prefix,
        ADX_TOPICS=",".join(topics),
        SINK_LINGER_SECONDS="0.2",
        SINK_COMMIT_SECONDS="0.5",
    )
    cluster.control(blob_fail_containers=["tempstorage0"], script=[{"status": 503}, {"drop": True}, {"status": 429}])
    stop = threading.Event()
    sink = threading.Thread(target=run_sink, args=(settings, AdxDestination(settings), settings.topics, stop))
    sink.start()
    try:
        for topic in topics:
            cluster.loaded(projection("adx", topic).table, 300)
    finally:
        stop.set()
        sink.join(60)
    assert not sink.is_alive()
    stats = cluster.stats()
    assert (stats["dropped_columns"], stats["misfits"], stats["failed"], stats["repeated"]) == ({}, {}, 0, 0)


# -- settings


def test_every_mistake_in_the_settings_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_for(
            monkeypatch,
            "http://cluster.example.org",
            ADX_ENGINE_URL="https://ingest-c.westeurope.kusto.windows.net",
            ADX_DATABASE="",
            ADX_TOPICS="events.cef,raw.syslog",
            ADX_AUTH="app-key",
        )
    text = str(caught.value)
    for name in ("INGEST_URL", "ENGINE_URL", "DATABASE", "TOPICS", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        assert f"WEIR_ADX_{name}" in text


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://192.0.2.1:1", "http://example.org"])
def test_no_authentication_is_for_this_machine_only(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(SettingsError, match="on this machine"):
        settings_for(monkeypatch, url)


def test_the_two_endpoints_of_azure_are_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ingest = "https://c.westeurope.kusto.windows.net", "https://ingest-c.westeurope.kusto.windows.net"
    made = settings_for(monkeypatch, ingest, ADX_ENGINE_URL=engine, ADX_AUTH="default")
    assert made.topics == list(projectable_topics())
    with pytest.raises(SettingsError, match=r"INGEST_URL.*ENGINE_URL"):
        settings_for(monkeypatch, engine, ADX_ENGINE_URL=ingest, ADX_AUTH="default")
