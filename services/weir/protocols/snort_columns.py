"""Snort's alerts in columns: the CSV of Snort 2, pfSense and Snort 3, and Snort 3's JSON, all under the names of the latter."""

from __future__ import annotations

import re
from typing import Final

from weir.protocols import snort_values as values
from weir.protocols._address import address, mac
from weir.protocols.snort_values import Alert, ToUtc

__all__ = ["from_csv", "from_json"]

_CELL = re.compile(r' *+(?:"((?:[^"\\]|\\.|"")*+)" *+(?=,|\Z)|([^,]*+))(?:,|\Z)', re.DOTALL)
_QUOTED = re.compile(r'\\(["\\])|"(")')
MAX_CELLS: Final = 100
"""Cells of a line that are read; Snort 3 has 55 fields to choose from."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# By Snort 3's names. The first columns are the same with Snort 2 and pfSense, whose patch leaves out the headers of the packet.
_SNORT2: Final = _names(
    """timestamp gid sid rev msg proto src_addr src_port dst_addr dst_port eth_src eth_dst eth_len tcp_flags tcp_seq tcp_ack tcp_len
    tcp_win ttl tos ip_id pkt_len ip_len icmp_type icmp_code icmp_id icmp_seq"""
)
_PFSENSE: Final = (*_SNORT2[:10], "ip_id", "class", "priority", "action", "disposition")
_SNORT3: Final = _names("timestamp pkt_num proto pkt_gen pkt_len dir src_ap dst_ap rule action")
_SNORT3_MESSAGE: Final = (*_SNORT3, "msg", "class")
_RULE_CELL = re.compile(r"[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}")


def _cells(text: str) -> list[str]:
    cells: list[str] = []
    position = 0
    while position <= len(text) and len(cells) < MAX_CELLS:
        found = _CELL.match(text, position)
        if found is None:
            break
        quoted = found[1]
        cells.append(found[2].strip() if quoted is None else _QUOTED.sub(lambda pair: pair[1] or pair[2], quoted))
        if found.end() == len(text) and not found[0].endswith(","):
            break
        position = found.end()
    return cells


def from_csv(text: str, found: re.Match[str], received_us: int, to_utc: ToUtc) -> Alert | None:
    """The alert of a line of CSV, whose time is already found; None for columns that are in none of the known orders."""
    cells = _cells(text.rstrip("\r\n"))
    if len(cells) >= 10 and cells[1].isdigit() and cells[2].isdigit() and cells[3].isdigit():
        named = _SNORT2
        if len(cells) in {13, 15} and mac(cells[10]) is None:
            named = _PFSENSE
    elif len(cells) >= 9 and _RULE_CELL.fullmatch(cells[8]) is not None:
        named = _SNORT3_MESSAGE if len(cells) in {11, 12} else _SNORT3
    else:
        return None
    columns: dict[str, object] = {name: cell for name, cell in zip(named, cells, strict=False) if cell}
    columns |= {f"column_{number}": cell for number, cell in enumerate(cells[len(named) :], len(named) + 1) if cell}
    alert = _named(columns, received_us, to_utc)
    return alert._replace(long_year=found[3] is not None and len(found[3]) == 4)


def from_json(document: dict[str, object], received_us: int, to_utc: ToUtc) -> Alert | None:
    """The alert that a record of Snort 3's alert_json is, whichever of its fields were chosen; None for any other document."""
    rule = document.get("rule")
    if not (isinstance(rule, str) and _RULE_CELL.fullmatch(rule)) and not ("gid" in document and "sid" in document):
        return None
    time = document.get("timestamp")
    if not (isinstance(time, str) and values.TIMESTAMP.match(time)) and not isinstance(document.get("seconds"), int):
        return None
    if not _TELLING & document.keys():
        return None
    return _named(document, received_us, to_utc)


_TELLING: Final = frozenset({"msg", "action", "src_ap", "src_addr", "pkt_num", "pkt_gen", "class", "priority"})
_TAKEN: Final = frozenset(
    _names(
        """timestamp seconds gid sid rev rule msg class priority action iface proto service src_addr src_ap src_port dst_addr dst_ap
        dst_port eth_src eth_dst vlan icmp_type icmp_code client_bytes server_bytes client_pkts server_pkts"""
    )
)


def _named(columns: dict[str, object], received_us: int, to_utc: ToUtc) -> Alert:
    """An alert from values under Snort 3's names."""
    get = columns.get
    rule = values.text(get("rule")) or ""
    gid, sid, rev = rule.split(":") if _RULE_CELL.fullmatch(rule) else (None, None, None)
    transport, number = values.transport(values.text(get("proto")))
    ends = values.between(transport, values.text(get("src_ap")) or "", values.text(get("dst_ap")) or "")
    # Port 0 stands for none.
    ends |= {name: None for name in ("source_port", "destination_port") if ends[name] == 0}
    ports = transport not in {"icmp", "ipv6-icmp"}
    service = values.text(get("service"))
    return Alert(
        time_us=_time(columns, received_us, to_utc),
        gid=values.text(get("gid")) or gid,
        sid=values.text(get("sid")) or sid,
        rev=values.text(get("rev")) or rev,
        message=values.unquoted(values.text(get("msg")) or ""),
        category=values.category(values.text(get("class"))),
        priority=values.number(get("priority"), 2**31),
        action=values.text(get("action")),
        interface=values.text(get("iface")),
        transport=transport,
        protocol_number=number,
        application=None if service == "unknown" else service,
        source_ip=address(values.text(get("src_addr")) or "") or ends["source_ip"],
        source_port=values.number(get("src_port"), 65_536) if ports and "src_port" in columns else ends["source_port"],
        destination_ip=address(values.text(get("dst_addr")) or "") or ends["destination_ip"],
        destination_port=values.number(get("dst_port"), 65_536) if ports and "dst_port" in columns else ends["destination_port"],
        source_mac=mac(values.text(get("eth_src")) or ""),
        destination_mac=mac(values.text(get("eth_dst")) or ""),
        vlan=values.number(get("vlan"), 4_096) or None,
        icmp_type=values.number(get("icmp_type"), 256),
        icmp_code=values.number(get("icmp_code"), 256),
        client_bytes=values.number(get("client_bytes"), 2**63),
        server_bytes=values.number(get("server_bytes"), 2**63),
        client_packets=values.number(get("client_pkts"), 2**63),
        server_packets=values.number(get("server_pkts"), 2**63),
        rest={name: value for name, value in columns.items() if name not in _TAKEN},
    )


def _time(columns: dict[str, object], received_us: int, to_utc: ToUtc) -> int | None:
    """`seconds` is UTC and has no fraction; the fraction is the local time's."""
    text = values.text(columns.get("timestamp")) or ""
    found = values.TIMESTAMP.match(text)
    seconds = values.number(columns.get("seconds"), 2**33)
    if seconds is not None:
        fraction = ((found[7] if found is not None else None) or "") + "000000"
        return seconds * values.SECOND + int(fraction[:6])
    if found is None:
        return None
    return values.moment(found.groups(), received_us, to_utc)
