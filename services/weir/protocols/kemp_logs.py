"""Kemp LoadMaster's log lines that are no CEF: layer 7, Edge Security Pack (ESP), and its web application firewall.

Sources: Progress Kemp, "ESP Logs" (connection, user and security logs and their formats) and "System Log Files" (time, host,
subsystem, message); scripts published by others that read its ``kernel: L7:`` lines; ModSecurity Reference Manual, "Message
format", which is what the firewall (``wafd``) writes. The vendor does not document all of its lines: of the others the program
tells what they are.
"""

import re
from typing import Final, NamedTuple

from weir.protocols.keyvalues import address, port

__all__ = ["SUBSYSTEMS", "KempLine", "WafLine", "parse_layer7", "parse_waf"]

SUBSYSTEMS: Final = {"wafd": "waf", "waf": "waf", "l7log": "l7", "l4d": "l4", "ssomgr": "sso"}
"""What a program is, of those that only a LoadMaster has. Its ``kernel`` writes layer 7 lines that begin with ``L7:``."""


class KempLine(NamedTuple):
    """A layer 7 or ESP line. Addresses are valid and canonical, ports 0 to 65535; what is absent is None."""

    event: str  # in the words of the ESP's CEF events where it is one of those
    connection: str | None = None  # number by which lines of one connection know each other
    virtual_service: str | None = None
    source_ip: str | None = None
    source_port: int | None = None
    destination_ip: str | None = None
    destination_port: int | None = None
    user: str | None = None
    method: str | None = None
    url: str | None = None
    user_agent: str | None = None
    dt_code: str | None = None


class WafLine(NamedTuple):
    """A ModSecurity line: ``fields`` are its bracketed names and values, ``tags`` those of the name ``tag``."""

    action: str  # "Access denied", "Warning" or what else begins the line
    status: int | None
    client_ip: str | None
    text: str
    fields: dict[str, str]
    tags: list[str]


_CONNECTION = re.compile(r"L7: (?:([0-9A-Za-z_.-]{8,20}): )?")
_HOST = r'"?\[?(?P<{0}>[0-9A-Fa-f:.]{{2,45}}?)\]?'
_ENDPOINT = _HOST + r':(?P<{0}_port>[0-9]{{1,5}})(?![0-9.\]]|:\S)"?'
_SERVICE, _SOURCE, _TARGET = (_ENDPOINT.format(name) for name in ("service", "source", "target"))
_CLIENT_HOST = r'"?\[?(?P<source>[0-9A-Fa-f:.]{2,45}+)\]?"?(?: .{0,200})?'
_USER = r'"?(?P<user>[^"\s]{1,256})"?'
_FORMS: Final = tuple(
    (event, re.compile(form))
    for event, form in (
        ("SSL accept", rf"SSL accept on {_SERVICE} from {_SOURCE}.{{0,200}}"),
        ("Accept", rf"Accept on {_SERVICE} from {_SOURCE}.{{0,200}}"),
        ("Connected", rf"Connect(?:ing)? from {_SOURCE} to {_TARGET}(?: using {_SERVICE})?.{{0,200}}"),
        ("Request", r"request: (?P<method>[A-Z]{1,20}) (?P<url>\S{1,8192})"),
        ("User agent", r"User-Agent: (?P<user_agent>.{1,4096})"),
        (
            "Request",
            rf'{_SERVICE}(?: \({_TARGET}\))?:? User {_USER} requested "?(?P<method>[A-Z]{{1,20}})"? "?(?P<url>[^"\s]{{1,8192}})"?'
            r'(?: "?(?P<user_agent>[^"]{1,4096})"?)?',
        ),
        (
            "Attempt",
            rf'{_SERVICE}(?: \({_TARGET}\))?:? User (?:{_USER} )?attempted "?(?P<method>[A-Z]{{1,20}})"? '
            rf'"?(?P<url>[^"\s]{{1,8192}})"?'
            r'(?: "?(?P<user_agent>[^"]{1,4096})"?)?',
        ),
        ("Logged off", rf"{_SERVICE}:? User {_USER} logged off.{{0,200}}"),
        ("Logged on", rf"{_SERVICE}:? User {_USER} logged on from {_CLIENT_HOST}"),
        ("Access Denied", rf"{_SERVICE}:? User {_USER} denied access from {_CLIENT_HOST}"),
        ("Access Blocked", rf"{_SERVICE}:? User {_USER} blocked access from {_CLIENT_HOST}"),
        ("User interaction", rf"{_SERVICE}:? User {_USER} requires [a-z -]{{1,40}} from {_CLIENT_HOST}"),
        ("XSS attack", rf"Attempted XSS attack on (?:{_SERVICE} )?from (?:{_SOURCE} )?\(dtcode (?P<dt_code>[0-9]{{1,6}})\)"),
    )
)  # fmt: skip
# Of these only the first words are known.
_BEGINNINGS: Final = ("Connection timed out", "Connection failed", "Connection refused")
# The first words that some form has: most lines of a kernel have none of them.
_ANY = re.compile(r'"?\[?[0-9A-Fa-f:.]{2,45}|SSL |Accept |Connect|request: |User-Agent: |Attempted ')


