"""Zeek: recorded logs against what their columns say, and Metron's parser.

There is no expected output for most recorded logs. So each record is judged by an oracle: what its fields must be, worked out here
from the raw columns by other means than the decoder's (Decimal, ipaddress, plain splitting), and that every column is still
somewhere in the event. A line that its header does not fit must be kept whole and be marked.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from weir.processors.fields import NOTHING, Context, Decoded
from weir.processors.readers import read_document, read_text
from weir.tools.conformance import Case

__all__ = ["cases"]

RECEIVED_US: Final = 1_790_000_000_000_000

# Field: column, per log; judged by the kind of the field's value.
_COMMON: Final = {
    "source_ip": "id.orig_h",
    "destination_ip": "id.resp_h",
    "flow_id": "uid",
    "network_transport": "proto",
    "network_community_id": "community_id",
}
_EXPECTED: Final[dict[str, dict[str, str]]] = {
    "conn": {
        "source_bytes": "orig_ip_bytes",
        "destination_bytes": "resp_ip_bytes",
        "source_packets": "orig_pkts",
        "destination_packets": "resp_pkts",
        "network_application": "service",
        "flow_state": "conn_state",
    },
    "dns": {
        "dns_question_name": "query",
        "dns_question_type": "qtype_name",
        "dns_response_code": "rcode_name",
        "dns_answers": "answers",
    },
    "http": {
        "http_request_method": "method",
        "url_domain": "host",
        "url_original": "uri",
        "http_request_referrer": "referrer",
        "user_agent_original": "user_agent",
        "http_response_status_code": "status_code",
        "http_response_bytes": "response_body_len",
        "user_name": "username",
    },
    "ssl": {"tls_cipher": "cipher", "tls_server_name": "server_name", "tls_server_subject": "subject"},
    "x509": {"tls_server_subject": "certificate.subject", "tls_server_issuer": "certificate.issuer"},
    "files": {"file_hash_md5": "md5", "file_hash_sha1": "sha1", "file_hash_sha256": "sha256", "file_mime_type": "mime_type"},
    "notice": {"rule_name": "note", "message": "msg", "event_reason": "sub"},
    "ssh": {"ssh_client": "client", "ssh_server": "server"},
    "weird": {"rule_name": "name"},
    "ftp": {"user_name": "user", "event_action": "command", "event_code": "reply_code"},
    "dhcp": {"source_host": "host_name"},
    "ntlm": {"user_name": "username", "user_domain": "domainname", "source_host": "hostname"},
    "dce_rpc": {"event_action": "operation"},
    "radius": {"user_name": "username"},
    "smb_files": {"event_action": "action", "file_name": "name"},
    "software": {"message": "unparsed_version"},
    "syslog": {"message": "message"},
    "signatures": {"rule_id": "sig_id", "rule_name": "note", "message": "event_msg"},
}
_DATASETS: Final = {"conn": "network-flow", "notice": "ids-alert"}

REASONS: Final[dict[str, str]] = {}
"""By the beginning of a case's name, why a difference is right."""


def cases(corpus: Path) -> Iterator[Case]:
    """A case for each record; none where the corpus has no `zeek` folder."""
    folder = corpus / "zeek"
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or "expected" in name or "parsed" in name or not {".log", ".gz", ".corrupt"} & set(path.suffixes):
            continue
        for number, difference in _judge_file(path):
            yield _case(f"{name}:{number}", difference)
    for raw in sorted(folder.rglob("*__raw__*")):
        [parsed] = raw.parent.glob(raw.name.split("__raw__")[0] + "__parsed__*") or [None]
        if parsed is not None:
            yield from _metron(raw, parsed)


def _case(name: str, difference: str | None) -> Case:
    reason = next((why for begin, why in REASONS.items() if name.startswith(begin)), None) if difference else None
    return Case(name, difference, reason)


