"""Suricata's EVE records: alerts to ids-alert, flows to network-flow, all others to network-log."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from weir.model.schemas import latest
from weir.processors.fields import Context, Decoded
from weir.processors.fields.netflow import LONGEST_US
from weir.protocols import beats, eve
from weir.protocols.netflow.fields import LARGEST

__all__ = ["document", "line", "name"]

name: Final = "suricata"

_CONSTANT: Final = {"event_module": "suricata", "observer_vendor": "OISF", "observer_product": "Suricata"}
_FLOW_KEYS: Final = frozenset(
    {
        "timestamp", "flow_id", "in_iface", "event_type", "vlan", "src_ip", "src_port", "dest_ip", "dest_port", "proto",
        "app_proto", "community_id", "icmp_type", "icmp_code", "host", "flow", "netflow", "tcp", "suricata_version",
        # What a shipper adds at the root, for which all datasets have columns or nobody asks.
        "@timestamp", "@metadata", "@version", "agent", "tags", "log", "input", "ecs", "event", "fileset", "service", "data_stream",
    }
)  # fmt: skip
_FLOW_COUNTS: Final = frozenset(
    {"pkts_toserver", "pkts_toclient", "bytes_toserver", "bytes_toclient", "start", "end", "state", "reason"}
)
_TAKEN: Final = (
    ("flow", _FLOW_COUNTS),
    ("netflow", frozenset({"bytes", "pkts", "start", "end"})),
    # The flags once more, as words.
    ("tcp", frozenset({"tcp_flags", "syn", "fin", "rst", "psh", "ack", "urg", "ecn", "cwr"})),
)
"""What of a flow's parts has a column."""

_CATEGORIES: Final[dict[str, list[str]]] = {
    "stats": [], "engine": [],
    "http": ["network", "web"], "http2": ["network", "web"], "websocket": ["network", "web"],
    "smtp": ["network", "email"], "fileinfo": ["network", "file"], "krb5": ["network", "authentication"],
    "pgsql": ["network", "database"],
}  # fmt: skip
_KINDS: Final = {"stats": "metric"}
_TYPES: Final = {"http": ["access", "protocol"], "anomaly": ["info"], "stats": ["info"], "engine": ["info"], "drop": ["denied"]}
_ALERT_TYPES: Final[dict[str | None, list[str]]] = {"blocked": ["denied"], "allowed": ["allowed"]}
_INFO: Final = ["info"]
_NETWORK: Final = ["network"]
_STOPPED: Final = frozenset({"drop", "reject", "blocked"})


def line(text: str, context: Context) -> Decoded | None:
    """EVE is JSON, so a line that is no document is not Suricata's."""
    return None


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of an EVE record; None for any other document. Raises EveError (a ValueError) as `eve.decode`."""
    event = eve.decode(document)
    if event is None:
        return None
    kind, event_type, fields, interface, vlans = event
    fields.update(_CONSTANT)
    fields["event_dataset"] = f"suricata.{event_type}"
    if vlans:
        fields["vlan_id"] = vlans[0]
    if kind in {"flow", "netflow"}:
        if len(vlans) > 1:
            fields["inner_vlan_id"] = vlans[1]
        _flow(document, fields, interface)
        return "network-flow", fields
    if interface is not None:
        fields["observer_ingress_interface"] = interface
    fields["document"] = beats.to_json(document)
    if kind == "alert":
        dataset = "ids-alert"
        fields["event_kind"] = "alert"
        fields["event_category"] = ["network", "intrusion_detection"]
        fields["event_type"] = _ALERT_TYPES.get(fields.get("event_action"), _INFO).copy()
        fields["message"] = fields.get("rule_name")
    else:
        dataset = "network-log"
        fields["event_category"] = _CATEGORIES.get(event_type, _NETWORK).copy()
        fields["event_type"] = _TYPES.get(event_type, ["protocol"])
        if event_type in _KINDS:
            fields["event_kind"] = _KINDS[event_type]
    _keep_columns(dataset, fields)
    return dataset, fields


@cache
def _without_column(dataset: str) -> frozenset[str]:
    return eve.FIELDS - {entry["name"] for entry in latest(dataset).parsed["fields"]}


def _keep_columns(dataset: str, fields: dict[str, Any]) -> None:
    """A record may say what its dataset has no column for (a flow's DNS question, a log's technique): `document` has it still."""
    strangers = _without_column(dataset)
    if not strangers.isdisjoint(fields):
        for column in strangers & fields.keys():
            del fields[column]


def _flow(document: dict[str, object], fields: dict[str, Any], interface: str | None) -> None:
    """What a flow has besides: sums over both directions, the duration, and as JSON all that has no column."""
    _keep_columns("network-flow", fields)
    fields["event_category"] = ["network"]
    fields["event_type"] = ["connection", "denied"] if fields.get("event_action") in _STOPPED else ["connection"]
    fields["event_action"] = "network_flow"
    fields["flow_protocol"] = "suricata"
    if interface is not None:
        fields["observer_ingress_interface_name"] = interface
    get = fields.get
    for total, one, other in (
        ("network_bytes", "source_bytes", "destination_bytes"), ("network_packets", "source_packets", "destination_packets"),
    ):  # fmt: skip
        forth, back = get(one), get(other)
        if forth is not None or back is not None:
            fields[total] = min((forth or 0) + (back or 0), LARGEST)
    start, end = get("event_start"), get("event_end")
    if start is not None and end is not None and 0 <= end - start < LONGEST_US:
        fields["event_duration"] = (end - start) * 1000
    rest = {key: value for key, value in document.items() if key not in _FLOW_KEYS}
    for part, taken in _TAKEN:
        inner = document.get(part)
        if isinstance(inner, dict) and (more := {key: value for key, value in inner.items() if key not in taken}):
            rest[part] = more
    if rest:
        fields["flow_additional"] = beats.to_json(rest)
