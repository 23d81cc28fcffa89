"""Suricata's EVE JSON: one record to fields under Weir's names.

Source: Suricata user guide, "Eve JSON Format" (4.x to 8.x), and the schema in its source tree (etc/schema.json). Only what
events have columns for is taken out; the record itself stays whole. What each application protocol gives is in `eve_sections`.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, NamedTuple

from weir.protocols._isotime import iso_to_micros
from weir.protocols._values import address, identifier, integer, port, text
from weir.protocols.eve_sections import FIELDS as SECTIONS_FIELDS
from weir.protocols.eve_sections import SECTIONS

__all__ = ["FIELDS", "EveError", "EveEvent", "EveKind", "decode", "recognise"]

EveKind = Literal["alert", "flow", "netflow", "record"]

_KINDS: Final[dict[str, EveKind]] = {"alert": "alert", "flow": "flow", "netflow": "netflow"}

# IANA protocol numbers by the names that Suricata prints; it prints the number itself, in three digits, for the rest.
_PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "ip": 4,
    "tcp": 6,
    "egp": 8,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "l2tp": 115,
    "sctp": 132,
}
_PROTOCOL_NAMES: Final = {number: name for name, number in _PROTOCOLS.items()}
_TRANSPORTS: Final = {name.upper(): (name, _PROTOCOLS[name]) for name in ("tcp", "udp", "icmp", "ipv6-icmp", "sctp")}

# Record types that are named after the application protocol they report; older releases leave app_proto out of them.
_APPLICATION_RECORDS: Final = frozenset(
    {
        "bittorrent_dht",
        "dcerpc",
        "dhcp",
        "dnp3",
        "dns",
        "doh2",
        "enip",
        "ftp",
        "ftp_data",
        "http",
        "http2",
        "ike",
        "ikev2",
        "krb5",
        "ldap",
        "llmnr",
        "mdns",
        "modbus",
        "mqtt",
        "nfs",
        "ntp",
        "pgsql",
        "pop3",
        "quic",
        "rdp",
        "rfb",
        "sip",
        "smb",
        "smtp",
        "snmp",
        "ssh",
        "telnet",
        "tftp",
        "tls",
        "websocket",
    }
)
# What Suricata writes as app_proto when it could not tell.
_NO_APPLICATION: Final = frozenset({"failed", "unknown"})

_TECHNIQUE = re.compile(r"T\d{4}(?:[._]\d{3})?(?!\d)")
_REFERENCE = re.compile(r"\breference:\s*+([^;]++);")
_LONG: Final = 2**63
_INT: Final = 2**31


class EveError(ValueError):
    """The record is Suricata's by its other fields, but its event_type is missing or not text."""


class EveEvent(NamedTuple):
    """One EVE record. `kind` is the route: "alert", "flow" (both directions), "netflow" (one direction), or "record" for any
    other `event_type`.

    `fields` are named as those of events are: times in microseconds UTC, counts in bytes and packets; what the record does not
    say, or says in no usable way, is not there. It is the caller's to add to. `vlan_ids` has all the tags, outermost first, and
    `interface` is the sensor's, by name. Counts are of the packets that the source sent, also in an alert on a packet of the
    server. `event_severity` is Suricata's: 1 is the most severe.
    """

    kind: EveKind
    event_type: str
    fields: dict[str, Any]
    interface: str | None = None
    vlan_ids: tuple[int, ...] = ()


def recognise(document: dict[str, object]) -> bool:
    """Whether this is an EVE record, by fields that no other sender has together; `decode` may still find it unusable."""
    if not isinstance(document.get("timestamp"), str):
        return False
    event_type = document.get("event_type")
    if isinstance(event_type, str) and event_type:
        return "flow_id" in document or "src_ip" in document or isinstance(document.get(event_type), dict)
    return _claims_eve(document)


def _claims_eve(document: dict[str, object]) -> bool:
    if "flow_id" not in document:
        return False
    return "event_type" in document or isinstance(document.get("alert"), dict) or isinstance(document.get("flow"), dict)


