"""Snort's alerts in all the forms that it writes: alert_fast, alert_full, alert_csv, alert_json and syslog.

Sources: Snort 2.9 manual, section 2.6 (output modules); Snort 3's loggers (`src/loggers`, `src/utils/util.cc`). Barnyard2, pfSense
and Suricata's fast.log keep to the same forms. What differs:

- Times have no zone and, by default, no year: `09/04-21:45:37.536335`. With one, Snort 2 and pfSense write MM/DD/YY, Snort 3
  YY/MM/DD, Suricata MM/DD/YYYY. A first number above 12 tells; where both readings are dates, it is MM/DD/YY.
- Snort 2's CSV has a space before the first comma; its columns can be chosen, as can Snort 3's. A line is read by the layouts that
  Snort 2, pfSense and Snort 3 have by default; columns beyond those that are known stay in `rest`, by number.
- Snort 3 quotes the message; its JSON has `seconds` since 1970 UTC besides the local time, which holds the fraction.

Nothing raises: a text that is none of these is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from weir.protocols import snort_values as values
from weir.protocols._address import mac
from weir.protocols.snort_columns import from_csv, from_json
from weir.protocols.snort_values import Alert, ToUtc

__all__ = ["Alert", "blocks", "from_json", "parse"]

_RULE = r"\[([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})\]"
_FAST = re.compile(rf"(?:{values.TIME}|[0-9]{{9,10}}+) ++(?:\[([^\[\]*]{{1,40}}+)\] ++)?+\[\*\*\] {_RULE} ")
_FULL = re.compile(rf"\[\*\*\] {_RULE} ")
_SYSLOG = re.compile(rf"{_RULE}:? ")
_INTERFACE = re.compile(r" ?<([^<>]{1,100}+)> ")
_GROUP = re.compile(r"\[(Classification|Priority|AppID): ?([^\[\]]*+)\]|\[(Xref) => ([^\[\]]*+)\]")
_FLOW = re.compile(r"\{([^{}]{1,20}+)\} (\S++) -> (\S++)")
_PAIR = re.compile(r"(?<![0-9A-Za-z:.\[\]%])([0-9A-Fa-f:.\[\]%a-z]++) -> ([0-9A-Fa-f:.\[\]%a-z]++)")


def parse(text: str, received_us: int, to_utc: ToUtc) -> Alert | None:
    """The alert that a line, or a block of alert_full, is; None for any other text.

    Args:
        text: one line, or the lines of one block.
        received_us: when it was received, microseconds UTC: decides the year of a time without one.
        to_utc: from the sensor's local time to UTC, both in microseconds.
    """
    if text.startswith("["):
        if (found := _FULL.match(text)) is not None:
            return _full(text, found, received_us, to_utc)
        found = _SYSLOG.match(text)
        return None if found is None else _syslog(text, found)
    if not text[:2].isdigit():
        return None
    if (found := _FAST.match(text)) is not None:
        return _fast(text, found, received_us, to_utc)
    found = values.TIMESTAMP.match(text)
    if found is not None and text.startswith((" ,", ","), found.end()):
        return from_csv(text, found, received_us, to_utc)
    return None


def blocks(text: str) -> Iterator[str]:
    """The alerts of a file one by one: the blocks of alert_full, which empty lines part, and each line of the other forms."""
    block: list[str] = []
    for line in text.splitlines():
        full = line.startswith("[**] ")
        if block and (full or not line.strip()):
            yield "\n".join(block)
            block = []
        if block or full:
            block.append(line)
        elif line.strip():
            yield line
    if block:
        yield "\n".join(block)


def _tail(text: str) -> dict[str, Any]:
    """What stands behind the message: `[Classification: x] [Priority: 1] {TCP} a -> b`."""
    fields: dict[str, Any] = {}
    references: list[str] = []
    for found in _GROUP.finditer(text):
        name, value = found[1] or found[3], (found[2] if found[1] else found[4]).strip()
        if name == "Classification":
            fields["category"] = values.category(value)
        elif name == "Priority":
            fields["priority"] = values.number(value, 2**31)
        elif name == "AppID":
            fields["application"] = value or None
        elif name == "Xref" and len(references) < 100:
            references.append(value)
    if references:
        fields["references"] = tuple(references)
    if (flow := _FLOW.search(text)) is not None:
        transport, number = values.transport(flow[1])
        fields |= {"transport": transport, "protocol_number": number} | values.between(transport, flow[2], flow[3])
    return fields


def _head(text: str, start: int) -> tuple[str | None, int]:
    """The `<interface>` before a message, if there is one, and where the message begins."""
    found = _INTERFACE.match(text, start)
    return (found[1], found.end()) if found is not None else (None, start)


def _fast(text: str, found: re.Match[str], received_us: int, to_utc: ToUtc) -> Alert | None:
    interface, start = _head(text, found.end())
    end = text.rfind("[**]")
    if end < start:
        return None
    groups = found.groups()
    time = values.moment(groups[:7], received_us, to_utc) if groups[0] else int(text.partition(" ")[0]) * values.SECOND
    return Alert(
        time_us=time,
        gid=groups[8],
        sid=groups[9],
        rev=groups[10],
        message=values.unquoted(text[start:end]),
        action=groups[7].lower() if groups[7] else None,
        interface=interface,
        long_year=groups[2] is not None and len(groups[2]) == 4,
        **_tail(text[end + 4 :]),
    )


def _syslog(text: str, found: re.Match[str]) -> Alert | None:
    """`[1:2:3] message [Classification: x] [Priority: 1] {TCP} a -> b`; the time is syslog's."""
    interface, start = _head(text, found.end())
    ends = [at for mark in ("[Classification:", "[Priority:") if (at := text.find(mark, start)) >= 0]
    if not ends:
        if (flow := _FLOW.search(text, start)) is None:
            return None
        ends.append(flow.start())
    message, tail = text[start : min(ends)], text[min(ends) :]
    if interface is None and (behind := re.search(r"\] <([^<>]{1,100}+)>", tail)) is not None:
        interface = behind[1]
    return Alert(gid=found[1], sid=found[2], rev=found[3], message=values.unquoted(message), interface=interface, **_tail(tail))


