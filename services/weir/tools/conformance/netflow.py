"""NetFlow v5, v7, v9 and IPFIX against the tests of four other decoders, captures of exporters, and YAF's text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from weir.tools.conformance import Case, _codec_netflow
from weir.tools.conformance.flow_captures import captures
from weir.tools.conformance.flow_vectors import goflow, netflow_parser, pynetflow
from weir.tools.conformance.yaf_text import metron

__all__ = ["cases"]


def cases(corpus: Path) -> Iterator[Case]:
    """All cases of `netflow/` in the corpus."""
    folder = corpus / "netflow"
    yield from _codec_netflow.cases(corpus)
    yield from goflow(folder / "goflow")
    yield from netflow_parser(folder / "netflow_parser")
    yield from pynetflow(folder / "pynetflow")
    yield from captures(folder)
    yield from metron(folder / "metron")
