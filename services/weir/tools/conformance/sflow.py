"""sFlow v5 against what tcpdump prints of recorded datagrams, line by line, and against the tests of goflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from weir.protocols import sflow
from weir.tools.conformance import Case
from weir.tools.conformance.as_tcpdump import expected, printed
from weir.tools.conformance.captures import udp_payloads

__all__ = ["cases"]

_SAMPLES: Final = {
    "TestSFlowDecode": 1,
    "TestExpandedSFlowDecode": 5,
    "TestSFlowDecodeDropEgressQueue": 1,
    "TestSFlowDecodeDropExtendedACL": 1,
    "TestSFlowDecodeDropExtendedFunction": 1,
}
"""Samples in the datagrams of goflow's tests, by those tests."""

_DAMAGED: Final = ("|sflow", "(invalid)", "[|")
"""How tcpdump says that it gives a datagram up."""


def cases(corpus: Path) -> Iterator[Case]:
    """Captures under `sflow/` with what tcpdump prints where it is there, then goflow's vectors."""
    for path in sorted((corpus / "sflow").rglob("*.pcap")):
        yield _capture(path)
    vectors = corpus / "netflow" / "goflow" / "vectors.json"
    if vectors.is_file():
        for number, vector in enumerate(json.loads(vectors.read_text())):
            if "SFlow" in vector["test"]:
                yield Case(f"goflow: {vector['test']} {number}", _vector(bytes.fromhex(vector["hex"]), vector["test"]))


def _capture(path: Path) -> Case:
    name = f"{path.parent.name}: {path.stem}"
    datagrams = [found.data for found in udp_payloads(path)]
    texts = [found for found in path.parent.glob(f"{path.stem}*.out") if found.stem.removeprefix(path.stem)[:1] in ("", "-", "_")]
    text = texts[0].read_text() if texts else ""
    if any(mark in text for mark in _DAMAGED) or not text:
        # A hostile datagram must be told as one, or be read; tcpdump's lines about it end somewhere.
        return Case(name, None if text else _readable(datagrams))
    lines: list[str] = []
    for data in datagrams:
        try:
            lines += printed(data)
        except (ValueError, KeyError, StopIteration) as error:
            return Case(name, f"not all is read: {error!r}")
    theirs = expected(text)
    if lines == theirs:
        return Case(name)
    place = next((i for i, pair in enumerate(zip(lines, theirs, strict=False)) if pair[0] != pair[1]), min(len(lines), len(theirs)))
    return Case(name, f"line {place} is {lines[place : place + 1]}, {theirs[place : place + 1]} is expected")


def _readable(datagrams: list[bytes]) -> str | None:
    for number, data in enumerate(datagrams):
        try:
            errors = sflow.decode(data).errors
        except sflow.SflowError as error:
            errors = [str(error)]
        if errors:
            return f"datagram {number}: {'; '.join(errors)}"
    return None


def _vector(data: bytes, test: str) -> str | None:
    result = sflow.decode(data)
    if result.errors:
        return "; ".join(result.errors)
    wanted = _SAMPLES.get(test)
    return None if wanted in (None, len(result.samples)) else f"{wanted} samples are expected, {len(result.samples)} are there"
