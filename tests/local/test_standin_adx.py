"""The stand-in for Azure Data Explorer, exercised with the unmodified SDKs over a real Azurite."""

from __future__ import annotations

import gzip
import io
import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.kusto.data import DataFormat, KustoClient, KustoConnectionStringBuilder
from azure.kusto.data.exceptions import KustoApiError, KustoNetworkError, KustoServiceError, KustoThrottlingError
from azure.kusto.ingest import (
    IngestionProperties,
    ManagedStreamingIngestClient,
    QueuedIngestClient,
    ReportLevel,
    StreamDescriptor,
)
from azure.kusto.ingest.status import KustoIngestStatusQueues
from azure.storage.queue import QueueClient, TextBase64EncodePolicy

from weir.local.azurite import ACCOUNT_KEY
from weir.local.standins.adx import AdxStandIn

DATABASE = "SecDb"
DEADLINE = 30.0
COLUMNS = (
    "EventId:string, EventTime:datetime, Port:int, Bytes:long, Score:real, "
    "Blocked:bool, Extra:dynamic, Host:string, Started:datetime"
)
MAPPING = [
    {"column": "EventId", "Properties": {"Path": "$.event_id"}},
    {"column": "EventTime", "Properties": {"Path": "$.event_time"}},
    {"column": "Port", "Properties": {"Path": "$.port"}},
    {"column": "Bytes", "Properties": {"path": "$['bytes']"}},
    {"column": "Score", "path": "$.score", "datatype": "real"},
    {"column": "Blocked", "Properties": {"Path": "$.blocked"}},
    {"column": "Extra", "Properties": {"Path": "$.extra"}},
    {"column": "Host", "Properties": {"Path": "$.host.name"}},
    {"column": "Started", "Properties": {"Path": "$.started", "Transform": "DateTimeFromUnixMilliseconds"}},
]


class RunningAzurite(Protocol):
    blob_url: str
    queue_url: str
    table_port: int


