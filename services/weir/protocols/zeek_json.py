"""Zeek's records as JSON documents: whether a document is one, of which log, and its columns under Zeek's own names.

Comes from Zeek's ASCII writer with `LogAscii::use_json`, from the package json-streaming-logs and from Corelight sensors (`_path`,
`_write_ts`, `_system_name`), from the Kafka plugin (`{"conn": {...}}`), and through shippers that nest `id.orig_h` as
`{"id": {"orig_h": ...}}` or write `id_orig_h`. Times are seconds as a number, milliseconds (`JSON::TS_MILLIS`) or ISO 8601 text.
"""

from __future__ import annotations

import re
from collections.abc import KeysView
from functools import lru_cache
from typing import Final, NamedTuple

from weir.protocols import zeek
from weir.protocols._isotime import iso_to_micros

__all__ = ["Hint", "Record", "hint", "recognise", "time_us"]

_LAST_US: Final = 253_402_300_800_000_000  # 10000-01-01
_MILLIS: Final = 100_000_000_000
"""A time from here on counts milliseconds: as seconds it would be the year 5138."""

_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,12})?")


class Hint(NamedTuple):
    """What the way a line came says: of which log it is, if any, and whether it surely is Zeek's."""

    log: str | None = None
    sure: bool = False


class Record(NamedTuple):
    """`log` is the log's name, None where nothing tells; `values` its columns, flat, by Zeek's names; `document` is as sent."""

    log: str | None
    values: dict[str, object]
    document: dict[str, object]


@lru_cache(maxsize=4_096)
def hint(log_path: str | None, event_dataset: str | None, module: str | None, program: str | None) -> Hint:
    """What is known of a line besides itself: file name, a shipper's event.dataset and event.module, syslog's program."""
    sure = module == "zeek"
    log: str | None = None
    for text in (event_dataset, program):
        if text and re.match(r"(?:zeek|bro|corelight)(?![a-z0-9])", text.lower()):
            sure = True
            log = log or zeek.log_named(text)
    if log is None and log_path:
        log = zeek.log_named(log_path)
        sure = sure or (log is not None and re.search(r"[/\\](?:zeek|bro|corelight)(?![a-z0-9])", log_path.lower()) is not None)
    return Hint(log, sure)


# Columns that only one log has, the frequent logs first: where a record has all of a row, it is of that log. `True` marks rows that
# say enough even for a record without uid and id.
_TELLING: Final[tuple[tuple[str, bool, str], ...]] = (
    ("conn", False, "conn_state"),
    ("dns", False, "trans_id rejected"),
    ("dns", False, "query qtype"),
    ("dns", False, "query qclass"),
    ("dns", False, "trans_id rcode"),
    ("sip", False, "call_id"),
    ("sip", False, "request_path"),
    ("smtp", False, "helo"),
    ("smtp", False, "mailfrom"),
    ("smtp", False, "is_webmail"),
    ("smtp", False, "last_reply"),
    ("http", False, "trans_depth"),
    ("quic", False, "client_initial_dcid"),
    ("ssl", False, "established"),
    ("ssl", False, "version cipher"),
    ("files", True, "fuid source"),
    ("files", True, "fuid seen_bytes"),
    ("x509", True, "certificate.serial"),
    ("x509", True, "certificate.subject"),
    ("weird", True, "name notice peer"),
    ("weird", False, "name notice"),
    ("notice", True, "note actions"),
    ("notice", True, "note suppress_for"),
    ("signatures", True, "note sig_id"),
    ("intel", True, "seen.indicator"),
    ("ssh", False, "auth_attempts"),
    ("ssh", False, "auth_success"),
    ("ssh", False, "kex_alg"),
    ("ssh", False, "client server"),
    ("kerberos", False, "request_type"),
    ("ntlm", False, "domainname"),
    ("ntlm", False, "server_nb_computer_name"),
    ("ntlm", False, "server_dns_computer_name"),
    ("ntlm", False, "hostname username"),
    ("dce_rpc", False, "endpoint operation"),
    ("dce_rpc", False, "named_pipe"),
    ("smb_mapping", False, "share_type"),
    ("smb_cmd", False, "command sub_command"),
    ("smb_cmd", False, "command tree"),
    ("smb_files", False, "action path"),
    ("smb_files", False, "action name"),
    ("rdp", False, "security_protocol"),
    ("rdp", False, "keyboard_layout"),
    ("rdp", False, "cookie"),
    ("rfb", False, "client_major_version"),
    ("rfb", False, "authentication_method"),
    ("ftp", False, "data_channel.passive"),
    ("ftp", False, "command reply_code"),
    ("irc", False, "nick command"),
    ("irc", False, "nick"),
    ("ftp", False, "user command"),
    ("dhcp", True, "msg_types uids"),
    ("dhcp", True, "msg_types mac"),
    ("dhcp", False, "assigned_ip"),
    ("dhcp", False, "lease_time"),
    ("radius", False, "username result"),
    ("radius", False, "framed_addr"),
    ("snmp", False, "community"),
    ("snmp", False, "get_requests"),
    ("socks", False, "request_p"),
    ("socks", False, "bound_p"),
    ("syslog", False, "facility severity message"),
    ("modbus", False, "func"),
    ("modbus_register_change", False, "register old_val"),
    ("dnp3", False, "fc_request"),
    ("dnp3", False, "fc_reply"),
    ("mysql", False, "cmd arg"),
    ("ntp", False, "stratum"),
    ("mqtt_connect", False, "proto_name"),
    ("mqtt_connect", False, "connect_status"),
    ("mqtt_publish", False, "from_client"),
    ("mqtt_subscribe", False, "topics"),
    ("tunnel", False, "tunnel_type"),
    ("analyzer", True, "analyzer_kind analyzer_name"),
    ("dpd", False, "analyzer failure_reason"),
    ("ldap_search", False, "base_objects"),
    ("ldap_search", False, "base_object"),
    ("ldap_search", False, "scope"),
    ("ldap", False, "message_id"),
    ("websocket", False, "client_protocols"),
    ("websocket", False, "subprotocol"),
    ("postgresql", False, "frontend"),
    ("postgresql", False, "backend"),
    ("redis", False, "cmd.name"),
    ("software", True, "software_type"),
    ("known_certs", True, "issuer_subject serial host"),
    ("known_services", True, "port_num port_proto"),
    ("known_devices", True, "dhcp_host_name mac"),
    ("known_modbus", True, "device_type host"),
    ("capture_loss", True, "ts_delta percent_lost"),
    ("stats", True, "pkts_proc events_proc"),
    ("reporter", True, "level message location"),
    ("packet_filter", True, "node filter init"),
    ("pe", True, "machine is_exe"),
    ("ocsp", True, "certStatus serialNumber"),
    ("telemetry", True, "metric_type label_values"),
)
_ROWS: Final = tuple((log, alone, frozenset(columns.split())) for log, alone, columns in _TELLING)

