"""Zeek's records as events: conn is a flow, notice an alert, everything else a record of a network sensor.

A line of a log in Zeek's text format is read by the header that came before it in the batch, from the same file; where that came
in an earlier batch, by the columns that the log is known to have had (tag `zeek_columns_assumed`). A line whose values do not fit
is kept whole in `event_original` (tag `zeek_malformed`), with the fields that could be read.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from weir.processors.fields import NOTHING, Context, Decoded
from weir.processors.fields.zeek_table import LOGS, OTHER
from weir.processors.fields.zeek_values import address, code, integer, mac, port, text
from weir.protocols import beats, zeek, zeek_json

__all__ = ["document", "line", "name"]

name = "zeek"

ASSUMED: Final = "zeek_columns_assumed"
MALFORMED: Final = "zeek_malformed"

_TRANSPORTS: Final = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58}

# Columns of conn that have fields of events.network-flow; where a value gives none, it goes to flow_additional with the others.
_CONN: Final = {
    "ts": "timestamp",
    "uid": "flow_id",
    "id.orig_h": "source_ip",
    "id.orig_p": "source_port",
    "id.resp_h": "destination_ip",
    "id.resp_p": "destination_port",
    "proto": "network_transport",
    "service": "network_application",
    "duration": "event_duration",
    "orig_pkts": "source_packets",
    "resp_pkts": "destination_packets",
    "orig_ip_bytes": "source_bytes",
    "resp_ip_bytes": "destination_bytes",
    "conn_state": "flow_state",
    "vlan": "vlan_id",
    "inner_vlan": "inner_vlan_id",
    "community_id": "network_community_id",
    "orig_l2_addr": "source_mac",
    "resp_l2_addr": "destination_mac",
}
_ICMP: Final = {"id.orig_p": "flow_icmp_type", "id.resp_p": "flow_icmp_code"}


def line(text: str, context: Context) -> Decoded | None:
    """A line of a log in the text format; NOTHING for one of its header or footer."""
    headers: dict[str, zeek.Header] | None = context.memory.get(name)
    if headers is None:
        if "\t" not in text and "#011" not in text and not text.startswith("#"):
            return None
        headers = {}
    key = context.log_path or context.program or ""
    header = headers.get(key, zeek.BLANK)
    if "\t" not in text and "#011" in text:
        # rsyslog writes control characters so.
        text = text.replace("#011", "\t")
    if text.startswith("#") and zeek.is_directive(text, header):
        context.memory.setdefault(name, headers)[key] = zeek.directive(text, header)
        return NOTHING
    if header.fields:
        return _row(text.rstrip("\r\n"), header if header.complete else zeek.completed(header), context)
    if "\t" not in text:
        return None
    known = _hint(context)
    assumed = zeek.fitting(text.rstrip("\r\n"), known.log) if known.log is not None else None
    if assumed is None:
        return None
    dataset, fields = _row(text.rstrip("\r\n"), assumed, context) or NOTHING
    fields["tags"] = [ASSUMED]
    return dataset, fields


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """A JSON record; None for any other document. Raises ValueError for one nested deeper than can be written."""
    record = zeek_json.recognise(document, _hint(context))
    if record is None:
        return None
    dataset, fields = _event(record.log, record.values)
    if dataset != "network-flow":
        fields["document"] = beats.to_json(record.document)
    return dataset, fields


def _hint(context: Context) -> zeek_json.Hint:
    return zeek_json.hint(context.log_path, context.event_dataset, context.module, context.program)


def _row(text: str, header: zeek.Header, context: Context) -> Decoded | None:
    log = header.path or _hint(context).log
    try:
        values, misfits = zeek.row(text, header)
    except zeek.ZeekError as error:
        if "\t" not in text and not context.log_path:
            # Nothing but the order of arrival says that this should be Zeek's.
            return None
        return "network-log", _base(log) | {
            "timestamp": None,
            "event_category": [],
            "event_type": ["error"],
            "event_original": text,
            "event_reason": str(error),
            "tags": [MALFORMED],
        }
    dataset, fields = _event(log, values)
    if dataset != "network-flow":
        fields["document"] = orjson.dumps(values).decode()
    if misfits:
        fields |= {"event_original": text, "event_reason": f"not of its type: {', '.join(misfits)}", "tags": [MALFORMED]}
    return dataset, fields


def _base(log: str | None) -> dict[str, Any]:
    return {
        "event_module": "zeek",
        "event_dataset": f"zeek.{log}" if log else "zeek",
        "observer_vendor": "Zeek",
        "observer_product": "Zeek",
    }


def _event(log: str | None, values: dict[str, object]) -> tuple[str, dict[str, Any]]:
    """Dataset and fields, without `document`."""
    if log == "conn" or (log is not None and log.startswith("conn_") and "conn_state" in values):
        return "network-flow", _flow(log, values)
    get = values.get
    fields = _base(log)
    fields["timestamp"] = zeek_json.time_us(get("ts", get("_write_ts")))
    fields["host_name"] = text(get("_system_name"))
    if log == "notice":
        _connection(fields, values)
        _notice(fields, values)
        return "ids-alert", fields
    known = LOGS.get(log or "", OTHER)
    fields["event_kind"] = known.kind
    fields["event_category"] = list(known.category)
    fields["event_type"] = list(known.type)
    _connection(fields, values)
    fields["network_application"] = known.application
    if fields.get("network_transport") is None and known.transport is not None:
        fields["network_transport"] = known.transport
        fields["network_iana_number"] = _TRANSPORTS[known.transport]
    for column, field, convert in known.columns:
        if fields.get(field) is None and (value := get(column)) is not None and (converted := convert(value)) is not None:
            fields[field] = converted
    if fields.get("network_type") is None:
        fields["network_type"] = _network_type(fields.get("source_ip") or fields.get("destination_ip"))
    special = _SPECIAL.get(log or "")
    if special is not None:
        special(values, fields)
    return "network-log", fields


def _network_type(ip: str | None) -> str | None:
    return None if ip is None else "ipv6" if ":" in ip else "ipv4"


def _connection(fields: dict[str, Any], values: dict[str, object]) -> None:
    """Add what the columns say that most logs share. With ICMP, a connection's ports are its type and code."""
    get = values.get
    source, destination = address(get("id.orig_h")), address(get("id.resp_h"))
    source_port, destination_port = port(get("id.orig_p")), port(get("id.resp_p"))
    fields["flow_id"] = text(get("uid"))
    fields["source_ip"] = source
    fields["destination_ip"] = destination
    fields["network_type"] = network_type = _network_type(source or destination)
    proto = get("proto")
    if isinstance(proto, str) and proto and proto != "unknown_transport":
        transport = proto.lower()
        if transport == "icmp":
            if network_type == "ipv6":
                transport = "ipv6-icmp"
            fields["flow_icmp_type"], fields["flow_icmp_code"] = _octet(source_port), _octet(destination_port)
            source_port = destination_port = None
        fields["network_transport"] = transport
        fields["network_iana_number"] = _TRANSPORTS.get(transport)
    fields["source_port"] = source_port
    fields["destination_port"] = destination_port
    for column, field, convert in _EXTRAS:
        if column in values:
            fields[field] = convert(values[column])


