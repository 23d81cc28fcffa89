"""Windows event log records out of the JSON that shippers make of them, and what the logon events of the Security log say.

Shapes read: `winlog` of Winlogbeat 7 and 8 and Elastic Agent (nested, or with dots in the keys), the flat records of Winlogbeat 5
and 6 and of NXLog and others (`EventID`, `Channel`, and the data's names at the root), and the event's XML turned into JSON
(`Event.System`, `Event.EventData`). Sources: Microsoft, "Audit logon events" and the page of each event id; [MS-ERREF] section 2.3
for status codes; RFC 4120 section 7.5.9 for those of Kerberos; Elastic, "Winlogbeat exported fields".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from weir.protocols._isotime import iso_to_micros
from weir.protocols._values import NOTHING, address, identifier, object_of, text

__all__ = ["LOGON_EVENTS", "LogonRule", "WindowsEvent", "decode", "ip_of", "is_security", "logon_type", "reason_of", "split_user"]


class WindowsEvent(NamedTuple):
    """One record of a Windows event log.

    `data` is the event's own data by Microsoft's names, as text; empty values and the `-` that stands for none are left out.
    `keywords` are words ("Audit Success"). `time` is the text as given, for records that no shipper gave a time of its own.
    """

    event_id: int
    channel: str | None
    provider: str | None
    computer: str | None
    record_id: str | None
    keywords: tuple[str, ...]
    data: dict[str, str]
    time: str | None = None

    @property
    def outcome(self) -> str | None:
        """success or failure, where it is an audit; else None."""
        words = " ".join(self.keywords).lower()
        return "success" if "success" in words else "failure" if "failure" in words else None

    @property
    def time_us(self) -> tuple[int, bool] | None:
        """When it happened, in microseconds, and whether that is UTC (it names its zone) or the computer's local time."""
        if self.time is None or (micros := iso_to_micros(self.time)) is None:
            return None
        return micros, self.time[-1] in "Zz" or "+" in self.time or "-" in self.time[11:]


class LogonRule(NamedTuple):
    """How a logon event reads: action and type in ECS's words; outcome, None where the status decides; who acted, and upon whom.

    `user` and `acted_on` are prefixes of the data's names, `Target` or `Subject`.
    """

    action: str
    type: str
    outcome: str | None
    user: str = "Target"
    acted_on: str | None = None
    protocol: str | None = None


LOGON_EVENTS: Final = {
    4624: LogonRule("logged-in", "start", "success"),
    4625: LogonRule("logon-failed", "start", "failure"),
    4634: LogonRule("logged-out", "end", "success"),
    4647: LogonRule("logged-out", "end", "success"),
    4648: LogonRule("logged-in-explicit", "start", "success", "Subject", "Target"),
    4740: LogonRule("locked-out-user-account", "info", "success", "Subject", "Target"),
    4768: LogonRule("kerberos-authentication-ticket-requested", "start", None, protocol="Kerberos"),
    4769: LogonRule("kerberos-service-ticket-requested", "start", None, protocol="Kerberos"),
    4770: LogonRule("kerberos-service-ticket-renewed", "start", "success", protocol="Kerberos"),
    4771: LogonRule("kerberos-preauth-failed", "start", "failure", protocol="Kerberos"),
    4776: LogonRule("credential-validated", "start", None, protocol="NTLM"),
}
"""By event id; actions are those of Elastic's Winlogbeat module for the Security log."""

_LOGON_TYPES: Final = {
    0: "system",
    2: "interactive",
    3: "network",
    4: "batch",
    5: "service",
    7: "unlock",
    8: "network_cleartext",
    9: "new_credentials",
    10: "remote_interactive",
    11: "cached_interactive",
    12: "cached_remote_interactive",
    13: "cached_unlock",
}