def _lines(path: Path) -> list[str]:
    """The lines of a file; of a damaged .gz, those up to the damage."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        inflate = zlib.decompressobj(31)
        try:
            data = inflate.decompress(data)
        except zlib.error:
            data = b""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return [line for line in text.replace("\r\n", "\n").split("\n") if line]


def _judge_file(path: Path) -> Iterator[tuple[int, str | None]]:
    context = Context(RECEIVED_US, lambda local: local, log_path=path.name.replace("json__", ""))
    header: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), 1):
        found = read_text(line, context)
        if line.startswith("#"):
            name, *values = line.split("\t")
            header[name] = values
            yield number, None if found is NOTHING else "a line of the header is taken for something else"
        elif line.startswith("{"):
            yield number, _judge_document(line, found)
        else:
            yield number, _judge_line(line, header, found)


def _judge_line(line: str, header: dict[str, list[str]], found: Decoded | None) -> str | None:
    columns, types = header.get("#fields", []), header.get("#types", [])
    values = line.split("\t")
    if not columns:
        # Nothing says what it should be.
        return None
    if found is None:
        return "not recognised"
    _, event = found
    if len(values) != len(columns):
        kept = event.get("event_original") == line and "zeek_malformed" in event.get("tags", ())
        return None if kept else "a line that its header does not fit is not kept whole and marked"
    raw = {name: value for name, value in zip(columns, values, strict=True) if value != "-"}
    kinds = dict(zip(columns, types, strict=True))
    empty = header.get("#empty_field", ["(empty)"])[0]
    plain = {name: _typed(value, kinds[name], empty) for name, value in raw.items()}
    odd = [name for name, value in plain.items() if value is None]
    if odd:
        kept = event.get("event_original") == line and "zeek_malformed" in event.get("tags", ())
        return None if kept else f"values that are not of their type are not marked: {odd}"
    return _judge(header.get("#path", ["?"])[0], plain, found)


def _typed(text: str, kind: str, empty: str) -> Any:
    """The value as Zeek's JSON has it; None where the text is not of that type."""
    if kind.startswith(("set[", "table[", "vector[")):
        inner = kind[kind.index("[") + 1 : -1]
        return [] if text == empty else [None if part == "-" else _typed(part, inner, empty) for part in text.split(",")]
    try:
        if kind in {"time", "interval", "double"}:
            number = float(Decimal(text))
            # JSON has no infinity.
            return number if abs(number) < float("inf") else text if kind == "double" else None
        if kind in {"count", "int", "port"}:
            return int(Decimal(text)) if text.lstrip("-").isdecimal() else None
        if kind == "addr":
            ip_address(text)
    except (InvalidOperation, ValueError):
        return None
    if kind == "bool":
        return {"T": True, "F": False}.get(text)
    return "" if text == empty else _plain(text)


def _plain(text: str) -> str:
    """Without escapes, byte by byte."""
    data = bytearray()
    while text:
        if text.startswith("\\\\"):
            data += b"\\"
            text = text[2:]
        elif text.startswith("\\x") and all(letter in "0123456789abcdefABCDEF" for letter in text[2:4]):
            data.append(int(text[2:4], 16))
            text = text[4:]
        else:
            data += text[0].encode()
            text = text[1:]
    return data.decode("utf-8", "backslashreplace")


def _judge_document(line: str, found: Decoded | None) -> str | None:
    document = json.loads(line)
    if len(document) == 1:
        [(log, document)] = document.items()
    elif found is not None:
        log = str(document.get("_path", found[1]["event_dataset"].partition(".")[2]))
    return "not recognised" if found is None else _judge(log, document, found)


