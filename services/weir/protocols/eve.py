"""Suricata's EVE JSON: one record to a typed view under Weir's field names.

Source: Suricata user guide, "Eve JSON Format" (4.x to 8.x), and the schema in its source tree (etc/schema.json). Only what
events.ids-alert, events.network-flow and events.network-log have columns for is taken out; the record itself stays whole.
"""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, Literal, NamedTuple

from weir.protocols._isotime import iso_to_micros

__all__ = ["EveError", "EveEvent", "EveKind", "decode", "recognise"]

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

# Record types that are named after the application protocol they report; older releases leave app_proto out of them.
_APPLICATION_RECORDS: Final = frozenset(
    {
        "bittorrent_dht",
        "dcerpc",
        "dhcp",
        "dnp3",
        "dns",
        "ftp",
        "ftp_data",
        "http",
        "http2",
        "ike",
        "krb5",
        "modbus",
        "mqtt",
        "nfs",
        "pgsql",
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
_LONG = 2**63
_INT = 2**31


class EveError(ValueError):
    """The record is Suricata's by its other fields, but its event_type is missing or not text."""


class EveEvent(NamedTuple):
    """One EVE record. Times are microseconds UTC; counts are bytes and packets; None is "not said" or "not usable".

    `kind` is the route: "alert", "flow" (both directions), "netflow" (one direction), or "record" for any other
    `event_type`. `source_bytes` and `source_packets` count towards the server, `destination_...` towards the client, also in
    an alert raised on a packet of the server. `event_severity` is Suricata's: 1 is the most severe.
    """

    kind: EveKind
    event_type: str
    timestamp: int | None = None
    flow_id: str | None = None
    source_ip: str | None = None
    source_port: int | None = None
    destination_ip: str | None = None
    destination_port: int | None = None
    network_type: str | None = None
    network_transport: str | None = None
    network_iana_number: int | None = None
    network_application: str | None = None
    network_community_id: str | None = None
    observer_ingress_interface: str | None = None
    vlan_ids: tuple[int, ...] = ()
    host_name: str | None = None
    event_action: str | None = None
    event_severity: int | None = None
    rule_id: str | None = None
    rule_name: str | None = None
    rule_category: str | None = None
    rule_version: str | None = None
    rule_ruleset: str | None = None
    threat_technique_ids: tuple[str, ...] = ()
    event_start: int | None = None
    event_end: int | None = None
    source_bytes: int | None = None
    source_packets: int | None = None
    destination_bytes: int | None = None
    destination_packets: int | None = None
    flow_state: str | None = None
    flow_end_reason: str | None = None
    flow_tcp_flags: int | None = None
    flow_icmp_type: int | None = None
    flow_icmp_code: int | None = None
    url_domain: str | None = None
    url_original: str | None = None
    http_request_method: str | None = None
    http_response_status_code: int | None = None
    user_agent_original: str | None = None
    dns_question_name: str | None = None
    dns_question_type: str | None = None
    dns_response_code: str | None = None
    tls_server_name: str | None = None


_BLANK: Final[dict[str, object]] = {"kind": "record", "event_type": "", **EveEvent._field_defaults}


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
    """The typed view of an EVE record; None when the document is not one.

    A field of the wrong form counts as absent. Raises `EveError` only when the document is Suricata's and does not say,
    in a string `event_type`, what it reports. IPv6 addresses come out in their canonical short form.
    """
    if not recognise(document):
        return None
    get = document.get
    event_type = get("event_type")
    if not isinstance(event_type, str) or not event_type:
        raise EveError(f"a Suricata record whose event_type is {event_type!r:.40} instead of a name")
    kind = _KINDS.get(event_type, "record")
    transport, iana_number = _protocol(get("proto"))
    source_ip = _address(get("src_ip"))
    destination_ip = _address(get("dest_ip"))
    known = source_ip or destination_ip
    vlan = get("vlan")
    # A copy of the blank view keeps the order of the fields, so that its values are the tuple: half the cost of keywords.
    view = _BLANK.copy()
    view["kind"] = kind
    view["event_type"] = event_type
    view["timestamp"] = iso_to_micros(get("timestamp"))
    view["flow_id"] = _identifier(get("flow_id"))
    view["source_ip"] = source_ip
    view["source_port"] = _port(get("src_port"))
    view["destination_ip"] = destination_ip
    view["destination_port"] = _port(get("dest_port"))
    view["network_type"] = None if known is None else "ipv6" if ":" in known else "ipv4"
    view["network_transport"] = transport
    view["network_iana_number"] = iana_number
    view["network_application"] = _application(get("app_proto"), event_type)
    view["network_community_id"] = _text(get("community_id"))
    view["observer_ingress_interface"] = _text(get("in_iface"))
    view["vlan_ids"] = () if vlan is None else _vlans(vlan)
    view["host_name"] = _text(get("host"))
    alert = get("alert")
    if isinstance(alert, dict):
        _add_alert(view, alert)
    flow = get("flow")
    if isinstance(flow, dict):
        _add_flow(view, flow)
    netflow = get("netflow")
    if isinstance(netflow, dict) and kind == "netflow":
        view["event_start"] = iso_to_micros(netflow.get("start"))
        view["event_end"] = iso_to_micros(netflow.get("end"))
        view["source_bytes"] = _integer(netflow.get("bytes"), _LONG)
        view["source_packets"] = _integer(netflow.get("pkts"), _LONG)
    if "icmp_type" in document:
        view["flow_icmp_type"] = _integer(get("icmp_type"), 256)
        view["flow_icmp_code"] = _integer(get("icmp_code"), 256)
    tcp = get("tcp")
    if isinstance(tcp, dict):
        view["flow_tcp_flags"] = _hexadecimal(tcp.get("tcp_flags"))
    http = get("http")
    if isinstance(http, dict):
        _add_http(view, http)
    dns = get("dns")
    if isinstance(dns, dict):
        _add_dns(view, dns)
    tls = get("tls")
    if not isinstance(tls, dict):
        tls = get("quic")
    if isinstance(tls, dict):
        view["tls_server_name"] = _text(tls.get("sni"))
    return EveEvent._make(view.values())


def _add_alert(view: dict[str, object], alert: dict[str, object]) -> None:
    view["event_action"] = _text(alert.get("action"))
    view["event_severity"] = _integer(alert.get("severity"), _INT)
    view["rule_id"] = _identifier(alert.get("signature_id"))
    view["rule_name"] = _text(alert.get("signature"))
    view["rule_category"] = _text(alert.get("category"))
    view["rule_version"] = _identifier(alert.get("rev"))
    view["rule_ruleset"] = _identifier(alert.get("gid"))
    metadata = alert.get("metadata")
    if isinstance(metadata, dict):
        view["threat_technique_ids"] = _techniques(metadata.get("mitre_technique_id"))


def _add_flow(view: dict[str, object], flow: dict[str, object]) -> None:
    view["event_start"] = iso_to_micros(flow.get("start"))
    view["event_end"] = iso_to_micros(flow.get("end"))
    view["source_bytes"] = _integer(flow.get("bytes_toserver"), _LONG)
    view["source_packets"] = _integer(flow.get("pkts_toserver"), _LONG)
    view["destination_bytes"] = _integer(flow.get("bytes_toclient"), _LONG)
    view["destination_packets"] = _integer(flow.get("pkts_toclient"), _LONG)
    view["flow_state"] = _text(flow.get("state"))
    view["flow_end_reason"] = _text(flow.get("reason"))
    if view["kind"] != "alert":
        # Only in inline mode; an alert's own action says more.
        view["event_action"] = _text(flow.get("action"))


def _add_http(view: dict[str, object], http: dict[str, object]) -> None:
    view["url_domain"] = _text(http.get("hostname"))
    view["url_original"] = _text(http.get("url"))
    view["http_request_method"] = _text(http.get("http_method"))
    view["http_response_status_code"] = _integer(http.get("status"), _INT)
    view["user_agent_original"] = _text(http.get("http_user_agent"))


def _add_dns(view: dict[str, object], dns: dict[str, object]) -> None:
    # The question stands in the record itself (versions 1 and 2), in `queries` (version 3), or, in alerts of
    # version 2, in `query` or `answer`.
    question = dns
    if "rrname" not in dns:
        for name in ("queries", "query", "answer"):
            inner = dns.get(name)
            if isinstance(inner, list) and inner:
                inner = inner[0]
            if isinstance(inner, dict):
                question = inner
                break
    view["dns_question_name"] = _text(question.get("rrname"))
    view["dns_question_type"] = _text(question.get("rrtype"))
    answer = dns.get("answer")
    code = dns.get("rcode") or (answer.get("rcode") if isinstance(answer, dict) else None)
    view["dns_response_code"] = _text(code)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: object, below: int) -> int | None:
    """A whole number of at least 0; some shippers turn Suricata's integers into floats."""
    if type(value) is int:
        return value if 0 <= value < below else None
    if isinstance(value, float) and 0 <= value < below and value.is_integer():
        return int(value)
    return None


def _port(value: object) -> int | None:
    return _integer(value, 65_536)


def _identifier(value: object) -> str | None:
    """Ids are text with us: flow ids use all 64 bits, and nobody calculates with them."""
    if isinstance(value, str):
        return value or None
    number = _integer(value, 2**64)
    return None if number is None else str(number)


def _hexadecimal(value: object) -> int | None:
    if not isinstance(value, str) or not 0 < len(value) <= 4:
        return None
    try:
        return int(value, 16)
    except ValueError:
        return None


def _address(value: object) -> str | None:
    """An address in canonical text. Suricata writes IPv6 with all its zeros, other senders do not: these must compare equal."""
    if not isinstance(value, str):
        return None
    try:
        if ":" in value:
            return inet_ntop(AF_INET6, inet_pton(AF_INET6, value))
        inet_pton(AF_INET, value)
    except (OSError, ValueError):
        return None
    return value


def _protocol(value: object) -> tuple[str | None, int | None]:
    if not isinstance(value, str) or not value:
        return None, None
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
    return tuple(number for number in (_integer(item, 4096) for item in items) if number is not None)


def _techniques(value: object) -> tuple[str, ...]:
    """MITRE ATT&CK ids in the order given, each once; rule sets write a sub-technique as T1059_001 as well as T1059.001."""
    texts = value if isinstance(value, list) else [value]
    found: dict[str, None] = {}
    for text in texts:
        if isinstance(text, str):
            for technique in _TECHNIQUE.findall(text):
                found[technique.replace("_", ".")] = None
    return tuple(found)
