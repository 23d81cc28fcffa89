"""The stand-in for the Logs Ingestion API, exercised with the unmodified SDK and, where that is too well-behaved, by hand."""

from __future__ import annotations

import gzip
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceResponseError,
)
from azure.monitor.ingestion import LogsIngestionClient

from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.local.standins.dcr import MAX_FIELD_BYTES, parse_rules
from weir.local.standins.logs_ingestion import Limits, LogsIngestionStandIn

RULE, STREAM, TABLE = "dcr-0123456789abcdef", "Custom-Cef", "CommonSecurityLog"
RULES = {
    "dcrs": {
        RULE: {
            "streams": {
                STREAM: {
                    "table": TABLE,
                    "columns": [
                        {"name": "TimeGenerated", "type": "datetime"},
                        {"name": "EventId", "type": "string"},
                        {"name": "Message", "type": "string"},
                        {"name": "SourcePort", "type": "int"},
                        {"name": "SentBytes", "type": "long"},
                        {"name": "Score", "type": "real"},
                        {"name": "Blocked", "type": "boolean"},
                        {"name": "Extra", "type": "dynamic"},
                    ],
                }
            }
        }
    }
}
RETRY_POSTS = {"retry_on_methods": frozenset(["POST"]), "retry_backoff_factor": 0.01}


class StaticCredential:
    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return AccessToken("local-token", int(time.time()) + 3600)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def standin(certificates: CertificateFiles) -> Iterator[LogsIngestionStandIn]:
    with LogsIngestionStandIn(parse_rules(RULES), certificates) as running:
        yield running


@pytest.fixture
def client(standin: LogsIngestionStandIn, certificates: CertificateFiles) -> Iterator[LogsIngestionClient]:
    with LogsIngestionClient(standin.url, StaticCredential(), connection_verify=str(certificates.ca)) as made:
        yield made


@pytest.fixture
def http(certificates: CertificateFiles) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # else REQUESTS_CA_BUNDLE of the environment wins over the next line
        session.verify = str(certificates.ca)
        session.headers.update({"Authorization": "Bearer t", "Content-Type": "application/json"})
        yield session


def control(http: requests.Session, standin: LogsIngestionStandIn, **wishes: object) -> None:
    answer = http.post(f"{standin.url}/_control", json=wishes)
    assert answer.status_code == 200, answer.text


def stats(http: requests.Session, standin: LogsIngestionStandIn) -> dict[str, Any]:
    return dict(http.get(f"{standin.url}/_stats").json())


def address(standin: LogsIngestionStandIn, rule: str = RULE, stream: str = STREAM) -> str:
    return f"{standin.url}/dataCollectionRules/{rule}/streams/{stream}?api-version=2023-01-01"


def row(number: int, **more: object) -> dict[str, object]:
    return {"TimeGenerated": datetime.now(UTC).isoformat(), "EventId": f"e{number}", "Message": "m", **more}


def packed(rows: list[dict[str, object]]) -> io.BytesIO:
    return io.BytesIO(gzip.compress(json.dumps(rows).encode(), 1))


class TestStoring:
    def test_rows_of_the_sdk_are_stored_and_counted(self, client: Any, standin: Any, http: Any) -> None:
        client.upload(RULE, STREAM, [row(number) for number in range(100)])
        client.upload(RULE, STREAM, packed([row(number) for number in range(90, 120)]))
        seen = stats(http, standin)
        assert seen["tables"][TABLE] == {
            "rows": 130,
            "distinct": 120,
            "repeated": 10,
            "without_id": 0,
            "id_column": "EventId",
        }
        assert seen["requests"] == {"204": 2}
        assert seen["bytes_in"] < seen["bytes_inflated"]

    def test_ids_and_rows_can_be_read_back(self, client: Any, standin: Any, http: Any) -> None:
        client.upload(RULE, STREAM, [row(1, SourcePort=443, Extra={"a": [1]}), row(2), row(2)])
        ids = http.get(f"{standin.url}/_ids", params={"table": TABLE}).text.split()
        assert sorted(ids) == ["e1", "e2"]
        (first,) = http.get(f"{standin.url}/_rows", params={"table": TABLE, "limit": 1}).json()
        assert (first["EventId"], first["SourcePort"], first["Extra"]) == ("e1", 443, {"a": [1]})

    def test_an_unknown_table_is_named(self, standin: Any, http: Any) -> None:
        answer = http.get(f"{standin.url}/_ids", params={"table": "Nope"})
        assert (answer.status_code, TABLE in answer.text) == (404, True)