def until(read: Callable[[], dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + DEADLINE
    while not holds(value := read()):
        assert time.monotonic() < end, f"still {value} after {DEADLINE} s"
        time.sleep(0.02)
    return value


def stats(adx: AdxStandIn) -> dict[str, Any]:
    return dict(requests.get(f"{adx.url}/_stats", timeout=10).json())


def control(adx: AdxStandIn, **wishes: object) -> None:
    answer = requests.post(f"{adx.url}/_control", json=wishes, timeout=10)
    assert answer.status_code == 200, answer.text


def table_url(azurite: RunningAzurite) -> str:
    return f"http://127.0.0.1:{azurite.table_port}/devstoreaccount1"


@pytest.fixture
def adx(azurite: RunningAzurite) -> Iterator[AdxStandIn]:
    with AdxStandIn(azurite.blob_url, azurite.queue_url, table_url(azurite), databases=[DATABASE]) as running:
        yield running
        # One Azurite serves the session: what a test leaves in the queues must not reach the next.
        control(running, pause=True)
        for name in ("ready-for-aggregation-0", "failed-ingestions", "successful-ingestions"):
            with QueueClient(azurite.queue_url, name, credential=ACCOUNT_KEY) as queue:
                queue.clear_messages()


@pytest.fixture
def client(adx: AdxStandIn) -> Iterator[KustoClient]:
    with KustoClient(KustoConnectionStringBuilder.with_no_authentication(adx.url)) as made:
        yield made


@pytest.fixture
def table(client: KustoClient) -> str:
    client.execute_mgmt(DATABASE, f".create-merge table Fw ({COLUMNS})")
    client.execute_mgmt(DATABASE, f'.create-or-alter table Fw ingestion json mapping "fw" ```{json.dumps(MAPPING)}```')
    return "Fw"


@pytest.fixture
def ingest(adx: AdxStandIn) -> Iterator[QueuedIngestClient]:
    with QueuedIngestClient(KustoConnectionStringBuilder.with_no_authentication(adx.url)) as made:
        yield made


def event(number: int, **more: object) -> dict[str, object]:
    return {"event_id": f"e{number}", "event_time": datetime.now(UTC).isoformat(), "port": 443, **more}


def stream(rows: list[dict[str, object]], separator: bytes = b"\n") -> StreamDescriptor:
    plain = separator.join(json.dumps(row).encode() for row in rows)
    return StreamDescriptor(io.BytesIO(gzip.compress(plain, 1)), is_compressed=True, size=max(1, len(plain)))


def properties(tag: str | None = None, **more: Any) -> IngestionProperties:
    settings: dict[str, Any] = {
        "database": DATABASE,
        "table": "Fw",
        "data_format": DataFormat.MULTIJSON,
        "ingestion_mapping_reference": "fw",
        "report_level": ReportLevel.FailuresAndSuccesses,
    }
    if tag is not None:
        settings |= {"ingest_by_tags": [tag], "ingest_if_not_exists": [tag]}
    return IngestionProperties(**(settings | more))


def rows_of(client: KustoClient, query: str) -> list[list[Any]]:
    return [list(row) for row in client.execute_query(DATABASE, query).primary_results[0].rows]


class TestManagement:
    def test_tables_and_mappings_are_created_again_and_again(self, client: Any, table: str) -> None:
        client.execute_mgmt(DATABASE, f".create-merge table Fw ({COLUMNS}, Added:string)")
        client.execute_mgmt(DATABASE, ".create table Other (a:string, ['b c']:long)")
        verbatim = json.dumps(MAPPING).replace("'", "''")
        client.execute_mgmt(DATABASE, f".create-or-alter table Fw ingestion json mapping 'fw' @'{verbatim}'")
        tables = client.execute_mgmt(DATABASE, ".show tables").primary_results[0]
        assert [row["TableName"] for row in tables] == ["Fw", "Other"]
        schema = client.execute_mgmt(DATABASE, ".show table Fw schema as json").primary_results[0][0]["Schema"]
        assert json.loads(schema)["OrderedColumns"][-1] == {"Name": "Added", "CslType": "string"}
        assert client.execute_mgmt(DATABASE, ".show table Other cslschema").primary_results[0][0]["Schema"] == "a:string,b c:long"
        shown = client.execute_mgmt(DATABASE, ".show table Fw ingestion json mappings").primary_results[0]
        assert [(row["Name"], json.loads(row["Mapping"])) for row in shown] == [("fw", MAPPING)]
        assert client.execute_mgmt(DATABASE, ".show version").primary_results[0][0]["BuildVersion"]

    def test_policies_functions_and_views_are_remembered(self, client: Any, table: str) -> None:
        for command in (
            """.alter-merge table Fw policy extent_tags_retention
                 '[{"TagPrefix": "ingest-by:", "RetentionPeriod": "30.00:00:00"}]'""",
            '.alter table Fw policy ingestionbatching @\'{"MaximumBatchingTimeSpan": "00:00:30"}\'',
            ".alter-merge table Fw policy retention softdelete = 90d",
            ".create-or-alter function with (folder = 'weir') Unique() { Fw | take 1 }",
            ".create async materialized-view with (lookback = 7d) Once on table Fw { Fw | summarize take_any(*) by EventId }",
            ".alter table Fw docstring 'Firewall'",
            ".alter-merge table Fw column-docstrings (EventId: 'id')",
        ):
            client.execute_mgmt(DATABASE, command)
        policy = client.execute_mgmt(DATABASE, ".show table Fw policy ingestionbatching").primary_results[0][0]["Policy"]
        assert "00:00:30" in policy
        assert [row["Name"] for row in client.execute_mgmt(DATABASE, ".show functions").primary_results[0]] == ["Unique"]
        assert [row["Name"] for row in client.execute_mgmt(DATABASE, ".show materialized-views").primary_results[0]] == ["Once"]

    def test_a_script_runs_its_commands_in_order(self, client: Any) -> None:
        script = ".execute database script with (ContinueOnErrors=false) <|\n.create-merge table A (a:string)\n\n"
        script += (
            "// a comment\n.create-merge tables B (b:long),\n  C (c:real)\n.alter database SecDb policy streamingingestion enable"
        )
        client.execute_mgmt(DATABASE, script)
        tables = client.execute_mgmt(DATABASE, ".show tables details").primary_results[0]
        assert [(row["TableName"], row["TotalRowCount"]) for row in tables] == [("A", 0), ("B", 0), ("C", 0)]

    @pytest.mark.parametrize(
        ("command", "expected"),
        [
            (".frobnicate table Fw", "Syntax error"),
            (".create-merge table Fw (EventId:long)", "cannot become long"),
            (".create-merge table Fw (EventId:text)", "unknown type"),
            (".create table Fw (a:string)", "already exists"),
            (".show table Nope details", "'Nope' of kind 'Table' was not found"),
            (".alter table Nope policy caching hot = 1d", "'Nope' of kind 'Table' was not found"),
            (".create-or-alter table Fw ingestion json mapping 'm' '[{]'", "Failed to parse ingestion mapping"),
            ('.create-or-alter table Fw ingestion json mapping \'m\' \'[{"column":"X","path":"$.x"}]\'', "column 'X'"),
            ('.create-or-alter table Fw ingestion json mapping \'m\' \'[{"column":"Port","path":"$.a[*]"}]\'', "not understood"),
        ],
    )
    def test_what_is_wrong_is_answered_in_the_services_error_shape(
        self, client: Any, table: str, command: str, expected: str
    ) -> None:
        with pytest.raises(KustoApiError) as caught:
            client.execute_mgmt(DATABASE, command)
        error = caught.value.get_api_error()
        assert expected in error.description
        assert (error.permanent, caught.value.http_response.status_code) == (True, 400)

    def test_an_unknown_database_is_an_error(self, client: Any) -> None:
        with pytest.raises(KustoApiError, match="'Nope' of kind 'Database'"):
            client.execute_mgmt("Nope", ".show tables")

    def test_a_token_credential_finds_its_scope_in_the_metadata(self, adx: AdxStandIn) -> None:
        scopes: list[str] = []

        class Credential:
            def get_token(self, *asked: str, **_: object) -> AccessToken:
                scopes.extend(asked)
                return AccessToken("t", int(time.time()) + 3600)

            def close(self) -> None:
                pass

        with KustoClient(KustoConnectionStringBuilder.with_azure_token_credential(adx.url, Credential())) as client:
            client.execute_mgmt(DATABASE, ".show tables")
        assert scopes == ["https://kusto.kusto.windows.net/.default"]


class TestQueuedIngestion:
    def test_rows_arrive_typed_and_their_blob_and_message_are_gone(self, adx: Any, client: Any, ingest: Any, table: str) -> None:
        row = event(1, bytes=2**40, score=0.5, blocked=True, extra={"a": [1]}, host={"name": "fw1"}, started=1_700_000_000_123)
        ingest.ingest_from_stream(stream([row]), properties())
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 1)
        assert (seen["succeeded"], seen["failed"], seen["queued"]) == (1, 0, 0)
        ((name, _, port, size, score, blocked, extra, host, started),) = rows_of(client, "Fw")
        assert (name, port, size, score, blocked, extra, host) == ("e1", 443, 2**40, 0.5, True, {"a": [1]}, "fw1")
        assert started == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)
        assert list(adx._storage._blobs.get_container_client("tempstorage0").list_blobs()) == []
        assert list(adx._storage._blobs.get_container_client("tempstorage1").list_blobs()) == []
        status = KustoIngestStatusQueues(ingest)
        (success,) = status.success.pop(1)
        assert (success.Table, status.failure.is_empty()) == ("Fw", True)

    def test_repeats_are_counted_and_ids_listed(self, adx: Any, ingest: Any, table: str) -> None:
        ingest.ingest_from_stream(stream([event(1), event(2)], b""), properties())
        ingest.ingest_from_stream(stream([event(2), event(3)], b"\n\n"), properties())
        seen = until(lambda: stats(adx), lambda s: s["rows"] == 4)
        assert (seen["tables"]["Fw"]["distinct"], seen["tables"]["Fw"]["repeated"]) == (3, 1)
        assert sorted(requests.get(f"{adx.url}/_ids?table=Fw", timeout=10).text.split()) == ["e1", "e2", "e3"]
        assert len(requests.get(f"{adx.url}/_rows?table=Fw&limit=3", timeout=10).json()) == 3

    def test_a_value_that_does_not_fit_becomes_null_and_an_unmapped_property_is_dropped(
        self, adx: Any, client: Any, ingest: Any, table: str
    ) -> None:
        odd = {"port": "https", "bytes": 1.7, "score": "x", "blocked": "maybe", "event_time": "epoch", "surprise": 1}
        spelled = {"port": "443", "bytes": "7", "score": "1.5", "blocked": "true"}
        ingest.ingest_from_stream(stream([{**event(1), **odd}, {**event(2), **spelled}, event(3)]), properties())
        seen = until(lambda: stats(adx), lambda s: s["rows"] == 3)
        assert seen["misfits"] == {"Fw": dict.fromkeys(("Port", "Bytes", "Score", "Blocked", "EventTime"), 1)}
        assert seen["dropped_columns"] == {"Fw": {"surprise": 1}}
        stored = {row[0]: row[1:] for row in rows_of(client, "Fw | project EventId, Port, Bytes, Score, Blocked")}
        assert stored["e1"] == [None, None, None, None]
        assert stored["e2"] == [443, 7, 1.5, True]

    def test_an_array_and_plain_uncompressed_json_are_taken(self, adx: Any, ingest: Any, table: str) -> None:
        descriptor = StreamDescriptor(io.BytesIO(json.dumps([event(1), event(2)]).encode()))
        ingest.ingest_from_stream(descriptor, properties())
        until(lambda: stats(adx), lambda s: s["rows"] == 2)

    def test_equal_tags_load_once_and_the_skip_is_reported_with_its_code(self, adx: Any, ingest: Any, table: str) -> None:
        for _ in range(3):
            ingest.ingest_from_stream(stream([event(1)]), properties("topic/0/0-9"))
        ingest.ingest_from_stream(stream([event(2)]), properties("topic/0/10-19"))
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 4)
        assert (seen["rows"], seen["skipped"], seen["failed"]) == (2, 2, 0)
        failures = KustoIngestStatusQueues(ingest).failure.pop(10)
        assert [failure.ErrorCode for failure in failures] == ["Skipped_IngestByTagAlreadyExists"] * 2

    def test_tags_belong_to_one_table(self, adx: Any, client: Any, ingest: Any, table: str) -> None:
        client.execute_mgmt(DATABASE, ".create-merge table Other (event_id:string)")
        ingest.ingest_from_stream(stream([event(1)]), properties("t"))
        ingest.ingest_from_stream(stream([event(1)]), properties("t", table="Other", ingestion_mapping_reference=None))
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 2)
        assert (seen["tables"]["Fw"]["rows"], seen["tables"]["Other"]["rows"]) == (1, 1)
        assert client.execute_mgmt(DATABASE, ".show table Fw extents").primary_results[0][0]["Tags"] == "ingest-by:t"

    @pytest.mark.parametrize(
        ("change", "content", "code"),
        [
            ({"table": "Nope"}, b'{"event_id": "e"}', "BadRequest_TableNotExist"),
            ({"database": "Nope"}, b'{"event_id": "e"}', "BadRequest_DatabaseNotExist"),
            ({"ingestion_mapping_reference": "nope"}, b'{"event_id": "e"}', "BadRequest_MappingReferenceWasNotFound"),
            ({}, b'{"event_id": "e"} {"event_id": ', "BadRequest_InvalidBlob"),
            ({}, b"not json at all", "BadRequest_InvalidBlob"),
            ({}, b'[{"event_id": "e"}, 5]', "BadRequest_InvalidBlob"),
            ({}, b"   ", "BadRequest_NoRecordsOrWrongFormat"),
            ({"data_format": DataFormat.CSV, "ingestion_mapping_reference": None}, b"a,b", "BadRequest_FormatNotSupported"),
        ],
    )
    def test_what_cannot_be_loaded_is_reported_and_nothing_of_it_stored(
        self, adx: Any, ingest: Any, table: str, change: dict[str, Any], content: bytes, code: str
    ) -> None:
        descriptor = StreamDescriptor(io.BytesIO(gzip.compress(content)), is_compressed=True, size=len(content))
        source = uuid.uuid4()
        descriptor.source_id = source
        ingest.ingest_from_stream(descriptor, properties(**change))
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 1)
        assert (seen["failed"], seen["rows"], seen["queued"]) == (1, 0, 0)
        (failure,) = KustoIngestStatusQueues(ingest).failure.pop(1)
        assert (failure.ErrorCode, failure.IngestionSourceId, failure.ShouldRetry) == (code, str(source), False)
        ingest.ingest_from_stream(stream([event(1)]), properties())
        until(lambda: stats(adx), lambda s: s["rows"] == 1)

    def test_a_blob_that_is_gone_and_a_message_that_is_no_message_do_not_stop_the_rest(
        self, adx: Any, azurite: RunningAzurite, ingest: Any, table: str
    ) -> None:
        gone = {"BlobPath": f"{azurite.blob_url}/tempstorage0/gone", "DatabaseName": DATABASE, "TableName": "Fw"}
        gone |= {"Id": "1", "AdditionalProperties": {"format": "multijson"}}  # type: ignore[dict-item]
        with QueueClient(
            azurite.queue_url, "ready-for-aggregation-0", credential=ACCOUNT_KEY, message_encode_policy=TextBase64EncodePolicy()
        ) as queue:
            for text in (json.dumps(gone), "{}", "no json", json.dumps({**gone, "BlobPath": "http://127.0.0.1:1/other/x/y"})):
                queue.send_message(text)
        ingest.ingest_from_stream(stream([event(1)]), properties())
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 5)
        assert seen["results"] == {
            "Download_SourceNotFound": 1,
            "BadRequest_CorruptedMessage": 2,
            "Download_AccountNotFound": 1,
            "Succeeded": 1,
        }