_STATUS: Final = {
    0xC0000022: "access denied",
    0xC000005E: "no logon server available",
    0xC0000064: "user does not exist",
    0xC000006A: "wrong password",
    0xC000006C: "password does not meet the policy",
    0xC000006D: "bad user name or password",
    0xC000006E: "account restriction",
    0xC000006F: "outside permitted hours",
    0xC0000070: "workstation not permitted",
    0xC0000071: "password expired",
    0xC0000072: "account disabled",
    0xC000009A: "insufficient resources",
    0xC00000DC: "server in wrong state",
    0xC0000133: "clocks too far apart",
    0xC000015B: "logon type not granted",
    0xC000018A: "no trust secret at this computer",
    0xC000018B: "no trust account at the domain",
    0xC000018C: "trust with the domain failed",
    0xC000018D: "trust with this computer failed",
    0xC0000192: "netlogon service not started",
    0xC0000193: "account expired",
    0xC0000197: "account of a global group",
    0xC0000198: "interdomain trust account used",
    0xC0000199: "computer account used",
    0xC000019A: "server account used",
    0xC0000224: "password must be changed",
    0xC0000225: "not found",
    0xC0000234: "account locked out",
    0xC00002EE: "unspecified error",
    0xC0000320: "no logon server available",
    0xC0000371: "no secrets at a read-only domain controller",
    0xC0000380: "wrong PIN",
    0xC0000388: "downgrade attack suspected",
    0xC0000413: "not allowed by the authentication firewall",
}

_KERBEROS: Final = {
    0x01: "client entry expired",
    0x02: "server entry expired",
    0x03: "protocol version not supported",
    0x04: "client key is of an old master key",
    0x05: "server key is of an old master key",
    0x06: "user does not exist",
    0x07: "server does not exist",
    0x08: "several entries for the principal",
    0x09: "no key for client or server",
    0x0A: "ticket not eligible for postdating",
    0x0B: "start time after end time",
    0x0C: "policy rejects the request",
    0x0D: "option cannot be granted",
    0x0E: "encryption type not supported",
    0x0F: "checksum type not supported",
    0x10: "pre-authentication type not supported",
    0x11: "transited type not supported",
    0x12: "account disabled, expired or locked out",
    0x13: "server credentials revoked",
    0x14: "ticket revoked",
    0x15: "client not yet valid",
    0x16: "server not yet valid",
    0x17: "password expired",
    0x18: "wrong password",
    0x19: "pre-authentication required",
    0x1A: "server and ticket do not match",
    0x1B: "server is for user-to-user only",
    0x1C: "policy rejects the transited path",
    0x1D: "service not available",
    0x1F: "integrity check failed",
    0x20: "ticket expired",
    0x21: "ticket not yet valid",
    0x22: "request is a replay",
    0x23: "ticket is not for us",
    0x24: "ticket and authenticator do not match",
    0x25: "clocks too far apart",
    0x26: "address does not match",
    0x27: "protocol version mismatch",
    0x28: "invalid message type",
    0x29: "message modified",
    0x2A: "message out of order",
    0x2C: "key version not available",
    0x2D: "service key not available",
    0x2E: "mutual authentication failed",
    0x2F: "incorrect message direction",
    0x30: "other authentication method required",
    0x31: "incorrect sequence number",
    0x32: "inappropriate checksum type",
    0x33: "path policy rejects the request",
    0x34: "response too large for UDP",
    0x3C: "generic error",
    0x3D: "field too long",
    0x3E: "client not trusted",
    0x3F: "KDC not trusted",
    0x40: "invalid signature",
    0x41: "higher encryption level needed",
    0x42: "certificate does not match",
    0x43: "no ticket-granting ticket",
    0x44: "wrong realm",
    0x45: "user-to-user ticket required",
}

_AUDITS: Final = frozenset({"Microsoft-Windows-Security-Auditing", "Microsoft Windows security auditing.", "Security"})
_AUDIT_BITS: Final = ((0x20_0000_0000_0000, "Audit Success"), (0x10_0000_0000_0000, "Audit Failure"))
_MOST_DATA: Final = 128


def is_security(event: WindowsEvent) -> bool:
    """Whether it is an audit of the Security log: other providers number their events as they like."""
    return event.provider in _AUDITS if event.provider is not None else event.channel == "Security"


