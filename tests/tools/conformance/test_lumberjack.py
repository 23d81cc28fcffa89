"""What a real Filebeat sent is read document by document, and becomes as many events."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from weir.protocols.lumberjack import encode_batch
from weir.tools.conformance import report
from weir.tools.conformance.lumberjack import cases

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[4] / "shared" / "corpus"))
DOCUMENTS = [
    {"agent": {"type": "filebeat"}, "log": {"file": {"path": "/x"}, "offset": n}, "message": f"line {n}"} for n in range(3)
]


def captured(tmp_path: Path, events: list[dict[str, object]], stream: bytes | None = None) -> Path:
    folder = tmp_path / "lumberjack" / "captures"
    folder.mkdir(parents=True)
    stream = encode_batch([json.dumps(document).encode() for document in DOCUMENTS]) if stream is None else stream
    (folder / "one.raw.gz").write_bytes(gzip.compress(stream))
    (folder / "one.meta.json").write_text(json.dumps({"n_events": 3, "frames": [["W", 3], ["A", 3]]}))
    lines = [json.dumps({"seq": number, "event": event}) for number, event in enumerate(events, 1)]
    (folder / "one.events.ndjson").write_text("\n".join(lines))
    return tmp_path


def test_no_difference_is_unexplained() -> None:
    if not (CORPUS / "lumberjack").is_dir():
        pytest.skip(f"no captured Filebeat bytes at {CORPUS}; WEIR_CORPUS names the corpus")
    (found,) = report(CORPUS, {"lumberjack": cases}).values()
    assert [(case.name, case.difference) for case in found.unexplained] == []
    assert found.cases >= 4


def test_a_capture_agrees_with_its_events(tmp_path: Path) -> None:
    assert [case.difference for case in cases(captured(tmp_path, DOCUMENTS))] == [None, None]
    assert list(cases(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    ("events", "stream", "said"),
    [
        (DOCUMENTS[:2], None, "document 2 differs"),
        ([*DOCUMENTS[:2], {"message": "another"}], None, "document 2 differs"),
        (DOCUMENTS, b"9X" * 20, "not Lumberjack"),
        (DOCUMENTS, encode_batch([b"{}"]), "1 documents instead of 3"),
    ],
)
def test_a_difference_is_seen(tmp_path: Path, events: list[dict[str, object]], stream: bytes | None, said: str) -> None:
    first = next(iter(cases(captured(tmp_path, events, stream))))
    assert first.difference is not None
    assert said in first.difference


def test_a_document_that_gives_no_event_is_seen(tmp_path: Path) -> None:
    stream = encode_batch([b"{}", b'{"a":', b"{}"])
    folder = captured(tmp_path, [], stream) / "lumberjack" / "captures"
    (folder / "one.events.ndjson").unlink()
    _, events = cases(tmp_path)
    assert events.difference is not None
    assert "document 1 is dead" in events.difference