def decode(document: dict[str, object]) -> EveEvent | None:
    """The fields of an EVE record; None when the document is not one.

    A field of the wrong form counts as absent. Raises `EveError` only when the document is Suricata's and does not say,
    in a string `event_type`, what it reports. IPv6 addresses come out in their canonical short form.
    """
    if not recognise(document):
        return None
    get = document.get
    event_type = get("event_type")
    if not isinstance(event_type, str) or not event_type:
        raise EveError(f"a Suricata record whose event_type is {event_type!r:.40} instead of a name")
    fields: dict[str, Any] = {"timestamp": iso_to_micros(get("timestamp"))}
    value = get("flow_id")
    if value is not None and (value := identifier(value)) is not None:
        fields["flow_id"] = value
    source, destination = address(get("src_ip")), address(get("dest_ip"))
    if source is not None:
        fields["source_ip"] = source
    if destination is not None:
        fields["destination_ip"] = destination
    if (known := source or destination) is not None:
        fields["network_type"] = "ipv6" if ":" in known else "ipv4"
    value = get("src_port")
    if value is not None and (value := port(value)) is not None:
        fields["source_port"] = value
    value = get("dest_port")
    if value is not None and (value := port(value)) is not None:
        fields["destination_port"] = value
    transport, iana_number = _protocol(get("proto"))
    if transport is not None:
        fields["network_transport"] = transport
    if iana_number is not None:
        fields["network_iana_number"] = iana_number
    if (application := _application(get("app_proto"), event_type)) is not None:
        fields["network_application"] = application
    _add_parts(fields, document, event_type)
    vlan = get("vlan")
    return EveEvent(
        _KINDS.get(event_type, "record"), event_type, fields, text(get("in_iface")), () if vlan is None else _vlans(vlan)
    )


def _add_parts(fields: dict[str, Any], document: dict[str, object], event_type: str) -> None:
    """One pass over the record's keys: what each part of it has to say."""
    for key, value in document.items():
        if type(value) is dict:
            if (section := SECTIONS.get(key)) is not None:
                texts, more = section
                for name, field in texts:
                    found = value.get(name)
                    if type(found) is str and found:
                        fields[field] = found
                if more is not None:
                    more(fields, value)
            elif key == "flow":
                _add_flow(fields, value)
            elif key == "netflow":
                _add_netflow(fields, value)
            elif key == "tcp" and (flags := _hexadecimal(value.get("tcp_flags"))) is not None:
                fields["flow_tcp_flags"] = flags
        elif key in _PLAIN and value is not None:
            _add_plain(fields, key, value)
    if event_type == "drop":
        fields["event_action"] = "drop"
    # Last, because the alert's own words are better than those of the protocol it was raised on.
    alert = document.get("alert")
    if isinstance(alert, dict):
        _add_alert(fields, alert, event_type)
    if document.get("direction") == "to_client" and "flow" in document:
        _turn(fields)


_PLAIN: Final = frozenset({"community_id", "host", "icmp_type", "icmp_code", "suricata_version", "files"})


def _add_plain(fields: dict[str, Any], key: str, value: object) -> None:
    if key in {"icmp_type", "icmp_code"}:
        if (number := integer(value, 256)) is not None:
            fields[f"flow_{key}"] = number
    elif key == "files":
        # Of several files of one transaction the first has the columns.
        if isinstance(value, list) and value and isinstance(value[0], dict) and (more := SECTIONS["fileinfo"][1]) is not None:
            more(fields, value[0])
    elif found := text(value):
        fields[{"host": "host_name", "community_id": "network_community_id"}.get(key, "observer_version")] = found


def _add_alert(fields: dict[str, Any], alert: dict[str, object], event_type: str) -> None:
    if event_type == "alert":
        # What the protocol said of success is not the alert's.
        for name in ("event_reason", "event_code", "event_outcome", "message"):
            fields.pop(name, None)
        fields["event_action"] = text(alert.get("action"))
        fields["event_severity"] = integer(alert.get("severity"), _INT)
    fields["rule_id"] = identifier(alert.get("signature_id"))
    fields["rule_name"] = text(alert.get("signature"))
    fields["rule_category"] = text(alert.get("category"))
    fields["rule_version"] = identifier(alert.get("rev"))
    fields["rule_ruleset"] = identifier(alert.get("gid"))
    metadata = alert.get("metadata")
    if isinstance(metadata, dict):
        fields["threat_technique_id"] = _techniques(metadata.get("mitre_technique_id"))
    references = alert.get("references")
    if not isinstance(references, list):
        rule = alert.get("rule")
        references = _REFERENCE.findall(rule) if isinstance(rule, str) else []
    if found := [reference for reference in references if isinstance(reference, str) and reference]:
        fields["rule_reference"] = " ".join(found)


