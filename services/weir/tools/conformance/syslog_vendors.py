"""Vendors' syslog lines: Metron's samples of ASA, Palo Alto Networks and Lancope, Filebeat's of sshd, sudo and their kin."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from weir.tools.conformance import Case
from weir.tools.conformance._compare import Difference, Reason, compare
from weir.tools.conformance._syslog import decode, micros

__all__ = ["cases"]

_DAY_US: Final = 86_400_000_000


def cases(corpus: Path) -> Iterator[Case]:
    """Each line one case."""
    metron = corpus / "syslog" / "metron"
    for parts, reader in (
        (("asa__parsed__asa_parsed",), _asa),
        (("SampleInput__PaloaltoOutput",), _paloalto),
        (("SampleInput__LancopeExampleOutput",), _lancope),
    ):
        for part in parts:
            if (metron / part).exists():
                yield from reader(metron / part)
    beats = corpus / "syslog" / "beats-system"
    for path in sorted(beats.glob("*.log")) if beats.is_dir() else ():
        expected = path.with_name(path.name + "-expected.json")
        if expected.exists():
            yield from _filebeat(path, expected)


# Metron ---------------------------------------------------------------------------------------------------------------------

_FACILITIES: Final = [
    "kernel",
    "user",
    "mail",
    "system",
    "security",
    "syslogd",
    "line",
    "network",
    "uucp",
    "clock",
    "auth",
    "ftp",
    "ntp",
    "log-audit",
    "log-alert",
    "cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
]
_SEVERITIES: Final = "emerg alert crit err warn notice info debug".split()  # noqa: SIM905
_OUTBOUND: Final = re.compile(r"Built outbound (?:TCP|UDP|GRE) connection")
_INBOUND_ICMP: Final = re.compile(r"Built inbound ICMP connection")
_ENDS: Final = frozenset({"source_ip", "source_port", "destination_ip", "destination_port"})


def _ends_differ(difference: Difference) -> bool:
    return difference.field in _ENDS


SWAPPED: Final[tuple[Reason, ...]] = (
    (
        _ends_differ,
        'In "Built outbound", the side that is named second opened the connection (Cisco, messages 302013 and 302015), so it '
        "is the "
        "source; Elastic's integration made the same correction (elastic/integrations #5004).",
    ),
)
SWAPPED_ICMP: Final[tuple[Reason, ...]] = (
    (
        _ends_differ,
        'In "Built inbound ICMP", the foreign address (faddr) opened the connection (Cisco, message 302020), so it is the source; '
        "Elastic's integration made the same correction (elastic/integrations #20838).",
    ),
)


def _number(names: list[str], name: str | None, value: int | None) -> str | None:
    return None if value is None else names[value] if value < len(names) else name


def _asa(path: Path) -> Iterator[Case]:
    for number, line in enumerate(path.read_text().splitlines()):
        if not line.strip():
            continue
        record = json.loads(line)
        original = record["original_string"].strip()
        dataset, decoded = decode(original.encode(), received_us=record["timestamp"] * 1000 + _DAY_US)
        expected: dict[str, Any] = {
            "dataset": "syslog",
            "event_dataset": "cisco.asa",
            "tag": record["ciscotag"],
            "timestamp": record["timestamp"] * 1000,
        }
        pairs = decoded.get("log_syslog_fields") or {}
        seen = decoded | {
            "dataset": dataset,
            "tag": f"{pairs.get('facility')}-{decoded.get('event_severity')}-{decoded.get('event_code')}",
            "severity": _number(_SEVERITIES, None, decoded.get("log_syslog_severity")),
            "facility": _number(_FACILITIES, None, decoded.get("log_syslog_facility")),
        }
        expected |= {"severity": record["syslog_severity"], "facility": record["syslog_facility"]}
        for theirs, ours in (
            ("ip_src_addr", "source_ip"), ("ip_dst_addr", "destination_ip"), ("ip_src_port", "source_port"),
            ("ip_dst_port", "destination_port"), ("protocol", "network_transport"), ("action", "device_action"),
            ("syslog_host", "host_name"),
        ):  # fmt: skip
            if theirs in record:
                expected[ours] = record[theirs]
        reasons = SWAPPED if _OUTBOUND.search(original) else SWAPPED_ICMP if _INBOUND_ICMP.search(original) else ()
        yield compare(f"metron/asa/{number}", expected, seen, reasons)


# Columns of PAN-OS by the vendor's tables, counted from 0. Metron gives no output for these lines: they are read a second time
# here, by Python's csv module and these positions, and what the event says must agree.
_PANOS: Final[tuple[tuple[int, str, Callable[[str], Any]], ...]] = (
    (7, "source_ip", str),
    (8, "destination_ip", str),
    (11, "rule_name", str),
    (14, "network_application", str),
    (16, "observer_ingress_zone", str),
    (17, "observer_egress_zone", str),
    (18, "observer_ingress_interface", str),
    (19, "observer_egress_interface", str),
    (24, "source_port", int),
    (25, "destination_port", int),
    (29, "network_transport", str),
    (30, "device_action", str),
)
_PANOS_TRAFFIC: Final = (
    (31, "network_bytes", int),
    (32, "source_bytes", int),
    (33, "destination_bytes", int),
    (34, "network_packets", int),
)
SPOILT: Final = (
    "Whoever made the sample anonymous wrote commas into its addresses (23.200,10,217): its columns are not where the vendor puts "
    "them, and no reader of columns can know."
)
_HEADER: Final = re.compile(r"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d (\S+) (?=\d,)")


def _paloalto(path: Path) -> Iterator[Case]:
    for number, line in enumerate(path.read_text().splitlines()):
        header = _HEADER.match(line)
        if header is None:
            continue
        columns = next(csv.reader([line[header.end() :]]))
        if not columns[24].isdecimal():
            yield Case(f"metron/paloalto/{number}", f"column 25, the source port, is {columns[24]!r}", SPOILT)
            continue
        received = micros(columns[1].replace("/", "-") + "Z")
        dataset, decoded = decode(line.encode(), received_us=received)
        expected: dict[str, Any] = {
            "dataset": "syslog",
            "event_dataset": "paloalto.panos",
            "host_name": header[2],
            "log_syslog_severity": int(header[1]) & 7,
            "timestamp": micros(columns[6].replace("/", "-") + "Z"),
        }
        for index, field, convert in _PANOS + (_PANOS_TRAFFIC if columns[3] == "TRAFFIC" else ()):
            if columns[index]:
                expected[field] = convert(columns[index])
        domain, _, user = columns[12].rpartition("\\")
        expected |= {"user_name": user or None, "user_domain": domain or None}
        yield compare(f"metron/paloalto/{number}", expected, decoded | {"dataset": dataset})


def _lancope(path: Path) -> Iterator[Case]:
    for number, line in enumerate(path.read_text().splitlines()):
        record = json.loads(line)
        dataset, decoded = decode(record["message"].encode(), received_us=micros(record["@timestamp"]))
        stamp, source, target, severity, *_ = record["message"].split("]: ", 1)[1].split(" ")
        expected = {
            "dataset": "syslog",
            "event_dataset": "cisco.stealthwatch",
            "host_name": record["message"].split(" ")[3],
            "process_name": "StealthWatch",
            "timestamp": micros(stamp),
            "source_ip": str(ip_address(source)),
            "destination_ip": None if target == "0.0.0.0" else target,
            "severity": severity,
        }
        seen = decoded | {"dataset": dataset, "severity": (decoded.get("log_syslog_fields") or {}).get("severity")}
        yield compare(f"metron/lancope/{number}", expected, seen)


# Filebeat -------------------------------------------------------------------------------------------------------------------

# Filebeat's key: our field. Those with a dot behind "pairs" are among log_syslog_fields.
_KEYS: Final = {
    "host.hostname": "host_name",
    "process.name": "process_name",
    "message": "message",
    "user.name": "user_name",
    "user.effective.name": "destination_user_name",
    "user.id": "user_id",
    "source.ip": "source_ip",
    "source.port": "source_port",
    "event.action": "event_action",
    "event.outcome": "event_outcome",
    "event.category": "event_category",
    "event.type": "event_type",
    "event.module": "event_module",
    "event.dataset": "event_dataset",
    "group.id": "pairs.gid",
    "group.name": "pairs.group",
    "system.auth.ssh.method": "pairs.method",
    "system.auth.ssh.signature": "pairs.signature",
    "system.auth.ssh.dropped_ip": "pairs.src",
    "system.auth.sudo.command": "pairs.COMMAND",
    "system.auth.sudo.error": "pairs.error",
    "system.auth.sudo.pwd": "pairs.PWD",
    "system.auth.sudo.tty": "pairs.TTY",
    "system.auth.sudo.user": "pairs.USER",
    "system.auth.useradd.home": "pairs.home",
    "system.auth.useradd.shell": "pairs.shell",
}


def _launchd(difference: Difference) -> bool:
    return difference.field == "process_name" and str(difference.expected).startswith(f"{difference.decoded}[")


REASONS: Final[tuple[Reason, ...]] = (
    (
        _launchd,
        "launchd writes its own pid and the service that it speaks of: the name is that of the program, the pid goes to "
        "process_pid, "
        "the service to log_syslog_fields.",
    ),
)


def _filebeat(path: Path, expected_path: Path) -> Iterator[Case]:
    """Lines that begin with a space belong to the one before, as the module's settings say.

    What Filebeat takes from its settings and not from the line is not compared: event.module and event.dataset of the fileset
    syslog, which are the names of the file's kind. Times are compared where the expectation has them.
    """
    lines: list[str] = []
    for line in path.read_text().splitlines():
        if line[:1] in {" ", "\t"} and lines:
            lines[-1] += "\n" + line
        else:
            lines.append(line)
    records = json.loads(expected_path.read_text())
    offsets = {record["log.offset"]: record for record in records}
    at = 0
    for number, line in enumerate(lines):
        record = offsets.get(at)
        at += len(line.encode()) + 1
        if record is not None:
            yield _filebeat_case(f"filebeat/{path.name}/{number}", line, record)


def _filebeat_case(name: str, line: str, record: dict[str, Any]) -> Case:
    offset = str(record["event.timezone"])
    minutes = (int(offset[1:3]) * 60 + int(offset[4:6])) * (-1 if offset[0] == "-" else 1)
    dataset, decoded = decode(line.encode(), received_us=1_577_836_800_000_000, utc_offset_minutes=minutes)
    pairs = decoded.get("log_syslog_fields") or {}
    expected: dict[str, Any] = {"dataset": "syslog"}
    seen: dict[str, Any] = {"dataset": dataset}
    for theirs, ours in _KEYS.items():
        if theirs not in record or (theirs in {"event.module", "event.dataset"} and record["fileset.name"] == "syslog"):
            continue
        expected[ours] = record[theirs]
        seen[ours] = pairs.get(ours.removeprefix("pairs.")) if ours.startswith("pairs.") else decoded.get(ours)
    if "process.pid" in record:
        expected["process_pid"], seen["process_pid"] = str(record["process.pid"]), decoded.get("process_pid")
    if "@timestamp" in record:
        # Filebeat writes milliseconds.
        expected["timestamp"] = micros(record["@timestamp"])
        stamp = decoded.get("timestamp")
        seen["timestamp"] = None if stamp is None else stamp // 1000 * 1000
    return compare(name, expected, seen, REASONS)