class TestLimits:
    def test_without_a_bearer_token_401(self, standin: Any, http: Any) -> None:
        answer = http.post(address(standin), json=[row(1)], headers={"Authorization": "Basic abc"})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert stats(http, standin)["rows"] == 0

    def test_over_one_megabyte_on_the_wire_413_with_the_services_body(self, client: Any, standin: Any, http: Any) -> None:
        body = json.dumps([row(number, Message="x" * 1000) for number in range(1100)]).encode()
        with pytest.raises(HttpResponseError) as caught:
            client.upload(RULE, STREAM, io.BytesIO(body))
        assert caught.value.status_code == 413
        assert caught.value.error.code == "ContentLengthLimitExceeded"
        assert f"1048576 bytes (1 MB). Provided content length: {len(body)} bytes." in caught.value.error.message
        assert caught.value.response.headers["x-ms-error-code"] == "ContentLengthLimitExceeded"
        assert stats(http, standin)["rows"] == 0

    def test_the_inflated_size_counts_only_when_strict(self, client: Any, standin: Any, http: Any) -> None:
        rows = [row(number, Message="x" * 1000) for number in range(1100)]
        client.upload(RULE, STREAM, packed(rows))
        control(http, standin, strict_inflated=True)
        with pytest.raises(HttpResponseError) as caught:
            client.upload(RULE, STREAM, packed(rows))
        assert caught.value.status_code == 413
        assert stats(http, standin)["rows"] == 1100

    def test_unknown_rule_404_and_unknown_stream_400(self, client: Any, standin: Any, http: Any) -> None:
        with pytest.raises(ResourceNotFoundError, match="dcr-nope"):
            client.upload("dcr-nope", STREAM, [row(1)])
        with pytest.raises(HttpResponseError, match="Custom-Nope") as caught:
            client.upload(RULE, "Custom-Nope", [row(1)])
        assert caught.value.status_code == 400
        assert stats(http, standin)["requests"] == {"404": 1, "400": 1}

    @pytest.mark.parametrize(
        ("body", "encoding"),
        [
            (b'{"EventId": "e1"}', None),
            (b'[{"EventId": "e1"}, 2]', None),
            (b'[{"EventId": "e1"', None),
            (b"[", None),
            (b"no gzip", "gzip"),
            (gzip.compress(b'[{"EventId": "e1"}]')[:-6], "gzip"),
        ],
        ids=["object", "number in the array", "cut", "bracket", "no gzip", "cut gzip"],
    )
    def test_a_body_that_is_no_array_of_objects_400(self, standin: Any, http: Any, body: bytes, encoding: str | None) -> None:
        answer = http.post(address(standin), data=body, headers={"Content-Encoding": encoding} if encoding else {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidPayload")
        assert stats(http, standin)["rows"] == 0

    def test_bytes_given_to_the_sdk_by_mistake_400(self, client: Any) -> None:
        """The SDK takes bytes for a sequence of integers and uploads those."""
        with pytest.raises(HttpResponseError, match="not an object"):
            client.upload(RULE, STREAM, b'[{"EventId": "e1"}]')

    def test_wrong_content_type_415_and_no_version_400(self, standin: Any, http: Any) -> None:
        assert http.post(address(standin), data=b"[]", headers={"Content-Type": "text/plain"}).status_code == 415
        assert http.post(address(standin).split("?")[0], json=[]).status_code == 400

    def test_a_bomb_is_not_inflated(self, standin: Any, http: Any) -> None:
        bomb = gzip.compress(b" " * (200 * 1024 * 1024), 9)
        assert len(bomb) < 1024 * 1024
        assert http.post(address(standin), data=bomb, headers={"Content-Encoding": "gzip"}).status_code == 413

    def test_the_request_rate_is_limited_per_rule_and_minute(self, certificates: CertificateFiles, http: Any) -> None:
        rules = parse_rules({"dcrs": {**RULES["dcrs"], "dcr-other": RULES["dcrs"][RULE]}})
        with LogsIngestionStandIn(rules, certificates, limits=Limits(requests_per_minute=3)) as standin:
            answers = [http.post(address(standin), json=[row(number)]) for number in range(8)]
            # A minute may begin within the test, so up to twice three pass.
            assert {answer.status_code for answer in answers} == {204, 429}
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            assert http.post(address(standin, rule="dcr-other"), json=[row(1)]).status_code == 204

    def test_the_byte_rate_is_limited_per_rule_and_minute(self, standin: Any, http: Any) -> None:
        control(http, standin, bytes_per_minute=1000)
        body = [row(1, Message="x" * 700)]
        assert {http.post(address(standin), json=body).status_code for _ in range(3)} == {204, 429}


class TestSilentLosses:
    def test_undeclared_properties_are_dropped_and_counted(self, client: Any, standin: Any, http: Any) -> None:
        client.upload(RULE, STREAM, [row(1, Surprise=1), row(2, Surprise=None, sourcePort=1)])
        assert stats(http, standin)["dropped_columns"] == {STREAM: {"Surprise": 2, "sourcePort": 1}}
        (first,) = http.get(f"{standin.url}/_rows", params={"table": TABLE, "limit": 1}).json()
        assert "Surprise" not in first

    @pytest.mark.parametrize(
        ("column", "good", "bad"),
        [
            ("SourcePort", 2**31 - 1, 2**31),
            ("SourcePort", 0, "443"),
            ("SentBytes", 2**63 - 1, 2**63),
            ("SentBytes", -5, 1.5),
            ("Score", 1, "1.5"),
            ("Blocked", False, "false"),
            ("Blocked", True, 1),
            ("Message", "text", {"a": 1}),
            ("TimeGenerated", "2126-01-01T00:00:00.1234567Z", "yesterday"),
            ("TimeGenerated", None, 1700000000),
        ],
    )
    def test_a_value_of_another_type_becomes_null_and_is_counted(
        self, standin: Any, http: Any, column: str, good: object, bad: object
    ) -> None:
        assert http.post(address(standin), json=[{column: good}]).status_code == 204
        assert stats(http, standin)["misfits"] == {}
        assert http.post(address(standin), json=[{column: bad}]).status_code == 204
        assert stats(http, standin)["misfits"] == {STREAM: {column: 1}}

    def test_dynamic_takes_anything(self, standin: Any, http: Any) -> None:
        http.post(address(standin), json=[{"Extra": value} for value in (1, "x", [1], {"a": None}, True)])
        seen = stats(http, standin)
        assert (seen["rows"], seen["misfits"]) == (5, {})

    def test_fields_over_64_kilobytes_are_cut_and_counted(self, client: Any, standin: Any, http: Any) -> None:
        exact, over = "x" * MAX_FIELD_BYTES, "é" * (MAX_FIELD_BYTES // 2) + "é"
        client.upload(RULE, STREAM, [row(1, Message=exact), row(2, Message=over)])
        rows = http.get(f"{standin.url}/_rows", params={"table": TABLE}).json()
        assert [len(stored["Message"].encode()) for stored in rows] == [MAX_FIELD_BYTES, MAX_FIELD_BYTES]
        assert stats(http, standin)["truncated_fields"] == {STREAM: {"Message": 1}}

    def test_times_too_old_or_too_far_ahead_are_replaced_by_the_arrival(self, client: Any, standin: Any, http: Any) -> None:
        now = datetime.now(UTC)
        kept = [now - timedelta(days=2) + timedelta(minutes=1), now + timedelta(days=1) - timedelta(minutes=1)]
        replaced = [now - timedelta(days=2, minutes=1), now + timedelta(days=1, minutes=1)]
        client.upload(RULE, STREAM, [{"TimeGenerated": moment.isoformat()} for moment in (*kept, *replaced)] + [{"EventId": "e"}])
        stored = [datetime.fromisoformat(each["TimeGenerated"]) for each in http.get(f"{standin.url}/_rows?table={TABLE}").json()]
        assert stored[:2] == kept
        assert all(abs(moment - now) < timedelta(minutes=1) for moment in stored[2:])
        assert stats(http, standin)["replaced_times"] == {STREAM: 3}


class TestMisbehaviour:
    def test_scripted_statuses_are_answered_in_order_and_store_nothing(self, client: Any, standin: Any, http: Any) -> None:
        control(http, standin, script=[{"status": 403}, {"status": 401}, {"status": 400, "body": {"error": {"code": "Odd"}}}])
        for kind in (HttpResponseError, ClientAuthenticationError):
            with pytest.raises(kind):
                client.upload(RULE, STREAM, [row(1)])
        with pytest.raises(HttpResponseError) as caught:
            client.upload(RULE, STREAM, [row(1)])
        assert caught.value.error.code == "Odd"
        assert stats(http, standin)["rows"] == 0
        client.upload(RULE, STREAM, [row(1)])
        assert stats(http, standin)["requests"] == {"403": 1, "401": 1, "400": 1, "204": 1}

    def test_throttling_is_waited_for_by_the_sdk_and_its_retry_noticed(self, client: Any, standin: Any, http: Any) -> None:
        control(http, standin, script=[{"status": 429, "headers": {"Retry-After": "1"}}])
        began = time.monotonic()
        client.upload(RULE, STREAM, [row(1)])
        assert time.monotonic() - began >= 1.0
        seen = stats(http, standin)
        assert (seen["requests"], seen["retried"], seen["repeated"]) == ({"429": 1, "204": 1}, 1, 0)

    def test_a_server_error_is_retried_by_the_sdk(self, client: Any, standin: Any, http: Any) -> None:
        control(http, standin, script=[{"status": 503, "times": 2}])
        client.upload(RULE, STREAM, [row(1)], retry_backoff_factor=0.01)
        seen = stats(http, standin)
        assert (seen["requests"], seen["retried"], seen["rows"]) == ({"503": 2, "204": 1}, 2, 1)

    def test_a_dropped_connection_stores_nothing(self, client: Any, standin: Any, http: Any) -> None:
        control(http, standin, script=[{"drop": True}])
        with pytest.raises(ServiceResponseError):
            client.upload(RULE, STREAM, [row(1)])
        assert (stats(http, standin)["rows"], stats(http, standin)["requests"]) == (0, {"dropped": 1})

    def test_dropped_after_storing_makes_a_duplicate_of_a_retry(self, client: Any, standin: Any, http: Any) -> None:
        control(http, standin, script=[{"store_then_drop": True}])
        client.upload(RULE, STREAM, packed([row(1), row(2)]), **RETRY_POSTS)
        seen = stats(http, standin)
        assert (seen["rows"], seen["distinct"], seen["repeated"]) == (4, 2, 2)
        assert (seen["requests"], seen["retried"]) == ({"stored_then_dropped": 1, "204": 1}, 1)

    def test_a_delay_holds_one_answer_back(self, client: Any, standin: Any, http: Any) -> None:
        control(http, standin, script=[{"ok": True}, {"delay": 0.5}])
        client.upload(RULE, STREAM, [row(1)])
        began = time.monotonic()
        client.upload(RULE, STREAM, [row(2)])
        assert time.monotonic() - began >= 0.5
        assert stats(http, standin)["rows"] == 2

    @pytest.mark.parametrize("wishes", [{"script": [{"statsu": 503}]}, {"strict": True}, [], {"script": [1]}])
    def test_a_wish_that_is_not_understood_is_refused(self, standin: Any, http: Any, wishes: object) -> None:
        assert http.post(f"{standin.url}/_control", json=wishes).status_code == 400


class TestConfiguration:
    def test_every_mistake_is_named_at_once(self) -> None:
        columns = [{"name": "2nd", "type": "string"}, {"name": "Type", "type": "string"}, {"name": "a", "type": "text"}]
        with pytest.raises(ValueError, match="not allowed") as caught:
            parse_rules({"dcrs": {"dcr-1": {"streams": {"Cef": {"columns": columns}, "Custom-Empty": {}}}, "dcr-2": {}}})
        for part in ("'Custom-'", "'2nd'", "'Type'", "'text'", "no columns", "dcr-2: 'streams' is missing"):
            assert part in str(caught.value)

    def test_two_streams_may_feed_one_table(self, certificates: CertificateFiles, http: Any) -> None:
        stream = RULES["dcrs"][RULE]["streams"][STREAM]
        rules = parse_rules({"dcrs": {RULE: {"streams": {STREAM: stream, "Custom-Kemp": stream}}}})
        with LogsIngestionStandIn(rules, certificates) as standin:
            http.post(address(standin), json=[row(1)])
            http.post(address(standin, stream="Custom-Kemp"), json=[row(1)])
            assert stats(http, standin)["tables"][TABLE]["repeated"] == 1

    def test_it_runs_as_a_process_that_says_when_it_is_ready(
        self, tmp_path: Path, certificates: CertificateFiles, http: Any
    ) -> None:
        config = tmp_path / "rules.json"
        config.write_text(json.dumps(RULES))
        command = [sys.executable, "-m", "weir.local.standins.logs_ingestion", "--config", str(config)]
        command += ["--certificates", str(certificates.ca.parent), "--data", str(tmp_path / "rows")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["ready"] is True
            answer = http.post(
                f"https://127.0.0.1:{ready['port']}/dataCollectionRules/{RULE}/streams/{STREAM}?api-version=1", json=[row(1)]
            )
            assert answer.status_code == 204
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert (tmp_path / "rows" / f"{TABLE}.ndjson").read_text().count("\n") == 1

    def test_a_port_in_use_is_named(self, standin: Any, certificates: CertificateFiles) -> None:
        with pytest.raises(OSError, match=str(standin.port)), LogsIngestionStandIn({}, certificates, port=standin.port):
            pass
