"""RFC 5424: the vectors of go-syslog, and the messages of Metron's syslog5424 parser."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from weir.protocols import syslog
from weir.tools.conformance import Case
from weir.tools.conformance._compare import Difference, Reason, compare
from weir.tools.conformance._syslog import micros

__all__ = ["cases"]

RECEIVED_US: Final = 1_717_243_200_000_000  # of no account: these times have their years

_FIELDS: Final = ("facility", "severity", "hostname", "appname", "procid", "msgid")


def _only_a_mark(difference: Difference) -> bool:
    return difference.field == "message" and difference.expected == "\ufeff" + str(difference.decoded)


def _other_octets(difference: Difference) -> bool:
    """The vectors are JSON, which holds no octets; read as UTF-8 with replacements, what was decoded must be what is expected."""
    if difference.field != "message" or not isinstance(difference.decoded, str) or "\ufffd" not in str(difference.expected):
        return False
    try:
        octets = difference.decoded.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return octets.decode("utf-8", "replace") == str(difference.expected).removeprefix("\ufeff")


def _lone_backslash(difference: Difference) -> bool:
    return difference.field == "valid" and difference.expected is False and difference.decoded is True


REASONS: Final[tuple[Reason, ...]] = (
    (
        _only_a_mark,
        "The byte order mark in front of MSG says that UTF-8 follows (section 6.4); it is not part of what the sender wanted "
        "to say.",
    ),
    (
        _other_octets,
        "MSG may be any octets (section 6.4, MSG-ANY). They are kept, each as one character, where the vector's JSON has lost "
        "them.",
    ),
)
LONE_BACKSLASH: Final[tuple[Reason, ...]] = (
    (
        _lone_backslash,
        "A backslash before any other character is a regular backslash, and the two are to be left as they are (section 6.3.3)"
        ": such a "
        "message is not invalid.",
    ),
)


def cases(corpus: Path) -> Iterator[Case]:
    """Each vector one case: judged valid or not as the vector says, and every field of the valid ones."""
    vectors = corpus / "syslog" / "go-syslog"
    for path in sorted(vectors.glob("rfc5424*.json")) if vectors.is_dir() else ():
        for number, vector in enumerate(json.loads(path.read_text())):
            yield _vector(f"go-syslog/{path.name}/{number}", vector)
    metron = corpus / "syslog" / "metron"
    raw, parsed = metron / "syslog5424__raw__Syslog5424Output", metron / "syslog5424__parsed__Syslog5424Parsed"
    if raw.exists() and parsed.exists():
        yield from _metron(parsed)


def _vector(name: str, vector: dict[str, Any]) -> Case:
    data = base64.b64decode(vector["input_b64"])
    message = syslog.parse(data, received_us=RECEIVED_US)
    valid = message.format == "rfc5424"
    value = vector["value"]
    expected: dict[str, Any] = {"valid": vector["valid"]}
    decoded: dict[str, Any] = {"valid": valid}
    if valid is not vector["valid"]:
        # The only way in which more is accepted than the vectors do must be to be seen in the input.
        return compare(name, expected, decoded, LONE_BACKSLASH if b"\\" in data else ())
    if isinstance(value, dict) and valid:
        stamp = value.get("timestamp")
        expected |= {field: value[field] for field in _FIELDS}
        expected |= {
            "timestamp": None if stamp is None else micros(stamp),
            "structured_data": value.get("structured_data"),
            "message": value["message"] or "",
        }
        decoded |= {
            **dict(zip(_FIELDS, (message.facility, message.severity, *message[4:8]), strict=True)),
            "timestamp": message.timestamp_us,
            "structured_data": message.structured_data,
            "message": message.message,
        }
    return compare(name, expected, decoded, REASONS)


def _metron(parsed: Path) -> Iterator[Case]:
    for number, line in enumerate(parsed.read_text().splitlines()):
        record = json.loads(line)
        message = syslog.parse(record["original_string"].encode(), received_us=RECEIVED_US)
        expected: dict[str, Any] = {
            "facility": int(record["syslog.header.facility"]),
            "severity": int(record["syslog.header.severity"]),
            "timestamp": record["timestamp"] * 1000,
            "message": record["syslog.message"],
        }
        names = {"hostName": "hostname", "appName": "app_name", "procId": "proc_id", "msgId": "msg_id"}
        for theirs, ours in names.items():
            value = record.get(f"syslog.header.{theirs}")
            expected[ours] = None if value == "-" else value
        elements: dict[str, dict[str, str]] = {}
        for key, value in record.items():
            if key.startswith("syslog.structuredData."):
                sd_id, _, param = key.removeprefix("syslog.structuredData.").rpartition(".")
                elements.setdefault(sd_id, {})[param] = value
        expected["structured_data"] = elements or None
        decoded = message._asdict() | {"timestamp": message.timestamp_us}
        yield compare(f"metron/syslog5424/{number}", expected, decoded)
