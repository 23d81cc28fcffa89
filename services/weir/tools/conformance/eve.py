"""Suricata's EVE records: the checks of suricata-verify, and any recorded EVE output, against the events made of them.

A check of suricata-verify (`test.yaml`) names values that a record must have, by path. Without the capture there is no record; so
one is built of the check's own paths and values, and so much of the record is judged: each value must be in the field that the
table here names for its path, and in the record that the event keeps. Recorded records (`*.json`, `*.ndjson`, one a line) are
judged by all their values. What is checked of the number of records, or by a shell command, says nothing about a decoder.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from weir.model.batch import RawBatch
from weir.model.schemas import latest
from weir.processors import beats
from weir.processors.outcome import RawCoordinates
from weir.tools.conformance import Case

__all__ = ["cases", "judge", "record_of"]

_FOLDER: Final = "suricata"
_TIME: Final = "2024-03-01T12:00:00.000000+0000"
_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MOST_LINES: Final = 20_000


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    return str(value)


def _address(value: Any) -> str:
    return str(ip_address(value))


def _application(value: Any) -> str | None:
    return None if value in ("failed", "unknown") else str(value)


_FIELDS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "src_ip": ("source_ip", _address),
    "dest_ip": ("destination_ip", _address),
    "src_port": ("source_port", _same),
    "dest_port": ("destination_port", _same),
    "proto": ("network_transport", lambda value: value.lower()),
    "app_proto": ("network_application", _application),
    "community_id": ("network_community_id", _same),
    "event_type": ("event_dataset", lambda value: f"suricata.{value}"),
    "flow_id": ("flow_id", _text),
    "vlan[0]": ("vlan_id", _same),
    "alert.signature": ("rule_name", _same),
    "alert.signature_id": ("rule_id", _text),
    "alert.category": ("rule_category", _same),
    "alert.rev": ("rule_version", _text),
    "alert.gid": ("rule_ruleset", _text),
    "alert.severity": ("event_severity", _same),
    "alert.action": ("event_action", _same),
    "flow.state": ("flow_state", _same),
    "flow.reason": ("flow_end_reason", _same),
    "icmp_type": ("flow_icmp_type", _same),
    "icmp_code": ("flow_icmp_code", _same),
    "dns.rrname": ("dns_question_name", _same),
    "dns.rrtype": ("dns_question_type", _same),
    "dns.queries[0].rrname": ("dns_question_name", _same),
    "dns.queries[0].rrtype": ("dns_question_type", _same),
    "dns.rcode": ("dns_response_code", _same),
    "http.hostname": ("url_domain", _same),
    "http.url": ("url_original", _same),
    "http.http_method": ("http_request_method", _same),
    "http.http_user_agent": ("user_agent_original", _same),
    "http.http_refer": ("http_request_referrer", _same),
    "http.status": ("http_response_status_code", _same),
    "http.length": ("http_response_bytes", _same),
    "tls.sni": ("tls_server_name", _same),
    "tls.subject": ("tls_server_subject", _same),
    "tls.issuerdn": ("tls_server_issuer", _same),
    "tls.ja3.hash": ("tls_client_ja3", _same),
    "tls.ja3s.hash": ("tls_server_ja3s", _same),
    "tls.ja4": ("tls_client_ja4", _same),
    "quic.sni": ("tls_server_name", _same),
    "quic.ja3.hash": ("tls_client_ja3", _same),
    "quic.ja4": ("tls_client_ja4", _same),
    "ssh.client.software_version": ("ssh_client", _same),
    "ssh.server.software_version": ("ssh_server", _same),
    "fileinfo.size": ("file_size", _same),
    "fileinfo.filename": ("file_path", _same),
    "fileinfo.md5": ("file_hash_md5", _same),
    "fileinfo.sha1": ("file_hash_sha1", _same),
    "fileinfo.sha256": ("file_hash_sha256", _same),
    "krb5.cname": ("user_name", lambda value: None if value == "<empty>" else value),
    "krb5.realm": ("user_domain", lambda value: None if value == "<empty>" else value),
    "smb.ntlmssp.user": ("user_name", _same),
    "smb.ntlmssp.domain": ("user_domain", _same),
    "rdp.cookie": ("user_name", _same),
}
"""Where the value at a path belongs; "" and what a dataset has no column for are in the record alone."""

_COUNTS: Final = {
    "flow.bytes_toserver": ("source_bytes", "destination_bytes"),
    "flow.bytes_toclient": ("destination_bytes", "source_bytes"),
    "flow.pkts_toserver": ("source_packets", "destination_packets"),
    "flow.pkts_toclient": ("destination_packets", "source_packets"),
}
"""The field of a count, and that of one in a record about a packet that the server sent."""

_REASONS: Final[dict[str, str]] = {}
"""By the name of a case: why its difference is right."""


def cases(corpus: Path) -> Iterator[Case]:
    """Every check that names values of a record, and every recorded record."""
    folder = corpus / _FOLDER
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*.yaml")):
        for name, match in _checks(path):
            yield _case(f"{path.relative_to(folder)}#{name}", record_of(match))
    for path in sorted(folder.rglob("*")):
        if path.name.removesuffix(".gz").endswith((".json", ".ndjson", ".log")) and path.is_file():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            for number, line in enumerate(data.splitlines()[:_MOST_LINES], 1):
                record = _recorded(line)
                if record is not None:
                    yield _case(f"{path.relative_to(folder)}:{number}", record)


def _checks(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        read = yaml.safe_load(path.read_text("utf-8", "replace"))
    except yaml.YAMLError:
        return
    checks = read.get("checks") if isinstance(read, dict) else None
    for number, check in enumerate(checks if isinstance(checks, list) else (), 1):
        found = check.get("filter") if isinstance(check, dict) else None
        match = found.get("match") if isinstance(found, dict) else None
        if isinstance(match, dict) and isinstance(match.get("event_type"), str):
            yield str(number), match


def _recorded(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "event_type" in record and "timestamp" in record else None


def record_of(match: dict[str, Any]) -> dict[str, Any]:
    """A record that has the values a check asks for; operators (`.__len`, `has-key`) ask for no value and are left out."""
    record: dict[str, Any] = {"timestamp": _TIME, "flow_id": 1}
    for path, value in match.items():
        steps = [name or int(number) for name, number in _STEP.findall(str(path))]
        if "__" in str(path) or "has-key" in str(path) or not steps or not isinstance(value, str | int | float):
            continue
        _put(record, steps, value)
    return record


def _put(at: Any, steps: list[str | int], value: Any) -> None:
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            if not isinstance(at, list) or step > 64:
                return
            at.extend(None for _ in range(step + 1 - len(at)))
        elif not isinstance(at, dict):
            return
        if following is None:
            at[step] = value
            return
        held = at.get(step) if isinstance(at, dict) else at[step]
        if held is None:
            held = at[step] = [] if isinstance(following, int) else {}
        at = held


def _case(name: str, record: dict[str, Any]) -> Case:
    difference = judge(record)
    return Case(name, difference, _REASONS.get(name) if difference else None)


def judge(record: dict[str, Any]) -> str | None:
    """What of a record is not in the event made of it; None where all is."""
    batch = RawBatch(bytes(16), "", "", "lumberjack", "192.0.2.1", 5044, 1_790_000_000_000_000, [orjson.dumps(record)])
    outcome = beats.process(batch, RawCoordinates("", 0, 0))
    if outcome.dead or len(outcome.events) != 1:
        return f"no event: {outcome.dead}"
    ((dataset, (event,)),) = outcome.events.items()
    wanted = {"alert": "ids-alert", "flow": "network-flow", "netflow": "network-flow"}.get(record["event_type"], "network-log")
    if dataset != wanted:
        return f"in events.{dataset} instead of events.{wanted}"
    kept = orjson.loads(event.get("document") or event.get("flow_additional") or "{}")
    turned = record.get("direction") == "to_client"
    for path, value in _leaves(record, ""):
        if value == "" or value is None:
            continue
        field, convert = _FIELDS.get(path, ("", _same))
        if path == "proto" and value.isdigit():
            # A protocol that Suricata has no name for.
            field, convert = "network_iana_number", int
        if path in _COUNTS:
            field = _COUNTS[path][turned]
        if field in _columns(dataset) and not (path == "alert.action" and dataset != "ids-alert"):
            if event.get(field) != convert(value):
                return f"{field} is {event.get(field)!r}, {path} is {value!r}"
        elif dataset != "network-flow" and _at(kept, path) != value:
            return f"{path} is {value!r}, the event's record has {_at(kept, path)!r}"
        elif dataset == "network-flow" and not _in_flow(path, value, kept):
            return f"{path} is {value!r}, the flow has it nowhere"
    answers = [answer.get("rdata") for answer in _list(record, "dns", "answers") if isinstance(answer, dict)]
    expected = [answer for answer in answers if isinstance(answer, str) and answer]
    if dataset == "network-log" and expected and event.get("dns_answers") != expected[:64]:
        return f"dns_answers is {event.get('dns_answers')!r} instead of {expected!r}"
    return None


@cache
def _columns(dataset: str) -> frozenset[str]:
    return frozenset(entry["name"] for entry in latest(dataset).parsed["fields"])


_IN_FLOW: Final = re.compile(
    r"timestamp|in_iface|host|suricata_version|vlan\[\d+\]|(?:flow|netflow)\.(?:start|end|bytes|pkts)"
    r"|tcp\.(?:tcp_flags|syn|fin|rst|psh|ack|urg|ecn|cwr)|ether\.\w+"
)
"""Paths whose values a flow has in columns that the table does not judge."""


def _in_flow(path: str, value: Any, kept: Any) -> bool:
    return _IN_FLOW.fullmatch(path) is not None or _at(kept, path) == value


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def _at(value: Any, path: str) -> Any:
    for leaf, found in _leaves(value, ""):
        if leaf == path:
            return found
    return None


def _list(record: dict[str, Any], part: str, name: str) -> list[Any]:
    found = record.get(part)
    inner = found.get(name) if isinstance(found, dict) else None
    return inner if isinstance(inner, list) else []