def decode(document: dict[str, object]) -> WindowsEvent | None:
    """The record in a document; None for one that holds no Windows event. Nothing is raised."""
    winlog = document.get("winlog")
    if type(winlog) is dict:
        event_id = winlog.get("event_id")
        if event_id is None:
            event_id = object_of(document.get("event")).get("code")
        data = {**object_of(winlog.get("user_data")), **object_of(winlog.get("event_data"))}
        return _event(event_id, winlog, _WINLOG, data, _text_of(winlog, "time_created"))
    if "EventID" in document:
        known = any(
            name in document for name in ("Channel", "SourceName", "ProviderName", "Provider", "LogName", "SourceModuleType")
        )
        data = {**object_of(document.get("EventData")), **document}
        return _event(document["EventID"], document, _FLAT, data, _flat_time(document)) if known else None
    if "event_id" in document and "log_name" in document:
        return _event(document["event_id"], document, _OLD, object_of(document.get("event_data")), None)
    if "winlog.event_id" in document or "winlog.channel" in document:
        return _dotted(document)
    event = document.get("Event")
    if type(event) is dict and type(system := event.get("System")) is dict:
        return _from_xml(event, system)
    return None


class _Names(NamedTuple):
    """What a shape calls the parts, the first that is there."""

    channel: tuple[str, ...]
    provider: tuple[str, ...]
    computer: tuple[str, ...]
    record: tuple[str, ...]
    keywords: tuple[str, ...]


_WINLOG: Final = _Names(("channel",), ("provider_name",), ("computer_name",), ("record_id",), ("keywords",))
_FLAT: Final = _Names(
    ("Channel", "LogName"),
    ("ProviderName", "Provider", "SourceName"),
    ("Hostname", "Computer", "MachineName", "ComputerName"),
    ("RecordNumber", "RecordID", "EventRecordID", "RecordId"),
    ("EventType", "Keywords"),
)
_OLD: Final = _Names(("log_name",), ("source_name",), ("computer_name",), ("record_number",), ("keywords",))


def _event(
    number: object, parts: dict[str, object], names: _Names, data: dict[str, object], time: str | None
) -> WindowsEvent | None:
    event_id = _number(number)
    if event_id is None:
        return None
    return WindowsEvent(
        event_id,
        _first(parts, names.channel),
        _first(parts, names.provider),
        _first(parts, names.computer),
        next((found for name in names.record if (found := identifier(parts.get(name)))), None),
        _keywords(next((parts[name] for name in names.keywords if parts.get(name)), None)),
        _data(data),
        time,
    )


def _dotted(document: dict[str, object]) -> WindowsEvent | None:
    parts = {key[7:]: value for key, value in document.items() if key.startswith("winlog.")}
    data = {**object_of(parts.get("user_data")), **object_of(parts.get("event_data"))}
    for key, value in parts.items():
        if key.startswith(("event_data.", "user_data.")):
            data[key.partition(".")[2]] = value
    number = parts.get("event_id", document.get("event.code"))
    return _event(number, parts, _WINLOG, data, _text_of(parts, "time_created"))


def _from_xml(event: dict[str, object], system: dict[str, object]) -> WindowsEvent | None:
    """Converters write an attribute as `@Name`, `Name` or `_Name`, and the text beside attributes as `#text`, `text` or `_`."""
    provider = system.get("Provider")
    time = system.get("TimeCreated")
    parts = {
        "Channel": _xml_text(system.get("Channel")),
        "ProviderName": _attribute(provider, "Name"),
        "Computer": _xml_text(system.get("Computer")),
        "EventRecordID": _xml_text(system.get("EventRecordID")),
        "Keywords": _xml_text(system.get("Keywords")),
    }
    data: dict[str, object] = {}
    given = event.get("EventData", event.get("UserData"))
    items = object_of(given).get("Data", given)
    if isinstance(items, dict):
        data = items
    for item in items[:_MOST_DATA] if isinstance(items, list) else ():
        if (name := _attribute(item, "Name")) is not None:
            data[name] = _xml_text(item)
    return _event(_xml_text(system.get("EventID")), parts, _FLAT, data, _attribute(time, "SystemTime") or text(time))