_HEADER = re.compile(r"(?:TTL|hoplim|TOS|ID|IpLen|DgmLen):(?:0x)?+[0-9A-Fa-f]{1,8}+")
_TCP = re.compile(
    r"([*12UAPRSFECW]{8}) +Seq: (0x[0-9A-Fa-f]++) +Ack: (0x[0-9A-Fa-f]++) +Win: (0x[0-9A-Fa-f]++) +TcpLen: ([0-9]{1,9}+)"
)
_ICMP = re.compile(r"Type: ?([0-9]{1,3}+) +Code: ?([0-9]{1,3}+)")
_MAC: Final = r"(?:[0-9A-F]{1,2}:){5}[0-9A-F]{1,2}"
_ETHERNET = re.compile(rf"({_MAC}) -> ({_MAC}) type:(0x[0-9A-F]{{1,4}}) len:(0x[0-9A-F]{{1,8}})")
_PROTOCOL = re.compile(r"(?:^| )([A-Z0-9:-]{2,12}+) (?:TTL|hoplim):", re.MULTILINE)
_NAMES: Final = {"TTL": "ttl", "hoplim": "ttl", "TOS": "tos", "ID": "ip_id", "IpLen": "ip_hlen", "DgmLen": "pkt_len"}


def _full(text: str, found: re.Match[str], received_us: int, to_utc: ToUtc) -> Alert | None:
    """A block of alert_full; a line of it alone says only which rule it was."""
    interface, start = _head(text, found.end())
    end = text.find("[**]", start)
    if end < 0:
        return None
    body = text[end + 4 :]
    fields = _tail(body)
    rest: dict[str, Any] = {}
    time = values.TIMESTAMP.search(body)
    ethernet = _ETHERNET.search(body)
    if ethernet is not None:
        fields |= {"source_mac": mac(ethernet[1]), "destination_mac": mac(ethernet[2])}
        rest |= {"eth_type": ethernet[3], "eth_len": int(ethernet[4], 16)}
    if "transport" not in fields and (protocol := _PROTOCOL.search(body)) is not None:
        fields["transport"], fields["protocol_number"] = values.transport(protocol[1])
        behind = ethernet.end() if ethernet is not None else time.end() if time is not None else 0
        if (pair := _PAIR.search(body, behind)) is not None:
            fields |= values.between(fields["transport"], pair[1], pair[2])
    for item in _HEADER.findall(body):
        name, _, value = item.partition(":")
        rest.setdefault(_NAMES[name], int(value, 16) if value.startswith("0x") else int(value) if value.isdigit() else value)
    if (tcp := _TCP.search(body)) is not None:
        rest |= {"tcp_flags": tcp[1], "tcp_seq": tcp[2], "tcp_ack": tcp[3], "tcp_win": tcp[4], "tcp_len": int(tcp[5])}
    elif (icmp := _ICMP.search(body)) is not None and fields.get("transport") in {"icmp", "ipv6-icmp"}:
        fields |= {"icmp_type": values.number(icmp[1], 256), "icmp_code": values.number(icmp[2], 256)}
    return Alert(
        time_us=values.moment(time.groups(), received_us, to_utc) if time is not None else None,
        gid=found[1],
        sid=found[2],
        rev=found[3],
        message=values.unquoted(text[start:end]),
        interface=interface,
        rest=rest,
        **fields,
    )