_COUNTERS: Final = (
    ("bytes_toserver", "source_bytes"), ("pkts_toserver", "source_packets"),
    ("bytes_toclient", "destination_bytes"), ("pkts_toclient", "destination_packets"),
)  # fmt: skip


_FLOW_WORDS: Final = (("state", "flow_state"), ("reason", "flow_end_reason"), ("action", "event_action"))


def _add_flow(fields: dict[str, Any], flow: dict[str, object]) -> None:
    get = flow.get
    for name, field in _COUNTERS:
        number = get(name)
        if type(number) is not int or not 0 <= number < _LONG:
            number = integer(number, _LONG)
        if number is not None:
            fields[field] = number
    if (moment := iso_to_micros(get("start"))) is not None:
        fields["event_start"] = moment
    if "end" in flow and (moment := iso_to_micros(get("end"))) is not None:
        fields["event_end"] = moment
    for name, field in _FLOW_WORDS:
        word = get(name)
        if type(word) is str and word:
            fields[field] = word


def _add_netflow(fields: dict[str, Any], netflow: dict[str, object]) -> None:
    fields["event_start"] = iso_to_micros(netflow.get("start"))
    fields["event_end"] = iso_to_micros(netflow.get("end"))
    fields["source_bytes"] = integer(netflow.get("bytes"), _LONG)
    fields["source_packets"] = integer(netflow.get("pkts"), _LONG)


def _turn(fields: dict[str, Any]) -> None:
    """The packet went to the client, so that the record's source is the server: counts change sides with it."""
    for unit in ("bytes", "packets"):
        forth, back = fields.pop(f"source_{unit}", None), fields.pop(f"destination_{unit}", None)
        if back is not None:
            fields[f"source_{unit}"] = back
        if forth is not None:
            fields[f"destination_{unit}"] = forth


def _hexadecimal(value: object) -> int | None:
    if not isinstance(value, str) or not 0 < len(value) <= 4:
        return None
    try:
        return int(value, 16)
    except ValueError:
        return None


def _protocol(value: object) -> tuple[str | None, int | None]:
    if not isinstance(value, str) or not value:
        return None, None
    if (known := _TRANSPORTS.get(value)) is not None:
        return known
    if value.isascii() and value.isdigit():
        number = int(value) if len(value) <= 3 else 256
        return _PROTOCOL_NAMES.get(number), number if number < 256 else None
    name = value.lower()
    return name, _PROTOCOLS.get(name)


def _application(value: object, event_type: str) -> str | None:
    if isinstance(value, str) and value and value not in _NO_APPLICATION:
        return value
    return event_type.replace("_", "-") if event_type in _APPLICATION_RECORDS else None


def _vlans(value: object) -> tuple[int, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(number for number in (integer(item, 4096) for item in items) if number is not None)


def _techniques(value: object) -> list[str]:
    """MITRE ATT&CK ids in the order given, each once; rule sets write a sub-technique as T1059_001 as well as T1059.001."""
    texts = value if isinstance(value, list) else [value]
    found: dict[str, None] = {}
    for item in texts:
        if isinstance(item, str):
            for technique in _TECHNIQUE.findall(item):
                found[technique.replace("_", ".")] = None
    return list(found)


FIELDS: Final = SECTIONS_FIELDS | {
    "timestamp", "flow_id", "source_ip", "source_port", "destination_ip", "destination_port", "network_type", "network_transport",
    "network_iana_number", "network_application", "network_community_id", "host_name", "observer_version", "flow_tcp_flags",
    "flow_icmp_type", "flow_icmp_code", "event_severity", "rule_id", "rule_name", "rule_category", "rule_version", "rule_ruleset",
    "rule_reference", "threat_technique_id", "event_start", "event_end", "flow_state", "flow_end_reason",
    "source_bytes", "source_packets", "destination_bytes", "destination_packets",
}  # fmt: skip
"""Every name that `EveEvent.fields` can have."""