def _judge(log: str, columns: dict[str, Any], found: Decoded) -> str | None:
    dataset, event = found
    log = log if log != "connection" else "conn"
    if dataset != _DATASETS.get(log, "network-log"):
        return f"dataset {dataset}"
    if event["event_dataset"] != f"zeek.{log}":
        return f"event_dataset {event['event_dataset']}, the log is {log}"
    wanted = {field: columns[column] for field, column in (_COMMON | _EXPECTED.get(log, {})).items() if column in columns}
    wanted = {field: value for field, value in wanted.items() if value not in ("", None, [])}
    if columns.get("client_cert") is True and columns.get("host_cert") is not True:
        # The fields are of servers' certificates.
        wanted = {field: value for field, value in wanted.items() if not field.startswith("tls_server")}
    icmp = wanted.get("network_transport") == "icmp"
    if wanted.get("network_transport") == "unknown_transport":
        del wanted["network_transport"]
    ports = ("flow_icmp_type", "flow_icmp_code") if icmp else ("source_port", "destination_port")
    if not icmp or dataset != "network-log":
        wanted |= {
            field: columns[column] for field, column in zip(ports, ("id.orig_p", "id.resp_p"), strict=True) if column in columns
        }
    if isinstance(columns.get("ts"), float | int):
        wanted["timestamp"] = int((Decimal(repr(columns["ts"])) * 1_000_000).to_integral_value())
    for field, value in wanted.items():
        if not _same(field, value, event.get(field)):
            return f"{field} is {event.get(field)!r:.100}, the log says {value!r:.100}"
    return _lost(columns, event, dataset)


def _same(field: str, value: Any, ours: Any) -> bool:
    if field in {"source_ip", "destination_ip"}:
        return ours is not None and ip_address(value) == ip_address(ours)
    if field == "network_transport":
        return str(ours) in {value, f"ipv6-{value}"}
    return bool(str(value) == ours if isinstance(ours, str) else value == ours)


def _lost(columns: dict[str, Any], event: dict[str, Any], dataset: str) -> str | None:
    """Whether a column is nowhere in the event: what a flow has no field for is in flow_additional."""
    if dataset != "network-flow":
        whole = json.loads(event["document"])
        missing = {name for name, value in columns.items() if whole.get(name) != value}
        return f"not as they were in the document: {sorted(missing)}" if missing else None
    additional = json.loads(event["flow_additional"] or "{}")
    taken = set(_COMMON.values()) | set(_EXPECTED["conn"].values()) | {"ts", "id.orig_p", "id.resp_p", "vlan"}
    taken |= {"orig_l2_addr", "resp_l2_addr", "_system_name"}
    if event.get("event_duration") is not None:
        taken.add("duration")
    missing = {name for name, value in columns.items() if name not in taken and additional.get(name) != value}
    return f"lost: {sorted(missing)}" if missing else None


# Metron ---------------------------------------------------------------------------------------------------------------------------

_METRON: Final = {
    "ip_src_addr": "source_ip",
    "ip_dst_addr": "destination_ip",
    "ip_src_port": "source_port",
    "ip_dst_port": "destination_port",
    "uid": "flow_id",
}
_METRONS_OWN: Final = frozenset({"guid", "original_string", "source.type", "bro_timestamp", "timestamp", "protocol"})


def _metron(raw: Path, parsed: Path) -> Iterator[Case]:
    """Metron's BroParser: the record's columns under their names, the connection's under its own."""
    for number, (line, expected) in enumerate(zip(_lines(raw), _lines(parsed), strict=True), 1):
        document = json.loads(line)
        found = read_document(document, Context(RECEIVED_US, lambda local: local))
        yield _case(f"{raw.parent.name}/{raw.name}:{number}", _judge_metron(document, json.loads(expected), found))


def _judge_metron(document: dict[str, Any], expected: dict[str, Any], found: Decoded | None) -> str | None:
    if found is None:
        return "not recognised"
    [(log, columns)] = document.items()
    dataset, event = found
    if event["event_dataset"] != f"zeek.{expected['protocol']}":
        return f"event_dataset {event['event_dataset']}, Metron says {expected['protocol']}"
    if event["timestamp"] is None or event["timestamp"] // 1000 != expected["timestamp"]:
        return f"timestamp {event['timestamp']}, Metron says {expected['timestamp']} ms"
    for theirs, ours in _METRON.items():
        if theirs in expected and event.get(ours) != expected[theirs]:
            return f"{ours} is {event.get(ours)!r}, Metron says {expected[theirs]!r}"
    for name, value in expected.items():
        if name not in _METRONS_OWN and name not in _METRON and columns.get(name) != value:
            return f"Metron says {name} is {value!r}, the record {columns.get(name)!r}"
    return _judge(log, columns, found) if dataset == "network-flow" else _lost(columns, event, dataset)
