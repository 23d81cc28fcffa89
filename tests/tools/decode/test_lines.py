"""Files of lines and documents: how they are cut, and what the processors then make of them."""

from __future__ import annotations

import gzip
import json
from importlib.resources import files
from pathlib import Path

import pytest

from tests.tools.decode.support import RECEIVED, decoded, written
from weir.protocols.lumberjack import encode_batch
from weir.tools.decode import FAMILIES, DecodeError, batches, sources

SAMPLES = Path(str(files("weir.local") / "samples"))
KEMP = b"CEF:0|Kemp|LM|1.0|5|Connection failed|3|vs=10.0.0.1:80 event=Connection failed srcip=192.0.2.9 srcport=1"


def test_a_byte_order_mark_before_the_first_line_is_passed_over(tmp_path: Path) -> None:
    header = b"\xef\xbb\xbf#separator \\x09\n#path\tdns\n#fields\tts\tquery\n#types\ttime\tstring\n1.5\ta.example\n"
    result = decoded("zeek", written(tmp_path, header))
    assert result.all("dns_question_name") == ["a.example"]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_empty_file_holds_nothing(tmp_path: Path, family: str) -> None:
    result = decoded(family, written(tmp_path, b""))
    assert (result.totals.units, result.dead) == (0, [])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_of_syslog_with_either_end_and_without_the_last(tmp_path: Path, end: bytes) -> None:
    path = written(tmp_path, end.join([b"<13>1 - a b - - - one", b"", b"<13>1 - a b - - - two"]))
    result = decoded("syslog", path)
    assert result.all("message") == ["one", "two"]
    assert result.totals.units == 2


def test_octet_counted_messages_may_hold_line_ends(tmp_path: Path) -> None:
    messages = [b"<13>1 - a b - - - one\ntwo", b"<13>1 - a b - - - three"]
    path = written(tmp_path, b"".join(b"%d %b" % (len(one), one) for one in messages))
    assert decoded("syslog", path).all("message") == ["one\ntwo", "three"]


def test_what_breaks_the_counting_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path, b"21 <13>1 - a b - - - one" + b"garbage\n" + b"21 <13>1 - a b - - - two")
    result = decoded("syslog", path)
    assert result.all("message") == ["one", "two"]
    assert [(one.place, "miscounted" in one.reason) for one in result.dead] == [(f"{path} message 2", True)]


def test_a_gzip_file_is_read_as_what_it_holds(tmp_path: Path) -> None:
    line = b"<13>1 - a b - - - one\n"
    assert decoded("syslog", written(tmp_path, gzip.compress(line * 5) + gzip.compress(line))).totals.units == 6


def test_a_broken_gzip_file_cannot_be_read_and_what_came_before_is_decoded(tmp_path: Path) -> None:
    good, bad = written(tmp_path, "<13>one\n", "a"), written(tmp_path, gzip.compress(b"<13>two\n" * 9)[:-9], "b.gz")
    found = batches.decode(FAMILIES["syslog"], [str(good), str(bad)], sources.Options(RECEIVED), batches.Totals())
    first = next(found)
    assert isinstance(first, batches.Decoded)
    assert first.place == f"{good} line 1"
    with pytest.raises(DecodeError, match="cut short"):
        list(found)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DecodeError, match=str(tmp_path)):
        decoded("syslog", tmp_path / name)


def test_a_line_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 1000)
    path = written(tmp_path, b"<13>1 - - - - - - one\n" + b"x" * 5000 + b"\n<13>1 - - - - - - two\n" + b"y" * 2000)
    result = decoded("syslog", path)
    assert result.all("message") == ["one", "two"]
    assert [one.place for one in result.dead] == [f"{path} line 2", f"{path} line 4"]


def test_years_and_zones_come_from_the_options(tmp_path: Path) -> None:
    path = written(tmp_path, "<13>Jul  1 12:00:00 a b: one\n")
    received = 1_719_835_200_000_000  # 2024-07-01T12:00:00Z
    assert decoded("syslog", path, received_us=received).all("timestamp") == [received]
    assert decoded("syslog", path, received_us=received, time_zone="Europe/Helsinki").all("timestamp") == [
        received - 3 * 3600 * 10**6
    ]


