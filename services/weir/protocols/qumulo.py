"""Qumulo Core audit lines: recognising them in syslog, reading and writing their CSV body.

After the Qumulo administrator guide, "How Audit Logging Works": client address, user id, protocol, operation, error status,
file id, file path, secondary file path, separated by commas; user id and paths quoted as in RFC 4180. A variant has the
node's name after the client address. Line ends are stripped by the cluster.
"""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

from weir.protocols.qumulo_operations import OPERATIONS, OperationClass, classify
from weir.protocols.syslog import SyslogMessage

__all__ = ["OPERATIONS", "OperationClass", "QumuloAudit", "QumuloError", "classify", "format_line", "parse", "recognise"]


class QumuloAudit(NamedTuple):
    """One audited operation. Empty text where the operation has no such thing."""

    client_ip: str
    node_name: str | None  # None for the common form, which has no such field
    user_id: str  # AD name, local name, UID, SID or Qumulo's own id
    protocol: str
    operation: str
    error_status: str  # "ok" or the name of an error
    file_id: str  # digits; more than 64 bits occur
    file_path: str
    secondary_file_path: str


class QumuloError(ValueError):
    """A body that cannot be an audit record; the text names the number of fields, or the field."""


# The body behind "qumulo" as a tag with or without a colon, or behind "time,host,qumulo" where a relay has written the
# header as CSV. The first field looks like an address.
_BODY = re.compile(
    r"(?:<[0-9]{1,3}>)?(?:(?:[^\s,]{1,64},[^\s,]{0,255},)?qumulo(?:\[[0-9]{1,10}\])?:? {1,4})?([0-9A-Fa-f:.]{2,45},.*)", re.DOTALL
)
_TAGGED = re.compile(r"(?:<[0-9]{1,3}>)?(?:[^\s,]{1,64},[^\s,]{0,255},)?qumulo[\[: ]")


def recognise(message: SyslogMessage) -> str | None:
    """The CSV body of a Qumulo audit line, or None for any other message.

    A line counts as Qumulo's by its app-name (RFC 5424, or ``qumulo:`` in RFC 3164), by the word ``qumulo`` in front of its
    message, or by a header written as CSV; and its first field has the letters of an address, so that other messages of
    the cluster stay plain syslog. Whether the rest is whole is for ``parse`` to say.
    """
    app_name = message.app_name
    text = message.message.lstrip(" ")
    if not (app_name is not None and app_name.lower() == "qumulo") and _TAGGED.match(text) is None:
        return None
    found = _BODY.match(text)
    return None if found is None else found[1]


_QUOTED = r'"([^"]*+(?:""[^"]*+)*+)"'
_TEXT = rf'(?:{_QUOTED}|([^",]*+))'
_WORD = r"([A-Za-z0-9_.-]++)"
# The published example ends in a quotation mark that opens and never closes, so the last one may lack.
_LAST = r'(?:"([^"]*+(?:""[^"]*+)*+)"?|([^",\r\n]*+))'
_REST = rf"{_TEXT},{_WORD},{_WORD},{_WORD},([0-9]*+),{_TEXT},{_LAST}\s*\Z"
_EIGHT = re.compile(rf"([^\",]++),{_REST}")
_NINE = re.compile(rf"([^\",]++),{_TEXT},{_REST}")
_ONE_FIELD = re.compile(rf"{_TEXT}(,|\s*\Z)")


def parse(body: str) -> QumuloAudit:
    """Read the CSV body of an audit line, of 8 fields or of 9 with the node's name.

    Raises QumuloError with the number of fields, or with the name of the field that cannot be.
    """
    found = _EIGHT.match(body)
    if found is not None:
        node = None
        client, user_q, user, protocol, operation, status, file_id, path_q, path, second_q, second = found.groups()
    else:
        found = _NINE.match(body)
        if found is None:
            raise _error(body)
        groups = found.groups()
        client, node_q, node, user_q, user, protocol, operation, status, file_id, path_q, path, second_q, second = groups
        node = _text(node_q, node)
    if not _valid_address(client):
        raise QumuloError(f"Qumulo audit line: client_ip {client[:45]!r} is not an IP address")
    return QumuloAudit(
        client,
        node,
        _text(user_q, user),
        protocol,
        operation,
        status,
        file_id,
        _text(path_q, path),
        _text(second_q, second),
    )


def _text(quoted: str | None, bare: str | None) -> str:
    if quoted is None:
        return bare or ""
    return quoted.replace('""', '"') if '"' in quoted else quoted


@lru_cache(maxsize=8192)
def _valid_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_NAMES: Final = ("client_ip", "user_id", "protocol", "operation", "error_status", "file_id", "file_path", "secondary_file_path")


def _error(body: str) -> QumuloError:
    """Say why a line that neither form fits does not: only for the dead letter, so it may take its time."""
    fields: list[str] = []
    position = 0
    while (found := _ONE_FIELD.match(body, position)) is not None and len(fields) < 64:
        fields.append(_text(found[1], found[2]))
        position = found.end()
        if found[3] != ",":
            break
    else:
        if len(fields) < 64:
            return QumuloError(
                f"Qumulo audit line: field {len(fields) + 1} has a quotation mark that does not enclose it: "
                f"{body[position:][:40]!r}"
            )
    if len(fields) not in {8, 9}:
        return QumuloError(f"Qumulo audit line has {len(fields)} fields: 8 are expected, or 9 with the node's name")
    names = _NAMES if len(fields) == 8 else (_NAMES[0], "node_name", *_NAMES[1:])
    for name, value in zip(names, fields, strict=True):
        whole = _ALLOWED.get(name)
        if whole is not None and whole.fullmatch(value) is None:
            return QumuloError(f"Qumulo audit line: {name} cannot be {value[:40]!r}")
    return QumuloError(f"Qumulo audit line: a field that is never quoted is quoted: {body[:80]!r}")


_ALLOWED: Final = {
    "client_ip": re.compile(r'[^",]+'),
    "protocol": re.compile(_WORD),
    "operation": re.compile(_WORD),
    "error_status": re.compile(_WORD),
    "file_id": re.compile(r"[0-9]*"),
}


def format_line(audit: QumuloAudit) -> str:
    """Write the CSV body as the cluster does: user id and paths quoted, line ends taken out. ``parse`` reads it back."""
    node = "" if audit.node_name is None else f"{_plain(audit.node_name)},"
    return (
        f"{audit.client_ip},{node}{_quote(audit.user_id)},{audit.protocol},{audit.operation},{audit.error_status},"
        f"{audit.file_id},{_quote(audit.file_path)},{_quote(audit.secondary_file_path)}"
    )


def _plain(text: str) -> str:
    return _quote(text) if '"' in text or "," in text else text.replace("\n", "").replace("\r", "")


def _quote(text: str) -> str:
    escaped = text.replace("\n", "").replace("\r", "").replace('"', '""')
    return f'"{escaped}"'
