"""Datagrams out of the tests of other decoders of NetFlow and IPFIX: goflow, python-netflow-v9-softflowd, netflow_parser.

netflow_parser's come with snapshots of what it made of them; of the others the datagram's own header says how many records there
are. Datagrams that their tests damaged on purpose, and have no expectation, must be refused or decoded without harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from weir.protocols.netflow import Decoder, DecodeResult, FlowError, FlowRecord, scan
from weir.tools.conformance import Case

__all__ = ["goflow", "netflow_parser", "pynetflow"]

_NOT_ON_THE_WIRE: Final = "the test hands the template over by its own API: on the wire it never comes"
_ARGUED: Final = {
    "it_doesnt_allow_v5": "its test switches the version off; here there is no such switch",
    "it_doesnt_allow_v7": "its test switches the version off; here there is no such switch",
    "it_doesnt_allow_v9": "its test switches the version off; here there is no such switch",
    "it_doesnt_allow_ipfix": "its test switches the version off; here there is no such switch",
    "it_parses_0_length_fields_ipfix": (
        "of a field without length nothing is in the record, and the others are read; that parser gives up the whole message"
    ),
    "it_parses_ipfix_with_v9_options_template_packet": (
        "a set of NetFlow v9 in an IPFIX message is told as an error, and the sets behind it are read; that parser gives up"
    ),
    "it_parses_multiple_packets": "its test sends two of the datagrams twice; the vectors have each once",
}
_V1: Final = "NetFlow v1 is not read: no exporter of today sends it; the datagram is dead-lettered with that reason"

# Elements that become something else than a value of their own: types left out where there is no ICMP, words, versions.
_TURNED: Final = ("icmp", "direction", "endreason", "version", "sampler", "padding", "samplinginterval")
_SCALARS: Final = ("Ip4Addr", "Ip6Addr", "MacAddr", "String")


def goflow(folder: Path) -> Iterator[Case]:
    """`vectors.json` of goflow and goflow2, but for sFlow: as many records as the header counts, without an error."""
    path = folder / "vectors.json"
    if not path.is_file():
        return
    decoder = Decoder()
    for number, vector in enumerate(json.loads(path.read_text())):
        if "SFlow" not in vector["test"]:
            yield Case(f"goflow: {vector['test']} {number}", _counted(decoder, bytes.fromhex(vector["hex"])))


def pynetflow(folder: Path) -> Iterator[Case]:
    """`packets_hex.json`: each family's datagrams in order, templates first."""
    path = folder / "packets_hex.json"
    if not path.is_file():
        return
    packets: dict[str, str | list[str]] = json.loads(path.read_text())
    decoder = Decoder()
    for name in sorted(packets, key=lambda name: ("ETHER" in name, "TEMPLATE" not in name, name)):
        value = packets[name]
        for number, text in enumerate([value] if isinstance(value, str) else value):
            data = bytes.fromhex(text)
            case = f"pynetflow: {name} {number}"
            if name == "PACKET_INVALID":
                yield Case(case, None if _refused(data) else "a datagram of no version is not refused")
            elif data[:2] == b"\0\1":
                yield Case(case, _refused(data) or "NetFlow v1 is not refused", _V1)
            else:
                yield Case(case, _counted(decoder, data))


def netflow_parser(folder: Path) -> Iterator[Case]:
    """`vectors.json` and the snapshots beside it: the same records with the same values; some of them in a row where a snapshot has
    only those of one datagram of several."""
    path = folder / "vectors.json"
    if not path.is_file():
        return
    for vector in json.loads(path.read_text()):
        flows, lacking = _decode_all([bytes.fromhex(packet["hex"]) for packet in vector["packets"]])
        name = f"netflow_parser: {vector['test']}"
        expected = [record for snapshot in vector["snapshot"] for record in _snapshot(folder / snapshot)]
        if not vector["snapshot"] or None in expected:
            yield Case(name)
            continue
        records = [record for record in expected if record is not None]
        difference = _compare(records, flows, whole=len(vector["packets"]) == 1)
        reason = _ARGUED.get(vector["test"]) or (_NOT_ON_THE_WIRE if lacking and len(flows) < len(records) else None)
        yield Case(name, difference, reason if difference else None)


