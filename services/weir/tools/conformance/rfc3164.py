"""RFC 3164: the vectors of go-syslog, the lines of Metron's syslog3164 parser, and datagrams that tcpdump recorded."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from weir.protocols import syslog
from weir.tools.conformance import Case
from weir.tools.conformance._compare import compare
from weir.tools.conformance._syslog import micros

__all__ = ["cases"]

_FIELDS: Final = ("facility", "severity", "hostname", "appname", "procid", "message")


def cases(corpus: Path) -> Iterator[Case]:
    """Each vector, line and datagram one case."""
    vectors = corpus / "syslog" / "go-syslog"
    for path in sorted(vectors.glob("rfc3164*.json")) if vectors.is_dir() else ():
        for number, vector in enumerate(json.loads(path.read_text())):
            yield _vector(f"go-syslog/{path.name}/{number}", vector)
    metron = corpus / "syslog" / "metron" / "syslog3164__parsed__Syslog3164Parsed"
    if metron.exists():
        yield from _metron(metron)
    tcpdump = corpus / "syslog" / "tcpdump"
    if (tcpdump / "syslog_udp.pcap").exists() and (tcpdump / "syslog-v.out").exists():
        yield from _tcpdump(tcpdump)


def _vector(name: str, vector: dict[str, Any]) -> Case:
    """go-syslog leaves the year at 0; here the message is received a day after its time in 2024, and the year must be that one."""
    value = vector["value"]
    if not isinstance(value, dict):
        message = syslog.parse(base64.b64decode(vector["input_b64"]), received_us=1_717_243_200_000_000)
        return compare(name, {"valid": False}, {"valid": message.format == "rfc3164"})
    written = datetime.fromisoformat("2024" + value["timestamp"][4:]).astimezone(UTC)
    expected_us = int(written.timestamp()) * 1_000_000
    message = syslog.parse(base64.b64decode(vector["input_b64"]), received_us=expected_us + 86_400_000_000)
    decoded = dict(zip(_FIELDS, (message.facility, message.severity, *message[4:7], message.message), strict=True))
    expected = {field: value[field] for field in _FIELDS}
    return compare(name, expected | {"timestamp": expected_us}, decoded | {"timestamp": message.timestamp_us})


def _metron(parsed: Path) -> Iterator[Case]:
    for number, line in enumerate(parsed.read_text().splitlines()):
        if not line.strip():
            continue
        record = json.loads(line)
        # Their year is that in which they ran the parser.
        received = record["timestamp"] * 1000 + 86_400_000_000
        message = syslog.parse(record["original_string"].encode(), received_us=received)
        expected = {
            "facility": int(record["syslog.header.facility"]),
            "severity": int(record["syslog.header.severity"]),
            "hostname": record["syslog.header.hostName"],
            "timestamp": record["timestamp"] * 1000,
            "message": record["syslog.message"],
        }
        yield compare(f"metron/syslog3164/{number}", expected, message._asdict() | {"timestamp": message.timestamp_us})


_PRINTED = re.compile(r"Facility \w+ \((\d+)\), Severity \w+ \((\d+)\)\s+Msg: (.*)")
_ETHERNET_IP_UDP: Final = 42


def _tcpdump(folder: Path) -> Iterator[Case]:
    """tcpdump prints facility, severity and what follows the PRI, with NUL as ^@."""
    printed = _PRINTED.findall((folder / "syslog-v.out").read_text())
    packets = _packets((folder / "syslog_udp.pcap").read_bytes())
    for number, ((facility, severity, text), packet) in enumerate(zip(printed, packets, strict=True)):
        message = syslog.parse(packet[_ETHERNET_IP_UDP:], received_us=1_379_000_000_000_000)
        stamp, host, rest = _split(text.removesuffix("^@"))
        expected = {"facility": int(facility), "severity": int(severity), "timestamp": stamp, "hostname": host}
        tag = f"{message.app_name}: " if message.app_name else ""
        decoded = message._asdict() | {"timestamp": message.timestamp_us, "rest": f"{tag}{message.message}"}
        yield compare(f"tcpdump/syslog_udp/{number}", expected | {"rest": rest}, decoded)


def _split(text: str) -> tuple[int, str, str]:
    """Time, host and rest, by the columns of the two forms of time in this recording."""
    if text[0].isdigit():
        stamp, host, rest = text.split(" ", 2)
        return micros(stamp), host, rest
    month, day, clock, host, rest = text.split(" ", 4)
    moment = datetime.strptime(f"2013 {month} {day} {clock} +0000", "%Y %b %d %H:%M:%S %z")
    return int(moment.timestamp()) * 1_000_000, host, rest


def _packets(data: bytes) -> Iterator[bytes]:
    """The packets of a little-endian pcap file of microseconds."""
    at = 24
    while at + 16 <= len(data):
        length = int.from_bytes(data[at + 8 : at + 12], "little")
        yield data[at + 16 : at + 16 + length]
        at += 16 + length