def _attribute(element: object, name: str) -> str | None:
    found = object_of(element)
    inner = object_of(found.get("#attributes", found.get("$", found.get("attributes", NOTHING))))
    return next((value for key in (f"@{name}", name, f"_{name}") if (value := text(found.get(key) or inner.get(key)))), None)


def _xml_text(element: object) -> object:
    if not isinstance(element, dict):
        return element
    return next((element[key] for key in ("#text", "text", "_", "content", "value", "Value") if key in element), None)


def _flat_time(document: dict[str, object]) -> str | None:
    return _first(document, ("EventTime", "TimeCreated", "SystemTime", "TimeGenerated"))


def _text_of(parts: dict[str, object], name: str) -> str | None:
    return text(parts.get(name))


def _first(parts: dict[str, object], names: tuple[str, ...]) -> str | None:
    return next((found for name in names if (found := text(parts.get(name)))), None)


def _number(value: object) -> int | None:
    """An event id: a number, its digits, or an object around one of them."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("#text", "text", "id", "value") if key in value), None)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**32 else None


def _keywords(value: object) -> tuple[str, ...]:
    """The words; from the event's XML they come as a mask (winmeta.xml), from NXLog as AUDIT_SUCCESS."""
    if isinstance(value, list):
        return tuple(item for item in value[:_MOST_DATA] if isinstance(item, str))
    mask = value if type(value) is int else _hexadecimal(value)
    if mask is not None:
        return tuple(word for bit, word in _AUDIT_BITS if mask & bit)
    return (value,) if isinstance(value, str) and value else ()


def _hexadecimal(value: object) -> int | None:
    """A mask or status as Windows prints it, or the same in decimal, which may have a sign."""
    if not isinstance(value, str) or not 0 < len(value) <= 20:
        return None
    if value[:2].lower() != "0x":
        digits = value[1:] if value[0] == "-" else value
        return int(value) if digits.isascii() and digits.isdigit() else None
    try:
        return int(value, 16)
    except ValueError:
        return None


def _data(data: dict[str, object]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in data.items():
        if len(found) == _MOST_DATA:
            break
        if type(value) is str:
            stripped = value.strip()
            if stripped and stripped != "-":
                found[name] = stripped
        elif type(value) is int:
            found[name] = str(value)
    return found


def ip_of(data: dict[str, str]) -> str | None:
    """The client's address in canonical text; Windows writes IPv4 also as `::ffff:192.0.2.1`, and IPv6 with a zone behind `%`."""
    found = data.get("IpAddress") or data.get("ClientAddress")
    if found is None:
        return None
    if found[:7].lower() == "::ffff:" and "." in found:
        found = found[7:]
    return address(found.partition("%")[0])


def logon_type(data: dict[str, str]) -> tuple[int | None, str | None]:
    """The logon type's number and word."""
    code = data.get("LogonType", "")
    number = int(code) if code.isascii() and code.isdigit() and len(code) < 5 else None
    return number, None if number is None else _LOGON_TYPES.get(number)


def reason_of(event: WindowsEvent) -> tuple[str | None, str | None, bool | None]:
    """The status code as sent, what it means in words, and whether it means success; None where nothing is said.

    Of a status and a sub-status the second says more, unless it is zero.
    """
    sent, code = None, None
    for name in ("SubStatus", "Status", "FailureCode", "ErrorCode"):
        value = event.data.get(name)
        number = _hexadecimal(value)
        if value is None or number is None:
            continue
        if sent is None or (code == 0 and number != 0):
            sent, code = value, number
    if code is None:
        return sent, None, None
    kerberos = event.event_id in {4768, 4769, 4771}
    words = None if code == 0 else (_KERBEROS if kerberos and code < 0x100 else _STATUS).get(code)
    return sent, words, code == 0


def split_user(name: str | None, domain: str | None) -> tuple[str | None, str | None]:
    """A user's name without its domain, and the domain: Windows writes `user`, `user@REALM` and `DOMAIN\\user`."""
    if name is None:
        return None, domain
    if "\\" in name:
        before, _, after = name.partition("\\")
        return (after, domain or before or None) if after else (name, domain)
    before, _, after = name.rpartition("@")
    return (before, domain or after or None) if before and after else (name, domain)