def test_the_source_is_the_option(tmp_path: Path) -> None:
    assert decoded("syslog", written(tmp_path, "<13>x"), source_ip="203.0.113.5").all("log_source_ip") == ["203.0.113.5"]


@pytest.mark.parametrize("before", [b"", b"<133>Mar  1 12:00:00 lb ", b"<133>1 2024-03-01T12:00:00Z lb - - - - "])
@pytest.mark.parametrize("family", ["kemp", "cef", "syslog"])
def test_cef_is_read_bare_and_behind_a_header(tmp_path: Path, family: str, before: bytes) -> None:
    result = decoded(family, written(tmp_path, before + KEMP))
    assert result.datasets == ["cef"]
    assert result.all("source_ip") == ["192.0.2.9"]


def test_a_dead_line_is_named_by_file_and_number_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path, [KEMP, b"CEF:0|cut", KEMP])
    result = decoded("cef", path)
    assert len(result.events) == 2
    assert [one.place for one in result.dead] == [f"{path} line 2"]
    assert (result.totals.units, result.totals.dead, result.totals.empty) == (3, 1, 0)


@pytest.mark.parametrize(
    "before",
    ["", "<134>1 2024-03-01T12:00:00Z node qumulo - - - ", "Mar  1 12:00:00 node qumulo ", "2024-03-01T12:00:00Z,node,qumulo  "],
)
def test_qumulo_is_read_bare_and_behind_its_headers(tmp_path: Path, before: str) -> None:
    body = '192.0.2.4,"AD\\alice",smb,fs_delete,ok,7,"/a,b",""'
    result = decoded("qumulo", written(tmp_path, before + body))
    assert result.datasets == ["file-audit"]
    assert result.all("file_path") == ["/a,b"]


@pytest.mark.parametrize("before", ["", "<134>1 2024-03-01T12:00:00Z node qumulo - - - ", "| 1709294400000 | "])
def test_qumulo_is_read_as_json_bare_too(tmp_path: Path, before: str) -> None:
    body = (
        r'{"ip_address": "192.0.2.4", "user": "AD\alice", "protocol": "smb", "operation": "fs_delete", "result": "ok", '
        r'"object_id": "7", "path_1": "/a,b", "path_2": ""}'
    )
    result = decoded("qumulo", written(tmp_path, before + body + (" |" if before.startswith("|") else "")))
    assert result.datasets == ["file-audit"]
    assert result.all("file_path") == ["/a,b"]


# Documents


@pytest.mark.parametrize("form", ["lines", "array", "pretty", "pretty-array", "objects"])
def test_eve_records_a_line_in_an_array_or_over_several_lines(tmp_path: Path, form: str) -> None:
    records = [json.loads(line) for line in (SAMPLES / "suricata-eve.ndjson").read_text().splitlines()[:5]]
    text = {
        "lines": "\n".join(map(json.dumps, records)),
        "array": json.dumps(records),
        "pretty": json.dumps(records[0], indent=2),
        "pretty-array": json.dumps(records, indent=2),
        "objects": "\n".join(json.dumps(record, indent=1) for record in records),
    }[form]
    result = decoded("eve", written(tmp_path, text))
    assert len(result.events) == (1 if form == "pretty" else 5)
    assert all(str(name).startswith("suricata.") for name in result.all("event_dataset"))
    assert not result.dead


def test_a_broken_document_is_named_and_those_before_it_stand(tmp_path: Path) -> None:
    record = (SAMPLES / "suricata-eve.ndjson").read_text().splitlines()[0]
    path = written(tmp_path, f"[{record},\n{record},\n{{]")
    result = decoded("eve", path)
    assert len(result.events) == 2
    assert [one.place for one in result.dead] == [f"{path} document 3"]


