"""Other programs that read NetFlow and IPFIX, each as a function from datagrams to flows; those that are not there are left out.

A flow is (source, destination, source port, destination port, protocol, bytes, packets) as text, empty where it has none. What a
program cannot read raises whatever it raises.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from ipaddress import ip_address
from pathlib import Path
from struct import pack
from tempfile import TemporaryDirectory
from typing import Any

from weir.protocols.netflow import Decoder

__all__ = ["READERS", "Flow", "ours"]

Flow = tuple[str, ...]
Read = Callable[[list[bytes]], list[Flow]]

# What each program calls the seven parts of a flow; the first that is there counts.
_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "netflow": (
        ("IPV4_SRC_ADDR", "IPV6_SRC_ADDR", "sourceIPv4Address", "sourceIPv6Address"),
        ("IPV4_DST_ADDR", "IPV6_DST_ADDR", "destinationIPv4Address", "destinationIPv6Address"),
        ("L4_SRC_PORT", "SRC_PORT", "sourceTransportPort"),
        ("L4_DST_PORT", "DST_PORT", "destinationTransportPort"),
        ("PROTOCOL", "PROTO", "protocolIdentifier"),
        ("IN_BYTES", "IN_OCTETS", "octetDeltaCount", "BYTES_TOTAL", "IN_PERMANENT_BYTES", "octetTotalCount", "OUT_BYTES"),
        ("IN_PKTS", "IN_PACKETS", "packetDeltaCount", "PACKETS_TOTAL", "IN_PERMANENT_PKTS", "packetTotalCount", "OUT_PKTS"),
    ),
    "ipfix": (
        ("sourceIPv4Address", "sourceIPv6Address"),
        ("destinationIPv4Address", "destinationIPv6Address"),
        ("sourceTransportPort",),
        ("destinationTransportPort",),
        ("protocolIdentifier",),
        ("octetDeltaCount", "octetTotalCount", "postOctetDeltaCount"),
        ("packetDeltaCount", "packetTotalCount", "postPacketDeltaCount"),
    ),
    "scapy": (
        ("IPV4_SRC_ADDR", "IPV6_SRC_ADDR", "src", "sourceIPv4Address"),
        ("IPV4_DST_ADDR", "IPV6_DST_ADDR", "dst", "destinationIPv4Address"),
        ("L4_SRC_PORT", "srcport", "sourceTransportPort"),
        ("L4_DST_PORT", "dstport", "destinationTransportPort"),
        ("PROTOCOL", "prot", "protocolIdentifier"),
        ("IN_BYTES", "dOctets", "octetDeltaCount", "BYTES_TOTAL", "OUT_BYTES"),
        ("IN_PKTS", "dpkts", "packetDeltaCount", "PACKETS_TOTAL", "OUT_PKTS"),
    ),
    "tshark": (
        ("cflow.srcaddr", "cflow.srcaddrv6"),
        ("cflow.dstaddr", "cflow.dstaddrv6"),
        ("cflow.srcport",),
        ("cflow.dstport",),
        ("cflow.protocol",),
        ("cflow.octets", "cflow.octets64", "cflow.permanent_octets", "cflow.post_octets"),
        ("cflow.packets", "cflow.packets64", "cflow.permanent_packets", "cflow.post_packets"),
    ),
}
_FIELDS = (
    "source_ip", "destination_ip", "source_port", "destination_port", "network_iana_number", "flow_raw_bytes", "flow_raw_packets",
)  # fmt: skip
_EMPTY = ("", "0", "None", "0.0.0.0", "::")


def _text(value: object, address: bool) -> str:
    if address and isinstance(value, int):
        value = ip_address(value)
    if isinstance(value, bytes):
        value = int.from_bytes(value, "big")
    text = "" if value is None else str(value)
    return "" if text in _EMPTY else text


def _flow(values: Mapping[str, Any], names: tuple[tuple[str, ...], ...]) -> Flow:
    found = []
    for place, choice in enumerate(names):
        texts = (_text(values.get(name), place < 2) for name in choice)
        found.append(next(filter(None, texts), ""))
    return tuple(found)


def ours(datagrams: list[bytes]) -> list[Flow]:
    """What Weir decodes."""
    decoder = Decoder()
    flows: list[dict[str, Any]] = [dict(flow) for data in datagrams for flow in decoder.decode(data).flows]
    for flow in flows:
        # Where the exporter counts each direction apart, our sum of them is nobody else's.
        if "initiatorOctets" in flow["additional"]:
            flow["flow_raw_bytes"] = None
    return [_flow(flow, tuple((name,) for name in _FIELDS)) for flow in flows]


def _by_netflow(datagrams: list[bytes]) -> list[Flow]:
    netflow = importlib.import_module("netflow")
    templates: dict[str, dict[int, Any]] = {"netflow": {}, "ipfix": {}}
    flows = [flow.data for data in datagrams for flow in netflow.parse_packet(data, templates).flows]
    return [_flow(flow, _NAMES["netflow"]) for flow in flows]


def _by_ipfix(datagrams: list[bytes]) -> list[Flow]:
    elements, reader = importlib.import_module("ipfix.ie"), importlib.import_module("ipfix.reader")
    elements.use_iana_default()
    elements.use_5103_default()
    with redirect_stderr(io.StringIO()):
        records = list(reader.from_stream(io.BytesIO(b"".join(datagrams))).namedict_iterator())
    return [_flow(record, _NAMES["ipfix"]) for record in records]


def _by_scapy(datagrams: list[bytes]) -> list[Flow]:
    netflow = importlib.import_module("scapy.layers.netflow")
    packets = netflow.netflowv9_defragment([netflow.NetflowHeader(data) for data in datagrams])
    return [_flow(record, _NAMES["scapy"]) for packet in packets for record in _scapy_records(packet)]


def _scapy_records(packet: Any) -> Iterator[dict[str, Any]]:
    layer = packet
    while layer:
        name = type(layer).__name__
        if name == "NetflowRecordV5":
            yield {field.name: layer.getfieldval(field.name) for field in layer.fields_desc}
        elif name == "NetflowDataflowsetV9":
            for record in layer.records:
                if hasattr(record, "fields_desc"):
                    yield {field.name: record.getfieldval(field.name) for field in record.fields_desc}
        layer = layer.payload


def _by_tshark(datagrams: list[bytes]) -> list[Flow]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "flows.pcap"
        with path.open("wb") as file:
            file.write(pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
            for data in datagrams:
                head = pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 0, 0, 64, 17, 0, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
                packet = head + pack(">HHHH", 40000, 2055, 8 + len(data), 0) + data
                file.write(pack("<IIII", 1, 0, len(packet), len(packet)) + packet)
        command = [str(shutil.which("tshark")), "-nr", str(path), "-d", "udp.port==2055,cflow", "-T", "pdml"]
        run = subprocess.run(command, capture_output=True, check=True, timeout=60)
    tree = ET.fromstring(run.stdout)
    flows = [f for f in tree.iter("field") if not f.get("name") and (f.get("show") or "").startswith(("Flow ", "pdu "))]
    return [_flow(_tshark_values(flow), _NAMES["tshark"]) for flow in flows]


def _tshark_values(flow: ET.Element) -> dict[str, str]:
    """Values by name; of a field that comes more than once the first that is not empty."""
    values: dict[str, str] = {}
    for field in flow.iter("field"):
        name, value = field.get("name", ""), field.get("show", "")
        if values.get(name, "") in _EMPTY:
            values[name] = value
    return values


_ALL: dict[str, Read] = {"netflow": _by_netflow, "ipfix": _by_ipfix, "scapy": _by_scapy, "tshark": _by_tshark}


def _there(name: str) -> bool:
    if name == "tshark":
        # It takes most of a second for each case, so that the ordinary run of the tests leaves it out.
        return shutil.which(name) is not None and bool(os.environ.get("WEIR_DIFFERENTIAL"))
    return importlib.util.find_spec(name) is not None


READERS: dict[str, Read] = {name: read for name, read in _ALL.items() if _there(name)}
"""The programs that are there."""