def _octet(number: int | None) -> int | None:
    return number if number is not None and number < 256 else None


def _vlan(value: object) -> int | None:
    number = integer(value)
    return number if number is not None and number < 4096 else None


# What policy scripts add to any log.
_EXTRAS: Final = (
    ("community_id", "network_community_id", text),
    ("orig_l2_addr", "source_mac", mac),
    ("resp_l2_addr", "destination_mac", mac),
    ("vlan", "vlan_id", _vlan),
    ("inner_vlan", "inner_vlan_id", _vlan),
)


def _flow(log: str, values: dict[str, object]) -> dict[str, Any]:
    get = values.get
    start = zeek_json.time_us(get("ts", get("_write_ts")))
    fields = _base(log)
    _connection(fields, values)
    fields["timestamp"] = fields["event_start"] = start
    fields["host_name"] = text(get("_system_name"))
    fields["event_category"] = ["network"]
    fields["event_type"] = ["connection"]
    fields["event_action"] = "network_flow"
    fields["flow_protocol"] = "zeek"
    fields["network_application"] = text(get("service"))
    fields["flow_state"] = text(get("conn_state"))
    fields["source_packets"] = integer(get("orig_pkts"))
    fields["destination_packets"] = integer(get("resp_pkts"))
    fields["source_bytes"] = integer(get("orig_ip_bytes"))
    fields["destination_bytes"] = integer(get("resp_ip_bytes"))
    duration = get("duration")
    if start is not None and isinstance(duration, float | int) and 0 <= duration < 1e9:
        micros = round(duration * 1_000_000)
        fields["event_end"] = start + micros
        fields["event_duration"] = micros * 1_000
    if fields.get("network_iana_number") is None:
        fields["network_iana_number"] = _octet(integer(get("ip_proto")))
    # What has no field, and what a field did not take.
    additional = {
        column: value
        for column, value in values.items()
        if (field := _CONN.get(column)) is None or (fields.get(field) is None and fields.get(_ICMP.get(column, "")) is None)
    }
    for field, column in (("source_bytes", "orig_bytes"), ("destination_bytes", "resp_bytes")):
        if fields[field] is None and (payload := integer(get(column))) is not None:
            fields[field] = payload
            additional[f"{field}_from"] = column
    fields["network_bytes"] = _sum(fields["source_bytes"], fields["destination_bytes"])
    fields["network_packets"] = _sum(fields["source_packets"], fields["destination_packets"])
    fields["flow_additional"] = beats.to_json(additional) if additional else None
    return fields