class TestStreaming:
    @pytest.fixture
    def managed(self, adx: AdxStandIn) -> Iterator[ManagedStreamingIngestClient]:
        place = KustoConnectionStringBuilder.with_no_authentication(adx.url)
        with ManagedStreamingIngestClient(place, place) as made:
            yield made

    def test_rows_are_there_when_the_call_returns(self, adx: Any, client: Any, managed: Any, table: str) -> None:
        client.execute_mgmt(DATABASE, ".alter table Fw policy streamingingestion enable")
        managed.ingest_from_stream(stream([event(1), event(2)]), properties())
        seen = stats(adx)
        assert (seen["rows"], seen["blobs"]) == (2, 0)

    def test_without_the_policy_it_is_refused(self, adx: Any, client: Any, table: str) -> None:
        with pytest.raises(KustoServiceError, match="policy is not enabled"):
            client.execute_streaming_ingest(DATABASE, "Fw", io.BytesIO(gzip.compress(b"{}")), None, "multijson", None, "fw")

    def test_over_four_megabytes_413(self, adx: Any, client: Any, table: str) -> None:
        client.execute_mgmt(DATABASE, ".alter database SecDb policy streamingingestion enable")
        answer = requests.post(
            f"{adx.url}/v1/rest/ingest/{DATABASE}/Fw?streamFormat=multijson&mappingName=fw",
            data=b" " * (4 * 1024**2 + 1),
            timeout=10,
        )
        assert (answer.status_code, answer.json()["error"]["@permanent"]) == (413, True)

    def test_a_transient_refusal_makes_the_managed_client_queue(self, adx: Any, client: Any, managed: Any, table: str) -> None:
        client.execute_mgmt(DATABASE, ".alter table Fw policy streamingingestion enable")
        body = {"error": {"code": "ServiceUnavailable", "message": "m", "@message": "busy", "@permanent": False}}
        control(adx, script=[{"status": 503, "body": body, "times": 3}])
        managed.ingest_from_stream(stream([event(1)]), properties())
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 1)
        assert (seen["rows"], seen["requests"]["503"]) == (1, 3)