def test_every_sensorfleet_event_decodes() -> None:
    result = decoded("sensorfleet", SAMPLES / "sensorfleet.ndjson")
    assert len(result.events) == result.totals.units == 8
    assert {"sensor", "ids-alert"} <= set(result.datasets)


def test_a_lumberjack_connection_gives_its_documents(tmp_path: Path) -> None:
    lines = (SAMPLES / "filebeat-syslog.ndjson").read_bytes().splitlines()
    data = encode_batch(lines)
    whole = decoded("lumberjack", written(tmp_path, data))
    assert len(whole.events) == len(lines)
    zipped = decoded("lumberjack", written(tmp_path, gzip.compress(data)))
    assert zipped.all("message") == whole.all("message")
    cut = decoded("lumberjack", written(tmp_path, data + data[:-3]))
    assert [one.reason.startswith("the connection ends within a frame") for one in cut.dead] == [True]
    broken = decoded("lumberjack", written(tmp_path, data + b"HTTP"))
    assert (len(broken.events), len(broken.dead)) == (len(lines), 1)


# Zeek and Snort: what reaches the processor


def given_to_beats(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, object]]]:
    """Documents of each batch that the processor is given."""
    seen: list[list[dict[str, object]]] = []
    real = batches.beats.process

    def process(batch: batches.RawBatch, where: batches.RawCoordinates) -> batches.Outcome:
        seen.append([json.loads(unit) for unit in batch.units])
        return real(batch, where)

    monkeypatch.setattr(batches.beats, "process", process)
    return seen


def test_a_zeek_log_is_shipped_as_filebeat_does_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = given_to_beats(monkeypatch)
    path = written(tmp_path, gzip.compress(b"#separator \\x09\n#path\tconn\nvalue\xff\n\n#close\tnow\n"), "conn.log.gz")
    result = decoded("zeek", path)
    assert [document["message"] for document in seen[0]] == ["#separator \\x09", "#path\tconn", "value\ufffd", "#close\tnow"]
    assert {json.dumps(document["log"]) for document in seen[0]} == {json.dumps({"file": {"path": str(tmp_path / "conn.log")}})}
    assert result.totals.units == 4


def test_later_batches_of_a_zeek_log_begin_with_its_headings_which_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = given_to_beats(monkeypatch)
    head = ["#separator \\x09", "#path\tconn", "#fields\ta"]
    path = written(tmp_path, "\n".join([*head, *(f"line {n}" for n in range(1200)), "#close\tx"]))
    other = written(tmp_path, "bare", "other.log")
    result = decoded("zeek", path, other)
    assert len(seen) == 4
    for batch in seen[:3]:
        assert [document["message"] for document in batch[:3]] == head
    assert [document["message"] for document in seen[3]] == ["bare"]
    assert result.totals.units == 1205
    assert result.totals.events.total() + result.totals.empty + result.totals.dead == 1205
    lines = [message for message in result.all("message") if str(message).startswith("line ")]
    assert lines in ([], [f"line {n}" for n in range(1200)])


def test_snort_alerts_a_line_in_blocks_and_by_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = given_to_beats(monkeypatch)
    fast = "03/01-12:00:00.000001  [**] [1:9000001:1] SAMPLE [**] [Priority: 1] {TCP} 192.0.2.1:1 -> 198.51.100.1:2"
    full = "[**] [1:9000001:1] SAMPLE [**]\n[Priority: 1]\n03/01-12:00:00.000001 192.0.2.1:1 -> 198.51.100.1:2\nTCP TTL:64"
    path = written(tmp_path, f"{fast}\n\n{full}\n\n{full}\n<33>snort[1]: [1:9000001:1] SAMPLE\n{full}\n")
    result = decoded("snort", path)
    # A blank line ends a block, a line of another kind does not.
    assert [document["message"] for document in seen[0]][:2] == [fast, full]
    assert result.totals.units == 4


def test_a_syslog_line_of_snort_goes_the_syslog_way(tmp_path: Path) -> None:
    result = decoded("snort", written(tmp_path, "<33>Mar  1 12:00:00 ids snort[1]: hello\n"))
    assert result.all("host_name") == ["ids"]
