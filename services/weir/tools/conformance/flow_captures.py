"""Captures of NetFlow and IPFIX exporters (`*.pcap` under `netflow/`), with pmacct's output of the same flows where it lies beside.

Each source address is an exporter of its own. What pmacct wrote is one JSON object a line, as many as flows or aggregated, whose
counts are scaled by the sampling or not, as its configuration had it: either must be ours.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from weir.protocols.netflow import Decoder, FlowError, FlowRecord
from weir.tools.conformance import Case
from weir.tools.conformance.captures import UdpPayload, udp_payloads

__all__ = ["captures"]

_VERSIONS: Final = (b"\0\5", b"\0\7", b"\0\x09", b"\0\x0a")
_KEYS: Final = {"ip_src": "source_ip", "ip_dst": "destination_ip", "port_src": "source_port", "port_dst": "destination_port"}
_UNKNOWN: Final = "the capture holds data whose template it does not hold"


def captures(folder: Path) -> Iterator[Case]:
    """Every capture under a folder, judged."""
    for path in sorted(folder.rglob("*.pcap")):
        name = f"{path.parent.name}: {path.stem}"
        try:
            flows, errors, lacking = _decode(path)
        except ValueError as error:
            yield Case(name, str(error))
            continue
        lines = _outputs(path)
        difference = "; ".join(errors[:4]) or (_compare(lines, flows) if lines else None)
        if difference is None and lacking and not lines:
            difference = f"{lacking} datagrams need a template that never came"
        yield Case(name, difference, _UNKNOWN if difference and lacking and not errors else None)


def _decode(path: Path) -> tuple[list[FlowRecord], list[str], int]:
    """Flows in order, what was damaged, and how many datagrams were never decodable. What comes before its template is tried again
    at the end, as the receiver holds it."""
    decoders: dict[str, Decoder] = defaultdict(Decoder)
    flows: list[FlowRecord] = []
    errors: list[str] = []
    held: list[UdpPayload] = []
    lacking = 0
    datagrams = [found for found in udp_payloads(path) if found.data[:2] in _VERSIONS]
    for last, batch in ((False, datagrams), (True, held)):
        for found in batch:
            try:
                result = decoders[found.source].decode(found.data)
            except FlowError as error:
                errors.append(error.reason)
                continue
            if result.unknown_templates and not last and not result.flows:
                held.append(found)
                continue
            lacking += bool(result.unknown_templates)
            flows += result.flows
            errors += result.errors
    return flows, errors, lacking


def _outputs(path: Path) -> list[dict[str, Any]]:
    """pmacct's lines about this capture: of the files named `output-flow` that begin as the capture's name does."""
    prefix = path.name.partition("traffic")[0] if "traffic" in path.name else path.stem
    found: list[dict[str, Any]] = []
    for other in sorted(path.parent.glob(f"{prefix}*output-flow*.json")):
        found += [json.loads(line) for line in other.read_text().splitlines() if line.startswith("{")]
    return [line for line in found if "ip_src" in line]


def _compare(lines: list[dict[str, Any]], flows: list[FlowRecord]) -> str | None:
    keys = [key for key in _KEYS if all(key in line for line in lines)]
    theirs: Counter[tuple[Any, ...]] = Counter()
    for line in lines:
        theirs[tuple(str(line[key]) for key in keys)] += int(line.get("bytes", 0))
    for field in ("flow_raw_bytes", "network_bytes"):
        ours: Counter[tuple[Any, ...]] = Counter()
        for flow in flows:
            ours[tuple(str(flow.get(_KEYS[key]) or (0 if "port" in key else "")) for key in keys)] += int(flow.get(field) or 0)  # type: ignore[call-overload]
        if ours == theirs:
            return None
    missing = [key for key in theirs if key not in ours]
    return f"{len(lines)} lines are expected, {len(flows)} flows are there; bytes differ, and {missing[:3]} are missing"
