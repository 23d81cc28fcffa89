"""Qumulo's documented lines, operations and error statuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weir.tools.conformance import qumulo

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))


def test_what_the_vendor_documents() -> None:
    found = list(qumulo.cases(CORPUS))
    if not found:
        pytest.skip("the corpus has nothing of Qumulo: set WEIR_CORPUS to the folder that has qumulo")
    assert len(found) >= 250
    assert [case for case in found if case.difference is not None] == []


def test_rows_of_cloudwatch_are_held_against_the_lines_of_the_same_events(tmp_path: Path) -> None:
    folder = tmp_path / "qumulo"
    folder.mkdir()
    lines = [rf'Jun 6 14:52:28 m qumulo 192.0.2.1,"AD\alice",api,fs_read_data,ok,{number},"/a",""' for number in (3, 4)]
    row = (
        r'| 1717679548000 | {"ip_address": "192.0.2.1", "user": "AD\alice", "protocol": "api", "operation": "fs_read_data", '
        r'"result": "ok", '
    )
    rows = ["-----", "|  timestamp |  message |", *[row + '"object_id": "3", "path_1": "/a", "path_2": ""}  |'] * 2]
    (folder / "samples_csv_rfc3164.log").write_text("\n".join(lines))
    (folder / "samples_cloudwatch.txt").write_text("\n".join(rows))
    found = {case.name: case.difference for case in qumulo.cases(tmp_path)}
    assert found.pop("qumulo/csv-and-cloudwatch:2") == "differ in file_id"
    assert len(found) == 5
    assert set(found.values()) == {None}


def test_an_operation_that_has_no_category_differs(tmp_path: Path) -> None:
    (tmp_path / "qumulo").mkdir()
    (tmp_path / "qumulo" / "operations.txt").write_text("fs_open\nfs_new\n")
    assert [case.difference for case in qumulo.cases(tmp_path)] == [None, "has no category and type"]