def _sum(forth: int | None, back: int | None) -> int | None:
    total = (forth or 0) + (back or 0)
    return None if (forth is None and back is None) or total >= 2**63 else total


def _notice(fields: dict[str, Any], values: dict[str, object]) -> None:
    """A notice that is of no connection names its hosts itself: src, dst, p."""
    get = values.get
    note = text(get("note"))
    fields["event_kind"] = "alert"
    fields["event_category"] = ["network", "intrusion_detection"]
    fields["event_type"] = ["denied"] if get("dropped") is True else ["info"]
    fields["event_action"] = text(get("actions"))
    fields["event_severity"] = code(get("severity.level"))
    fields["event_reason"] = text(get("sub"))
    fields["rule_name"] = note
    fields["rule_category"] = note.rpartition("::")[0] or None if note else None
    fields["message"] = text(get("msg"))
    if "id.orig_h" not in values:
        fields["source_ip"] = address(get("src"))
        fields["destination_ip"] = address(get("dst"))
        fields["destination_port"] = port(get("p"))
        fields["network_type"] = _network_type(fields["source_ip"] or fields["destination_ip"])


def _kerberos(values: dict[str, object], fields: dict[str, Any]) -> None:
    """`name/REALM`; of a machine `host/name.example/REALM`."""
    client = text(values.get("client"))
    if client is not None:
        user, _, realm = client.rpartition("/")
        fields["user_name"], fields["user_domain"] = (user or None, realm or None) if "/" in client else (client, None)


def _smb_files(values: dict[str, object], fields: dict[str, Any]) -> None:
    path, file = text(values.get("path")), text(values.get("name"))
    if path is not None and file is not None:
        path = f"{path.rstrip(chr(92))}\\{file}"
    fields["file_path"] = path
    fields["event_type"] = [_FILE_TYPES.get(str(values.get("action")), "access"), "protocol"]


_FILE_TYPES: Final = {
    "SMB::FILE_DELETE": "deletion",
    "SMB::FILE_RENAME": "change",
    "SMB::FILE_WRITE": "change",
    "SMB::FILE_SET_ATTRIBUTE": "change",
}


def _x509(values: dict[str, object], fields: dict[str, Any]) -> None:
    """The fields are of servers' certificates."""
    if values.get("client_cert") is True and values.get("host_cert") is not True:
        fields["tls_server_subject"] = fields["tls_server_issuer"] = None


def _weird(values: dict[str, object], fields: dict[str, Any]) -> None:
    if fields.get("message") and fields.get("event_reason"):
        fields["message"] = f"{fields['message']}: {fields['event_reason']}"


_SPECIAL: Final = {"kerberos": _kerberos, "smb_files": _smb_files, "x509": _x509, "weird": _weird}
