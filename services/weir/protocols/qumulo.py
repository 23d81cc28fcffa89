"""Qumulo Core audit records: recognising them in syslog and in JSON documents, reading and writing their CSV and JSON bodies.

After the Qumulo administrator guide, "How Audit Logging Works". CSV: client address, user id, protocol, operation, error status,
file id, file path, secondary file path, separated by commas; user id and paths quoted as in RFC 4180. A variant has the
node's name after the client address. Line ends are stripped by the cluster. JSON: the same under names, those of syslog or those
of Amazon CloudWatch; with backslashes that nobody escaped, as in ``"AD\\alice"`` with one of them.
"""

import re
from typing import Any, Final, NamedTuple

import orjson

from weir.protocols.keyvalues import address
from weir.protocols.qumulo_operations import OPERATIONS, OperationClass, classify
from weir.protocols.syslog import SyslogMessage

__all__ = [
    "OPERATIONS",
    "OperationClass",
    "QumuloAudit",
    "QumuloError",
    "classify",
    "format_json",
    "format_line",
    "from_document",
    "load_json",
    "parse",
    "recognise",
    "split_user",
]


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
    user_sid: str = ""  # these and the next are in JSON alone
    user_auth_id: str = ""
    file_owner: str = ""  # SID, else Qumulo's own id, after a change of metadata


class QumuloError(ValueError):
    """A body that cannot be an audit record; the text names the number of fields, or the field."""


# The body behind "qumulo" as a tag with or without a colon, or behind "time,host,qumulo" where a relay has written the
# header as CSV. Its first field looks like an address, or it is JSON.
_BODY = re.compile(
    r"(?:<[0-9]{1,3}>)?(?:(?:[^\s,]{1,64},[^\s,]{0,255},)?qumulo(?:\[[0-9]{1,10}\])?:? {1,4})?"
    r"([0-9A-Fa-f:.]{2,45},.*|\{.*)",
    re.DOTALL,
)
_TAGGED = re.compile(r"(?:<[0-9]{1,3}>)?(?:[^\s,]{1,64},[^\s,]{0,255},)?qumulo[\[: ]")


def recognise(message: SyslogMessage) -> str | None:
    """The CSV or JSON body of a Qumulo audit line, or None for any other message.

    A line counts as Qumulo's by its app-name (RFC 5424, or ``qumulo:`` in RFC 3164), by the word ``qumulo`` in front of its
    message, or by a header written as CSV; and its first field has the letters of an address, or it is JSON that speaks of an
    operation and a protocol, so that other messages of the cluster stay plain syslog. Whether the rest is whole is for
    ``parse`` to say.
    """
    app_name = message.app_name
    text = message.message.lstrip(" ")
    if not (app_name is not None and app_name.lower() == "qumulo") and _TAGGED.match(text) is None:
        return None
    found = _BODY.match(text)
    if found is None or (found[1][0] == "{" and not ('"operation"' in found[1] and '"protocol"' in found[1])):
        return None
    return found[1]


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
    """Read the body of an audit line: CSV of 8 fields, or of 9 with the node's name, or JSON.

    Raises QumuloError with the number of fields, or with the name of the field that cannot be.
    """
    if body.startswith("{"):
        audit = from_document(load_json(body))
        if audit is None:
            raise QumuloError(
                f"Qumulo audit record in JSON without its client address, protocol, operation or status: {body[:80]!r}"
            )
        return audit
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
    if address(client) is None:
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


# A backslash that begins no escape of JSON (RFC 8259 section 7) is itself.
_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt]|u[0-9A-Fa-f]{4}))?')
# An id of more than 64 bits would lose its last digits as a number.
_LONG_ID = re.compile(r'("(?:file_id|object_id)"\s*+:\s*+)([0-9]{16,64}+)(?=\s*+[,}])')