def _refused(data: bytes) -> str | None:
    try:
        Decoder().decode(data)
    except FlowError as error:
        return error.reason
    return None


def _counted(decoder: Decoder, data: bytes) -> str | None:
    """What differs from the header's own count of records and templates; IPFIX has no count."""
    try:
        result, head = decoder.decode(data), scan(data)
    except FlowError as error:
        return error.reason
    if result.unknown_templates:
        # Its template is in none of the datagrams: then to say so is right.
        return None if not result.flows else f"templates {sorted(result.unknown_templates)} are unknown"
    if result.errors:
        return "; ".join(result.errors)
    found = result.records + len(head.templates)
    return None if head.version == 10 or found == head.counted else f"{head.counted} records are counted, {found} are there"


def _decode_all(datagrams: list[bytes]) -> tuple[list[FlowRecord], bool]:
    """All flows, and whether a template was missing."""
    decoder = Decoder()
    results: list[DecodeResult] = []
    for data in datagrams:
        try:
            results.append(decoder.decode(data))
        except FlowError:
            continue
    return [flow for result in results for flow in result.flows], any(result.unknown_templates for result in results)


def _snapshot(path: Path) -> Iterator[list[tuple[str, Any]] | None]:
    """Records of flows in a snapshot of insta, each as (name, value); None for a snapshot of something else than packets."""
    packets = yaml.safe_load(path.read_text().split("---\n", 2)[2]) or []
    if isinstance(packets, dict):
        packets = packets.get("packets", [])
    for packet in packets if isinstance(packets, list) else []:
        if not isinstance(packet, dict):
            yield None
            return
        for version, message in packet.items():
            for part in message.get("flowsets", []) if isinstance(message, dict) else []:
                if version in ("V5", "V7"):
                    yield list(part.items())
                    continue
                data = part["body"].get("Data") if isinstance(part["body"], dict) else None
                for record in data["fields"] if data else []:
                    yield [(str(name), value) for name, value in record]


def _compare(records: list[list[tuple[str, Any]]], flows: list[FlowRecord], whole: bool) -> str | None:
    if len(flows) < len(records) or (whole and len(flows) != len(records)):
        return f"{len(records)} flows are expected, {len(flows)} are there"
    windows = [flows[first : first + len(records)] for first in range(len(flows) - len(records), -1, -1)]
    found = [_differing(records, window) for window in windows]
    return None if None in found else found[0]


def _differing(records: list[list[tuple[str, Any]]], flows: list[FlowRecord]) -> str | None:
    for record, flow in zip(records, flows, strict=True):
        ours = {_plain(str(value)) for value in (*flow.values(), *flow["additional"].values())}
        for name, value in record:
            text = _scalar(name, value)
            if text is not None and text not in ours:
                return f"{name} {text} is in none of the fields of {flow}"
    return None


def _scalar(name: str, value: Any) -> str | None:
    """A value that must be among ours as it is; None for what is empty, turned into something else, or no plain value."""
    plain = name.lower()
    if isinstance(value, dict):
        kind, value = next(iter(value.items()))
        if kind == "DataNumber":
            value = next(iter(value.values())) if isinstance(value, dict) else value
        elif kind not in _SCALARS:
            return None
    elif plain not in ("src_addr", "dst_addr", "next_hop", "d_pkts", "d_octets", "src_port", "dst_port", "router_src"):
        return None
    if any(word in plain for word in _TURNED) or value in (0, "", "0.0.0.0", "::", "00:00:00:00:00:00"):
        return None
    return _plain(str(value).rstrip("\0"))


def _plain(text: str) -> str:
    return text.lower().replace("-", ":")
