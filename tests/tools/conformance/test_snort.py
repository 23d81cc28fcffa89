"""Recorded Snort alerts are decoded as they say themselves, and as the programs say that others decode them with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from weir.tools.conformance import report
from weir.tools.conformance.snort import cases

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))

CSV = '01/27-16:01:04.877970 ,129,12,1,"Segments, many",TCP,192.0.2.1,56642,192.0.2.2,22,52:54:00:12:35:02,08:00:27:7F:93:2D,0x4E'
FAST = "05/30-19:09:10.917356  [**] [1:527:8] x [**] [Priority: 2] {UDP} 192.0.2.1:68 -> 192.0.2.2:67"
FULL = "[**] [1:527:8] x [**]\n[Priority: 0] \n05/30-19:09:10.917356 2001:db8::1:68 -> 2001:db8::2:67\nUDP TTL:64 TOS:0x0 ID:1"
SYSLOG = "Sep  5 16:05:26 dev snort[7]: [1:527:8] x [Priority: 3] {ICMP} 192.0.2.1 -> 192.0.2.2"
JSON = '{"seconds":1608147213,"msg":"x","rule":"1:527:8","src_ap":"192.0.2.1:0","dst_addr":"192.0.2.2","proto":"ICMP"}'


@pytest.mark.skipif(not (CORPUS / "snort").is_dir(), reason="the corpus has no recorded Snort alerts")
def test_no_alert_differs_without_a_reason() -> None:
    assert report(CORPUS, {"snort": cases})["snort"].unexplained == []


def write(folder: Path, name: str, text: str) -> None:
    (folder / "snort").mkdir(exist_ok=True)
    (folder / "snort" / name).write_text(text)


def test_each_form_agrees_with_itself(tmp_path: Path) -> None:
    write(tmp_path, "alerts.log", "\n".join([CSV, FAST, FULL, "", SYSLOG, JSON, FULL]))
    found = list(cases(tmp_path))
    assert len(found) == 6
    assert [case for case in found if case.difference] == []


def test_expected_output_of_others_has_to_agree(tmp_path: Path) -> None:
    metron = {"ip_src_addr": "192.0.2.1", "ip_src_port": "56642", "sig_id": "12", "sig_rev": "1", "timestamp": 1453910464877}
    write(tmp_path, "snort__raw__Output", CSV)
    write(tmp_path, "snort__parsed__Parsed", json.dumps(metron))
    write(tmp_path, "fast.log", FAST)
    elastic = {"source": {"address": "192.0.2.1", "port": 68}, "rule": {"id": "527", "version": "8"}}
    write(tmp_path, "fast.log-expected.json", json.dumps({"expected": [elastic]}))
    assert [case.difference for case in cases(tmp_path)] == [None, None]
    elastic["source"]["port"] = 69
    write(tmp_path, "fast.log-expected.json", json.dumps({"expected": [elastic]}))
    assert [case.difference for case in cases(tmp_path)] == ["source_port is 68, expected 69", None]


def test_what_is_no_alert_is_a_difference(tmp_path: Path) -> None:
    write(tmp_path, "alerts.log", "nothing of the sort")
    assert [case.difference for case in cases(tmp_path)] == ["not recognised"]


def test_there_are_no_cases_without_a_corpus(tmp_path: Path) -> None:
    assert list(cases(tmp_path)) == []
