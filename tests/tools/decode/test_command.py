"""What is printed, and how the command ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.tools.decode.support import written
from weir import cli
from weir.model.schemas import latest
from weir.model.topics import DATASETS
from weir.processors.enrichment import Enrichment, load_enrichment
from weir.processors.settings import ProcessorSettings
from weir.tools.decode.command import UsageError, find_family, make_options, run_decode
from weir.tools.decode.enriched import enrichment_of_settings
from weir.tools.decode.families import FAMILIES
from weir.tools.decode.output import json_line

WEIR = str(Path(sys.executable).with_name("weir"))
LINE = "<13>1 2024-03-01T12:00:00.5Z host app - - - "


def weir(*arguments: str | Path, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return subprocess.run(
        [WEIR, "decode", *map(str, arguments)],
        env=clean | environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_events_go_to_stdout_and_the_account_to_stderr(tmp_path: Path) -> None:
    path = written(tmp_path, f"{LINE}one\nCEF:0|cut\n{LINE}two\n")
    done = weir("syslog", path)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["message"] for event in events] == ["one", "two"]
    assert all(next(iter(event)) == "dataset" for event in events)
    assert events[0]["timestamp"] == "2024-03-01T12:00:00.500000Z"
    assert "raw_topic" not in events[0]
    dead, account = done.stderr.splitlines()
    assert dead.startswith(f"{path} line 2: ")
    assert account == "3 units, 2 events (syslog 2), 0 empty, 1 dead"
    assert done.returncode == 1


def test_standard_input_quietly_with_options(tmp_path: Path) -> None:
    done = weir(
        "syslog", "--quiet", "--raw-times", "--limit", "1", "--received", "2024-03-01T13:00:00Z", given=f"{LINE}one\n{LINE}two\n"
    )
    [event] = map(json.loads, done.stdout.splitlines())
    assert event["timestamp"] == 1_709_294_400_500_000
    assert event["event_created"] == 1_709_298_000_000_000
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("sislog",),
            "no family 'sislog'; there are syslog, cef, leef, kemp, qumulo, netflow, sflow, eve, zeek, snort, lumberjack",
        ),
        (("syslog", "/nowhere/a.log"), "/nowhere/a.log cannot be read"),
        (("syslog", "--received", "noon"), "--received noon"),
        (("syslog", "--time-zone", "Moon/Sea"), "--time-zone Moon/Sea"),
        (("syslog", "--source", "host"), "--source"),
        (("syslog", "--port", "70000"), "--port 70000"),
        (("syslog", "--plugins", "none-such"), "no plug-in 'none-such'"),
    ],
)
def test_what_cannot_be_asked_for_is_named_with_exit_code_2(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(cli.app, ["decode", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    path = written(tmp_path, f"{LINE}one\n" * 20_000)
    done = subprocess.run(
        f"{WEIR} decode syslog {path} | head -1", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert json.loads(done.stdout)["message"] == "one"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_every_family_is_found_and_times_without_zone_are_utc() -> None:
    assert {find_family(name).name for name in FAMILIES} == set(FAMILIES)
    assert make_options(received="2024-03-01T12:00:00").received_us == 1_709_294_400_000_000
    with pytest.raises(UsageError):
        find_family("")


# One line of output


def line(dataset: str = "syslog", /, **record: Any) -> dict[str, Any]:
    options = {name: record.pop(name) for name in ("everything", "raw_times", "verbatim") if name in record}
    text = json_line(dataset, record, **options)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_what_is_not_set_is_left_out_unless_asked_for() -> None:
    record = {"message": "x", "tags": [], "labels": {}, "host_name": None, "log_syslog_facility": 0, "not_in_the_schema": 1}
    assert line(**record) == {"dataset": "syslog", "message": "x", "log_syslog_facility": 0}
    everything = line(**record, everything=True)
    assert list(everything) == ["dataset", *(field["name"] for field in latest("syslog").parsed["fields"])]
    assert everything["host_name"] is None


def test_times_are_text_or_numbers_and_years_beyond_four_digits_stay_numbers() -> None:
    assert line(timestamp=1_709_294_400_000_001)["timestamp"] == "2024-03-01T12:00:00.000001Z"
    assert line(timestamp=1_709_294_400_000_001, raw_times=True)["timestamp"] == 1_709_294_400_000_001
    assert line(timestamp=2**62)["timestamp"] == 2**62


def test_texts_that_hold_json_are_opened_digit_by_digit_or_left() -> None:
    text = '{"id": 123456789012345678901234567890, "x": 1.10}'
    assert json_line("sensor", {"document": text}) == f'{{"dataset":"sensor","document":{text}}}'
    assert line("sensor", document=text, verbatim=True)["document"] == text
    assert line("sensor", document="no json")["document"] == "no json"
    assert line("sensor", document='{\n"a": 1}')["document"] == {"a": 1}


def test_nothing_a_sender_wrote_reaches_a_terminal_as_a_command() -> None:
    hostile = "\x1b[2J\x9b31m\u202egnp.exe\x7f\u2028 plain ä € \U0001f30d"
    text = json_line("syslog", {"message": hostile})
    assert json.loads(text)["message"] == hostile
    assert all(char.isprintable() for char in text)
    assert "ä € \U0001f30d" in text


FLOW = "<13>1 2024-03-01T12:00:00Z fw app - - - CEF:0|V|P|1|7|n|5|src=10.0.0.1 dst=203.0.113.9 spt=50000 dpt=22 proto=tcp"


def test_events_are_enriched_as_a_processor_with_these_settings_would(tmp_path: Path) -> None:
    path = written(tmp_path, FLOW)
    [plain] = map(json.loads, weir("cef", path, "--no-enrich").stdout.splitlines())
    [event] = map(json.loads, weir("cef", path, WEIR_LOG_LEVEL="of no matter here", WEIR_NO_SUCH="nor this").stdout.splitlines())
    added = {name: value for name, value in event.items() if name not in plain}
    assert (added["network_direction"], added["network_protocol"]) == ("outbound", "ssh")
    assert added["network_community_id"].startswith("1:")
    own = weir("cef", path, WEIR_OWN_NETWORKS="203.0.113.0/24", WEIR_ENRICH_COMMUNITY_ID="false")
    [event] = map(json.loads, own.stdout.splitlines())
    assert event["network_direction"] == "inbound"
    assert "network_community_id" not in event


def test_tables_of_the_settings_are_asked_and_the_topic_is_said_to_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("ip,name\n10.0.0.1,desk-1\n")
    (tmp_path / "config.yaml").write_text(f"enrich_asset_files: {tmp_path / 'assets.csv'}\nsyslog_udp_port: 5514\n")
    done = weir(
        "cef",
        written(tmp_path, FLOW),
        WEIR_CONFIG=str(tmp_path / "config.yaml"),
        WEIR_ENRICH_ASSETS_TOPIC="true",
    )
    assert json.loads(done.stdout)["source_asset_name"] == "desk-1"
    assert "the topic is not followed here" in done.stderr
    (tmp_path / "assets.csv").write_text("ip,name\n10.0.0.256,desk-1\n")
    done = weir("cef", written(tmp_path, FLOW), WEIR_ENRICH_ASSET_FILES=str(tmp_path / "assets.csv"))
    assert done.returncode == 2
    assert "assets.csv:2: ip: " in done.stderr
    assert weir("cef", written(tmp_path, FLOW), "--no-enrich", WEIR_ENRICH_ASSET_FILES="/nowhere").returncode == 0


def test_settings_are_put_back_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_LOG_LEVEL", "of no matter")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    monkeypatch.setenv("WEIR_ENRICH_CACHE_ENTRIES", "1000")
    before = dict(os.environ)
    enrichment_of_settings()
    assert dict(os.environ) == before


def test_what_is_logged_does_not_stand_among_the_events(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def step(records: list[dict[str, Any]]) -> None:
        raise RuntimeError("no")

    options = make_options(enrichment=Enrichment({"cef": [step]}))
    assert run_decode(find_family("cef"), [str(written(tmp_path, FLOW))], options) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line)["dataset"] for line in out.splitlines()] == ["cef"]
    assert "enrichment failed" in err


def test_without_settings_events_are_enriched_as_the_settings_defaults_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a short cut that reads no settings; it must not drift from them."""
    for name in [name for name in os.environ if name.startswith("WEIR_")]:
        monkeypatch.delenv(name)
    flow = {
        "source_ip": "100.64.0.1",
        "destination_ip": "fd00::1",
        "source_port": 50000,
        "destination_port": 53,
        "network_iana_number": 17,
    }
    more = {"destination_ip": "203.0.113.9", "user_agent_original": "curl/8.5.0"}
    short, long = enrichment_of_settings()[0], load_enrichment(ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9"))
    for dataset in DATASETS:
        one, other = [dict(flow), flow | more], [dict(flow), flow | more]
        short.apply({dataset: one})
        long.apply({dataset: other})
        assert one == other


def test_decoding_loads_nothing_of_what_runs_a_service() -> None:
    program = (
        "import sys; from weir.cli import main; sys.argv = ['weir', 'decode', 'syslog', '--quiet']\n"
        "try: main()\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=f"{LINE}one\n", capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["message"] == "one"
    assert not {"faust", "aiohttp", "sigma", "confluent_kafka", "pydantic_settings"} & set(done.stderr.split())