class TestQueries:
    @pytest.fixture
    def filled(self, adx: AdxStandIn, ingest: QueuedIngestClient, table: str) -> str:
        rows = [event(number % 8, port=number % 3, score=float(number)) for number in range(10)]
        ingest.ingest_from_stream(stream(rows), properties())
        until(lambda: stats(adx), lambda s: s["rows"] == 10)
        return table

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("Fw | count", [[10]]),
            ("['Fw']\n| summarize dcount(EventId)", [[8]]),
            ("Fw | summarize count() by Port | top 1 by count_", [[0, 4]]),
            ("Fw | summarize rows = count(), ids = dcount(EventId), max(Score) // all", [[10, 8, 9.0]]),
            ("Fw | distinct Port | count", [[3]]),
            ("Fw | top 2 by Score desc | project EventId, Score", [["e1", 9.0], ["e0", 8.0]]),
            ("Fw | take 3 | count;", [[3]]),
        ],
    )
    def test_the_handful_runs_for_real(self, client: Any, filled: str, query: str, expected: object) -> None:
        assert rows_of(client, query) == expected

    def test_column_names_are_kustos(self, client: Any, filled: str) -> None:
        result = client.execute_query(DATABASE, "Fw | summarize dcount(EventId), count() by Port").primary_results[0]
        assert [column.column_name for column in result.columns] == ["Port", "dcount_EventId", "count_"]

    @pytest.mark.parametrize("query", ["Nope | count", "Fw | where Port == 1", "Fw | project Nope", "Fw | summarize dcount(Nope)"])
    def test_all_else_is_a_semantic_error(self, client: Any, table: str, query: str) -> None:
        with pytest.raises(KustoServiceError) as caught:
            client.execute_query(DATABASE, query)
        assert caught.value.is_semantic_error()


