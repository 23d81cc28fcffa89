"""Lines of YAF's tabular text against what Apache Metron parsed of them (`netflow/metron`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from weir.processors.fields import Context, yaf
from weir.tools.conformance import Case

__all__ = ["metron"]

_FIELDS: Final[dict[str, Callable[[Any], object]]] = {
    "ip_src_addr": lambda record: record["source_ip"],
    "ip_dst_addr": lambda record: record["destination_ip"],
    "ip_src_port": lambda record: record["source_port"],
    "ip_dst_port": lambda record: record["destination_port"],
    "protocol": lambda record: (record["network_transport"] or "").upper(),
    "start_time": lambda record: record["event_start"] // 1000,
    "end_time": lambda record: record["event_end"] // 1000,
    "pkt": lambda record: record["source_packets"],
    "oct": lambda record: record["source_bytes"],
    "rpkt": lambda record: record["destination_packets"] or 0,
    "roct": lambda record: record["destination_bytes"] or 0,
    "tag": lambda record: record["vlan_id"] or 0,
    "end_reason": lambda record: record["flow_end_reason"].removesuffix(" timeout"),
}


def metron(folder: Path) -> Iterator[Case]:
    """Every line that Metron's expectation holds."""
    path = folder / "yaf__parsed__YafExampleParsed"
    if not path.is_file():
        return
    for number, text in enumerate(path.read_text().splitlines()):
        expected = json.loads(text)
        found = yaf.line(expected["original_string"], Context(0, lambda local: local))
        name = f"metron: YAF line {number}"
        if found is None:
            yield Case(name, "the line is not read")
            continue
        wrong = [
            f"{key} is {read(found[1])!r}, {expected[key]!r} is expected"
            for key, read in _FIELDS.items()
            if str(read(found[1])) != str(expected[key]).strip()
        ]
        yield Case(name, "; ".join(wrong) or None)