def load_json(text: str) -> dict[str, Any]:
    """A JSON object with what a cluster does wrong in it mended: bare backslashes, and file ids that are too large for a number.

    Raises QumuloError for a text that is none even so.
    """
    text = _LONG_ID.sub(r'\1"\2"', text)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        mended = _ESCAPE.sub(lambda found: found[0] if found[1] else "\\\\", text)
        try:
            document = orjson.loads(mended)
        except orjson.JSONDecodeError as error:
            raise QumuloError(f"Qumulo audit record: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise QumuloError("Qumulo audit record: JSON, and no object")
    return document


# Where a bare backslash met a letter that makes a valid escape of it, ``AD\nora`` became a name with a line end, which the
# cluster strips from names: the two characters that were sent are put back.
_UNMADE: Final = str.maketrans({"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def from_document(document: dict[str, Any]) -> QumuloAudit | None:
    """The audit record that a JSON object is, by syslog's names or by CloudWatch's; None for any other object."""
    get = document.get
    operation, protocol = get("operation"), get("protocol")
    if not (isinstance(operation, str) and isinstance(protocol, str)):
        return None
    user = get("user_id")
    if isinstance(user, dict) or "user_ip" in document:
        client, status, details = get("user_ip"), get("status"), get("details")
        known = details if isinstance(details, dict) else document
        names = ("file_id", "path", "target")
    else:
        client, status, user, known = get("ip_address"), get("result"), get("user"), document
        names = ("object_id", "path_1", "path_2")
    if not (isinstance(client, str) and isinstance(status, str)) or address(client) is None:
        return None
    sid = auth_id = ""
    if isinstance(user, dict):
        sid, auth_id, user = _plain_text(user.get("sid")), _plain_text(user.get("auth_id")), user.get("name")
    after = known.get("after")
    owner = after.get("owner") if isinstance(after, dict) else None
    file_id, path, target = (_plain_text(known.get(name)) for name in names)
    return QumuloAudit(
        client,
        None,
        _plain_text(user).translate(_UNMADE),
        protocol,
        operation,
        status,
        file_id,
        path,
        target,
        sid,
        auth_id,
        _plain_text(owner.get("sid")) or _plain_text(owner.get("auth_id")) if isinstance(owner, dict) else "",
    )


def _plain_text(value: object) -> str:
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


_SID = re.compile(r"S-1-[0-9]+(?:-[0-9]+)*", re.IGNORECASE)
_NUMBER = re.compile(r"(?:(?:uid|gid|auth_id|auth-id)[:=]? ?)?[0-9]+", re.IGNORECASE)


def split_user(user_id: str) -> tuple[str | None, str | None]:
    """Name and domain of a user id: of ``AD\\alice``, ``alice@corp.example``, a local name; none of a SID, a UID or nobody."""
    if user_id in {"", "-", "none"} or _NUMBER.fullmatch(user_id) is not None or _SID.fullmatch(user_id) is not None:
        return None, None
    domain, sign, name = user_id.partition("\\")
    if not sign:
        name, _, domain = user_id.rpartition("@")
        if not name:
            return user_id, None
    return name or None, domain or None


def format_json(audit: QumuloAudit) -> str:
    """Write a record as the cluster's JSON for syslog, with the escapes that JSON wants. ``parse`` reads it back.

    Line ends are taken out as in CSV, and the other control characters out of the user's name; there is no room for a node's name.
    """
    details: dict[str, Any] = {
        "file_id": audit.file_id, "path": _stripped(audit.file_path), "target": _stripped(audit.secondary_file_path)
    }  # fmt: skip
    if audit.file_owner:
        details["after"] = {"owner": {"sid": audit.file_owner}}
    name = _CONTROL.sub("", audit.user_id)
    document = {
        "user_id": {"sid": audit.user_sid, "auth_id": audit.user_auth_id, "name": name},
        "user_ip": audit.client_ip,
        "protocol": audit.protocol,
        "operation": audit.operation,
        "status": audit.error_status,
        "details": details,
    }
    return orjson.dumps(document).decode()


_CONTROL = re.compile(r"[\x00-\x1f]")


def _stripped(text: str) -> str:
    return text.replace("\n", "").replace("\r", "")


def format_line(audit: QumuloAudit) -> str:
    """Write the CSV body as the cluster does: user id and paths quoted, line ends taken out. ``parse`` reads it back."""
    node = "" if audit.node_name is None else f"{_plain(audit.node_name)},"
    return (
        f"{audit.client_ip},{node}{_quote(audit.user_id)},{audit.protocol},{audit.operation},{audit.error_status},"
        f"{audit.file_id},{_quote(audit.file_path)},{_quote(audit.secondary_file_path)}"
    )


def _plain(text: str) -> str:
    return _quote(text) if '"' in text or "," in text else _stripped(text)


def _quote(text: str) -> str:
    escaped = _stripped(text).replace('"', '""')
    return f'"{escaped}"'