class TestMisbehaviour:
    def test_scripted_statuses_are_answered_in_order(self, adx: Any, client: Any, table: str) -> None:
        control(adx, script=[{"status": 429}, {"status": 403, "body": {"error": {"code": "Forbidden", "message": "m"}}}])
        with pytest.raises(KustoThrottlingError):
            client.execute_mgmt(DATABASE, ".show tables")
        with pytest.raises(KustoServiceError):
            client.execute_mgmt(DATABASE, ".show tables")
        client.execute_mgmt(DATABASE, ".show tables")

    def test_a_dropped_connection_does_nothing_and_one_dropped_later_did_it(self, adx: Any, client: Any) -> None:
        control(adx, script=[{"drop": True}, {"store_then_drop": True}])
        for name in ("A", "B"):
            with pytest.raises(KustoNetworkError):
                client.execute_mgmt(DATABASE, f".create table {name} (a:string)")
        assert list(stats(adx)["tables"]) == ["B"]

    def test_a_delay_holds_one_answer_back(self, adx: Any, client: Any) -> None:
        control(adx, script=[{"delay": 0.5}])
        began = time.monotonic()
        client.execute_mgmt(DATABASE, ".show tables")
        assert time.monotonic() - began >= 0.5

    def test_a_paused_aggregator_leaves_the_queue_alone(self, adx: Any, ingest: Any, table: str) -> None:
        control(adx, pause=True)
        until(lambda: stats(adx), lambda s: s["queued"] == 0)
        ingest.ingest_from_stream(stream([event(1)]), properties())
        turns = until(lambda: stats(adx), lambda s: s["queued"] == 1)["turns"]
        seen = until(lambda: stats(adx), lambda s: s["turns"] > turns + 2)
        assert (seen["rows"], seen["queued"]) == (0, 1)
        control(adx, pause=False)
        until(lambda: stats(adx), lambda s: s["rows"] == 1)

    def test_equal_tags_queued_together_are_both_loaded_when_they_race(self, adx: Any, ingest: Any, table: str) -> None:
        control(adx, pause=True, race_equal_tags=True)
        for _ in range(2):
            ingest.ingest_from_stream(stream([event(1)]), properties("same"))
        until(lambda: stats(adx), lambda s: s["queued"] == 2)
        control(adx, pause=False)
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 2)
        assert (seen["rows"], seen["repeated"], seen["skipped"]) == (2, 1, 0)

    def test_loads_fail_as_often_as_told_with_a_transient_error(self, adx: Any, ingest: Any, table: str) -> None:
        control(adx, fail_next_loads=1)
        for number in range(2):
            ingest.ingest_from_stream(stream([event(number)]), properties(f"t{number}"))
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 2)
        assert (seen["rows"], seen["failed"]) == (1, 1)
        (failure,) = KustoIngestStatusQueues(ingest).failure.pop(1)
        assert (failure.FailureStatus, failure.ShouldRetry) == ("Transient", True)

    def test_a_broken_container_makes_the_unmodified_sdk_queue_an_empty_blob(self, adx: Any, ingest: Any, table: str) -> None:
        """The SDK does not rewind between containers: which of the two comes first is chance, so several are sent."""
        control(adx, blob_fail_containers=["tempstorage0"])
        for number in range(12):
            ingest.ingest_from_stream(stream([event(number)]), properties())
        seen = until(lambda: stats(adx), lambda s: s["blobs"] == 12)
        assert seen["results"].get("BadRequest_EmptyBlob", 0) > 0
        assert seen["results"]["BadRequest_EmptyBlob"] + seen["rows"] == 12

    @pytest.mark.parametrize("wishes", [{"blob_fail_containers": ["nope"]}, {"paused": True}])
    def test_a_wish_that_is_not_understood_is_refused(self, adx: AdxStandIn, wishes: object) -> None:
        assert requests.post(f"{adx.url}/_control", json=wishes, timeout=10).status_code == 400


def test_it_runs_as_a_process_that_says_when_it_is_ready(azurite: RunningAzurite) -> None:
    command = [sys.executable, "-m", "weir.local.standins.adx", "--blob", azurite.blob_url, "--queue", azurite.queue_url]
    with subprocess.Popen([*command, "--database", DATABASE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        with KustoClient(KustoConnectionStringBuilder.with_no_authentication(f"http://127.0.0.1:{ready['port']}")) as client:
            assert len(client.execute_mgmt(DATABASE, ".show databases").primary_results[0]) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