def parse_layer7(text: str) -> KempLine | None:
    """A line of ``l7log``, or of ``kernel`` with its ``L7:``; None for one that is of no known form. Never raises."""
    begin = _CONNECTION.match(text)
    connection = begin[1] if begin is not None else None
    body = (text[begin.end() :] if begin is not None else text).rstrip()
    if len(body) > 16_384 or _ANY.match(body) is None:
        return None
    for event, form in _FORMS:
        found = form.fullmatch(body)
        if found is not None:
            return _line(event, connection, found)
    for event in _BEGINNINGS:
        if body.startswith(event):
            return KempLine(event, connection)
    return None


def _line(event: str, connection: str | None, found: re.Match[str]) -> KempLine:
    get = found.groupdict().get
    service = address(get("service") or "")
    return KempLine(
        event,
        connection,
        None if service is None else f"[{service}]:{get('service_port')}" if ":" in service else f"{service}:{get('service_port')}",
        address(get("source") or ""),
        port(get("source_port") or ""),
        address(get("target") or ""),
        port(get("target_port") or ""),
        get("user"),
        get("method"),
        get("url"),
        get("user_agent"),
        get("dt_code"),
    )


_MOD_SECURITY: Final = "ModSecurity: "
_BRACKETS = re.compile(r'\[([a-z_]{1,32}) "([^"\\]*+(?:\\.[^"\\]*+)*+)"\]', re.DOTALL)
_CLIENT = re.compile(r"\[client ([0-9A-Fa-f:.]{2,45}?)(?::[0-9]{1,5})?\]")
_DENIED = re.compile(r"Access denied(?: with code ([0-9]{3}))?|Access allowed|Warning|Pausing|Rule")


def parse_waf(text: str) -> WafLine | None:
    """A line that holds ``ModSecurity:``; None for any other. Of a name that comes twice the first value counts. Never raises.

    A backslash escapes a quotation mark or a backslash in a value; other escapes, such as ``\\x22``, are left as they are.
    """
    start = text.find(_MOD_SECURITY)
    if start < 0:
        return None
    body = text[start + len(_MOD_SECURITY) :]
    found = _DENIED.match(body)
    fields: dict[str, str] = {}
    tags: list[str] = []
    for key, value in _BRACKETS.findall(body):
        plain = value.replace('\\"', '"').replace("\\\\", "\\") if "\\" in value else value
        if key != "tag":
            fields.setdefault(key, plain)
        elif len(tags) < 32:
            tags.append(plain)
    client = _CLIENT.search(text)
    return WafLine(
        "Warning" if found is None else found[0].partition(" with ")[0],
        int(found[1]) if found is not None and found[1] else None,
        address(client[1]) if client is not None else address(fields.get("client", "")),
        body,
        fields,
        tags,
    )