# What a connection's columns are called where a shipper, or Log::default_field_name_map, renamed them.
_ID: Final = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")
_RENAMED: Final = (
    ("id_orig_h", "id_orig_p", "id_resp_h", "id_resp_p"),
    ("src_ip", "src_port", "dst_ip", "dst_port"),
    ("src", "src_port", "dst", "dst_port"),
    ("orig_h", "orig_p", "resp_h", "resp_p"),
)


def recognise(document: dict[str, object], known: Hint) -> Record | None:
    """The record that a document is; None for any document that is not surely Zeek's. Nothing is raised."""
    path = document.get("_path")
    if "ts" not in document and not (isinstance(path, str) and "_write_ts" in document):
        return _wrapped(document, known)
    if not _is_time(document.get("ts", document.get("_write_ts"))):
        return None
    values = _flat(document)
    if isinstance(path, str) and path:
        return Record(path, _dotted(values, path), document)
    keys = values.keys()
    connection = isinstance(values.get("uid"), str) and "id.orig_h" in values
    if known.log is not None and (known.sure or connection or _mostly(keys, known.log)):
        return Record(known.log, _dotted(values, known.log), document)
    for log, alone, columns in _ROWS:
        if columns <= keys and (connection or alone):
            return Record(log, _dotted(values, log), document)
    return Record(None, values, document) if connection or known.sure else None


def _wrapped(document: dict[str, object], known: Hint) -> Record | None:
    if len(document) == 1:
        [(log, inner)] = document.items()
        # Of the Kafka plugin, which tags a record with the name of its log.
        if isinstance(inner, dict) and log in zeek.layouts() and _is_time(inner.get("ts")):
            return Record(log, _flat(inner), inner)
    # Some logs of Zeek about itself have no time at all.
    if known.sure and known.log is not None and _mostly(document.keys(), known.log):
        return Record(known.log, document, document)
    return None


def _mostly(keys: KeysView[str], log: str) -> bool:
    """Whether at least three in four of the keys are columns that the log has, or has had."""
    return 4 * len(keys & _all_columns(log)) >= 3 * len(keys) > 0


@lru_cache(maxsize=256)
def _all_columns(log: str) -> frozenset[str]:
    return frozenset(name for layout in zeek.layouts().get(log, ()) for name in layout.fields)


@lru_cache(maxsize=256)
def _dots(log: str) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace(".", "_"), name) for name in sorted(_all_columns(log)) if "." in name)


def _dotted(values: dict[str, object], log: str) -> dict[str, object]:
    """Columns such as `certificate.serial` under that name where a shipper wrote `certificate_serial`."""
    renamed = {dotted: values[plain] for plain, dotted in _dots(log) if plain in values and dotted not in values}
    return {**values, **renamed} if renamed else values


def _flat(document: dict[str, object]) -> dict[str, object]:
    """Nested records as `outer.inner`, and the four columns of a connection under their own names."""
    if "id.orig_h" in document:
        return document
    flat: dict[str, object] = {}
    _flatten(document, "", flat, 3)
    if "id.orig_h" not in flat:
        for names in _RENAMED:
            if names[0] in flat and names[1] in flat and names[2] in flat:
                flat |= {ours: flat[theirs] for ours, theirs in zip(_ID, names, strict=True) if theirs in flat}
                break
    return flat


def _flatten(document: dict[str, object], prefix: str, flat: dict[str, object], depth: int) -> None:
    for key, value in document.items():
        if isinstance(value, dict) and depth:
            _flatten(value, f"{prefix}{key}.", flat, depth - 1)
        else:
            flat[prefix + key] = value


def _is_time(value: object) -> bool:
    return time_us(value) is not None


def time_us(value: object) -> int | None:
    """Microseconds since 1970 UTC of seconds, milliseconds or ISO 8601 text; None for anything else."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        # False for what is no number, too.
        if not 0 <= value < _LAST_US // 1_000:
            return None
        return round(value * 1_000_000) if value < _MILLIS else round(value * 1_000)
    if not isinstance(value, str):
        return None
    if _NUMBER.fullmatch(value) is not None:
        return time_us(float(value))
    return iso_to_micros(value)
