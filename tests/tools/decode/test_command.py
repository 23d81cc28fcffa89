"""What is printed, and how the command ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tools.decode.support import written
from weir.model.schemas import latest
from weir.tools.decode.command import UsageError, find_family, make_options
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
    done = weir(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


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
