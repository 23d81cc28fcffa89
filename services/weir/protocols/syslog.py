"""Syslog messages: RFC 5424 and RFC 3164 in, RFC 5424 out.

Character policy. A unit is read as UTF-8. Where that fails it is read as ISO 8859-1, in which every byte is one code
point, so that the text can always be turned back into the bytes that came and always fits an Avro string; structured data
that is UTF-8 by itself is still given as such. A byte order mark in front of MSG is not part of the message (RFC 5424
section 6.4), and neither are CR, LF and NUL at the very end, which are terminators that some senders leave in a datagram.

RFC 3164 describes what senders were seen to do, so what is read under its name is wide: see `_RFC3164` for its dialects and
`_DEVICE_PREFIX` for what network devices put in front of the time.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple

__all__ = ["Format", "SyslogMessage", "format_rfc5424", "is_text", "parse"]

Format = Literal["rfc5424", "rfc3164", "unparsed"]


class SyslogMessage(NamedTuple):
    """One syslog message. What the sender left out, or sent as the nil value ``-``, is None."""

    format: Format
    facility: int | None  # 0 to 23
    severity: int | None  # 0 (emergency) to 7 (debug)
    timestamp_us: int | None  # UTC microseconds since 1970
    hostname: str | None
    app_name: str | None
    proc_id: str | None
    msg_id: str | None
    structured_data: dict[str, dict[str, str]] | None
    message: str
    device: dict[str, str] | None = None
    """What a network device wrote around the time: ``sequence``, ``slot``, ``task``, ``uptime``, and ``clock``, which is ``*``
    where it says that its clock is not set and ``.`` where it has lost its time server."""


_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_MAX_PRI: Final = 191
_TERMINATORS: Final = "\r\n\0"
_BOM: Final = "\ufeff"
_BOM_AS_LATIN_1: Final = "\xef\xbb\xbf"
_BOM_BYTES: Final = b"\xef\xbb\xbf"

# A sender's clock or zone may be off, so a time without a year may lie this far ahead of its receipt and still be of the
# current year; anything later is of the year before. 24 hours of zone and date line, two of plain clock error.
_AHEAD: Final = 26 * 3600 * _SECOND

# All quantifiers that could meet each other are possessive: a hostile line costs one pass, whatever it holds.
_PRI = r"<(0|[1-9][0-9]{0,2})>"
_CLOCK = r"([01][0-9]|2[0-3]):([0-5][0-9]):"
_DATE = r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
_SD_NAME = r"[!#-<>-\\^-~]{1,32}+"
_PARAM_VALUE = r'[^"\\\]]*+(?:\\.[^"\\\]]*+)*+'
_SD_ELEMENT = rf'\[{_SD_NAME}(?: {_SD_NAME}="{_PARAM_VALUE}")*+\]'
# To the second in one group: in a stream, one and the same second comes again and again, and is read once.
_TIME = (
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.([0-9]++))?"
    r"(?:Z|([+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
)
_RFC5424 = re.compile(
    rf"{_PRI}[1-9][0-9]{{0,2}} "
    rf"(?:-|{_TIME}) "
    r"([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
    rf"(?:-|((?:{_SD_ELEMENT})++))(?: |\Z)",
    re.DOTALL,
)
# As much of a header as there is.
_RFC5424_BEGIN = re.compile(
    rf"{_PRI}[1-9][0-9]{{0,2}} (?:-|{_TIME}) "
    r"(?:([!-~]{1,255}+)(?= |\Z)(?: ([!-~]{1,48}+)(?= |\Z)(?: ([!-~]{1,128}+)(?= |\Z)(?: ([!-~]{1,32}+)(?= |\Z))?+)?+)?+)?+"
)
_SD_TOKEN = re.compile(rf'\[({_SD_NAME})| ({_SD_NAME})="({_PARAM_VALUE})"', re.DOTALL)
_SD_ESCAPE = re.compile(r'\\(["\\\]])')

# Zone words behind a time, in minutes east of UTC: RFC 822 section 5.1 for North America, the abbreviations of the IANA time zone
# database otherwise. None: the word is used in several parts of the world, so the zone of the source decides.
_ZONES: Final[dict[str, int | None]] = {
    "UTC": 0, "GMT": 0, "UCT": 0, "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "CEST": 120, "MET": 60, "MEST": 120,
    "EET": 120, "EEST": 180, "MSK": 180, "SAST": 120, "PKT": 300, "HKT": 480, "AWST": 480, "JST": 540, "KST": 540,
    "ACST": 570, "ACDT": 630, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780, "NST": -210, "NDT": -150,
    "AST": -240, "ADT": -180, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360,
    "PST": -480, "PDT": -420, "AKST": -540, "AKDT": -480, "HST": -600, "IST": None, "SGT": 480, "WIB": 420,
}  # fmt: skip

# Relaxed where senders are: one or two spaces before the day and behind the time, a day of the week, a year before the month,
# behind the day or behind the time, fractions, a zone as an offset with or without its colon or as a word, a leap second. The
# host ends in a space, or is what AIX calls "Message forwarded from h:", and is not taken from "tag:", nor from what pairs, lists,
# JSON or "last message repeated" begin with; a tag ends in a colon or in "[pid]", and only with a pid may it be several words
# ("Slack Helper[12]: "). A tag begins with a letter or digit (section 4.1.3), so "%ASA-6-302013:" is none. "CEF:" and "LEEF:"
# are where the payload begins and no tag, although they look like one.
_NO_WORD = r"(?!CEF:|LEEF:|%)"
_RFC3164 = re.compile(
    rf"(?:{_PRI})?+:? ?"
    r"(?:(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?+(?:([12][0-9]{3}) )?+([A-Z][a-z]{2}) {1,2}([0-9]{1,2})(?: ([12][0-9]{3}))? "
    rf"|{_DATE}[T ])"
    rf"{_CLOCK}([0-5][0-9]|60)(?:[.,]([0-9]++))?"
    r"(?:(Z)| ?([+-])([01][0-9]|2[0-3]):?([0-5][0-9])(?![0-9])"
    rf"| (?=[A-Z]{{3}})({'|'.join(sorted(_ZONES, key=len, reverse=True))})(?=:? |:?\Z))?+"
    r"(?: ((?:19|20)[0-9]{2})(?=:? ))?+:?+(?: {1,2}|\Z)"
    r"(?:Message forwarded from ([^\s:]{1,254}+): |"
    rf"{_NO_WORD}(?!--- |last message )([^\s\[\]{{}}(),=\"]{{1,254}}+)(?<!:) )?+"
    rf"(?:{_NO_WORD}([^\s:\[\]{{}}\"]{{1,128}}+)(?:\[([^\s\]]{{1,128}}+)\]:? ?|:(?: |\Z))"
    r"|([A-Z][^\s:\[\]]{0,63}+(?: [A-Z0-9(][^\s:\[\]]{0,63}+){1,4}+)\[([0-9]{1,10})\]: ?)?+"
)

# What Cisco's devices put between PRI and time: a sequence number, their name or address, another sequence number, the slot (IOS
# XR) or the task (WLC), and how far their clock may be trusted.
_DEVICE_PREFIX = re.compile(
    rf"(?:{_PRI})?+(?![1-9][0-9]{{0,2}} ):? {{0,2}}+(?:([0-9]{{1,10}}): {{1,2}})?+"
    r"(?:((?:[A-Z]{1,3}[0-9]?/)[0-9A-Z/]{1,32}+):|([0-9A-Za-z_][^\s*%=\[\]{}(),\"]{0,253}+) ?(?:: ?)?+)??"
    r"(?:([0-9]{1,10}): {1,2})?+(?:\*([0-9A-Za-z_][^\s:]{0,63}+): )?+([.*]?+)"
    r"(?=(?:[12][0-9]{3} )?+[A-Z][a-z]{2} {1,2}[0-9]|[12][0-9]{3}-[0-9]{2}-[0-9]{2}[T ]"
    r"|[0-9]{1,5}:[0-9]{2}:[0-9]{2}: |(?:[0-9]{1,4}[ywdh]){1,2}: )"
)
# Time since start ("service timestamps log uptime"): 00:00:46, 1w2d, 3d04h, 2y13w.
_UPTIME = re.compile(r"([0-9]{1,5}:[0-9]{2}:[0-9]{2}|(?:[0-9]{1,4}[ywdh]){1,2}): ")
# A relay may have left the octet count of RFC 6587 in front.
_OCTET_COUNT = re.compile(r"[0-9]{1,9} (?=<[0-9]{1,3}>)")
_LEADING_PRI = re.compile(_PRI)
_LEADING_PRI_BYTES = re.compile(_PRI.encode())

_MONTHS: Final = {
    name: number
    for number, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)
}


def parse(
    data: bytes, *, received_us: int, utc_offset_minutes: int = 0, to_utc: Callable[[int], int] | None = None
) -> SyslogMessage:
    """Read one syslog message (RFC 5424 section 6, RFC 3164 section 4).

    ``received_us`` is the time of receipt in UTC microseconds: it gives year-less timestamps their year, the latest one in
    which the time is no more than 26 hours ahead of the receipt. ``utc_offset_minutes`` is the sender's zone (east
    positive), used where the timestamp names none; ``to_utc``, from local to UTC microseconds, is used in its place where it
    is given, for zones whose offset depends on the time.

    Never raises for the form of ``data``. What conforms to neither RFC comes back as ``unparsed`` with the whole text as
    its message, and with as much of the header as could be read: PRI,
     and of RFC 5424 what comes before the fault. A repeated SD-ID does not conform (RFC 5424
    section 6.3.2); the values of a repeated PARAM-NAME, which does, are joined by a comma. More than six digits of a
    fraction are accepted and cut.
    """
    # A byte order mark in front of everything is an editor's or a file's, not the sender's.
    data = data.removeprefix(_BOM_BYTES)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _mend(_parse_text(data.decode("latin-1"), received_us, utc_offset_minutes, to_utc))
    return _parse_text(text, received_us, utc_offset_minutes, to_utc)


def _parse_text(text: str, received_us: int, utc_offset_minutes: int, to_utc: Callable[[int], int] | None) -> SyslogMessage:
    found = _RFC5424.match(text)
    if found is not None:
        message = _rfc5424(text, found)
        return _unparsed(text) if message is None else message
    local = to_utc if to_utc is not None else _fixed_zone(utc_offset_minutes)
    found = _RFC3164.match(text)
    message = _rfc3164(text, found, received_us, local) if found is not None else _device(text, received_us, local)
    return _unparsed(text) if message is None else message


@lru_cache(maxsize=256)
def _fixed_zone(utc_offset_minutes: int) -> Callable[[int], int]:
    return lambda local: local - utc_offset_minutes * 60 * _SECOND


def _device(text: str, received_us: int, local: Callable[[int], int]) -> SyslogMessage | None:
    """What has more than a PRI in front of its time, or the time since its start for one."""
    remnant = _OCTET_COUNT.match(text)
    if remnant is not None:
        return _parse_text(text[remnant.end() :], received_us, 0, local)
    found = _DEVICE_PREFIX.match(text)
    if found is None:
        return None
    pri, first, slot, host, second, task, clock = found.groups()
    priority = None if pri is None else int(pri)
    if priority is not None and priority > _MAX_PRI:
        return None
    around = {"sequence": second or first, "slot": slot, "task": task, "clock": clock}
    message = None
    if (begin := _RFC3164.match(text, found.end())) is not None:
        message = _rfc3164(text, begin, received_us, local)
    elif (begin := _UPTIME.match(text, found.end())) is not None:
        around["uptime"] = begin[1]
        rest = text[begin.end() :].rstrip(_TERMINATORS)
        message = SyslogMessage("rfc3164", None, None, None, None, None, None, None, None, rest)
    if message is None:
        return None
    return message._replace(
        facility=None if priority is None else priority >> 3,
        severity=None if priority is None else priority & 7,
        hostname=(host or "").rstrip(":") or message.hostname,
        device={name: value for name, value in around.items() if value},
    )


def _unparsed(text: str) -> SyslogMessage:
    """The whole text as the message, with as much of a header as can be read from its begin."""
    kept = text.rstrip(_TERMINATORS)
    found = _LEADING_PRI.match(text)
    if found is None or (priority := int(found[1])) > _MAX_PRI:
        return SyslogMessage("unparsed", None, None, None, None, None, None, None, None, kept)
    facility, severity = priority >> 3, priority & 7
    begin = _RFC5424_BEGIN.match(text)
    if begin is None:
        return SyslogMessage("unparsed", facility, severity, None, None, None, None, None, None, kept)
    timestamp = None if begin[2] is None else _rfc3339_us(*begin.group(2, 3, 4))
    host, app, proc, msg_id = (None if value == "-" else value for value in begin.group(5, 6, 7, 8))
    return SyslogMessage("unparsed", facility, severity, timestamp, host, app, proc, msg_id, None, kept)


def _rfc5424(text: str, found: re.Match[str]) -> SyslogMessage | None:
    pri, second, fraction, zone, host, app, proc, msg_id, sd_text = found.groups()
    priority = int(pri)
    if priority > _MAX_PRI:
        return None
    timestamp = None
    if second is not None:
        timestamp = _rfc3339_us(second, fraction, zone)
        if timestamp is None:
            return None
    structured_data = None
    if sd_text is not None:
        structured_data = _structured_data(sd_text)
        if structured_data is None:
            return None
    message = text[found.end() :].rstrip(_TERMINATORS)
    if message.startswith(_BOM):
        message = message[1:]
    return SyslogMessage(
        "rfc5424",
        priority >> 3,
        priority & 7,
        timestamp,
        None if host == "-" else host,
        None if app == "-" else app,
        None if proc == "-" else proc,
        None if msg_id == "-" else msg_id,
        structured_data,
        message,
    )


def _rfc3339_us(second: str, fraction: str | None, zone: str | None) -> int | None:
    """UTC microseconds; None for a day that no calendar has. Digits of the fraction beyond the sixth are cut."""
    moment = _second_us(second)
    if moment is None:
        return None
    if fraction is not None:
        moment += int(fraction[:6].ljust(6, "0"))
    return moment if zone is None else moment - _zone_us(zone[0], zone[1:3], zone[4:])


@lru_cache(maxsize=4096)
def _second_us(second: str) -> int | None:
    """Microseconds since 1970 of a ``YYYY-MM-DDThh:mm:ss`` in UTC; None for a day that no calendar has."""
    midnight = _midnight_us(second[:10])
    if midnight is None:
        return None
    return midnight + (int(second[11:13]) * 3600 + int(second[14:16]) * 60 + int(second[17:])) * _SECOND


def _structured_data(text: str) -> dict[str, dict[str, str]] | None:
    elements: dict[str, dict[str, str]] = {}
    params: dict[str, str] = {}
    for sd_id, name, value in _SD_TOKEN.findall(text):
        if sd_id:
            if sd_id in elements:
                return None
            params = elements[sd_id] = {}
        else:
            plain = _SD_ESCAPE.sub(r"\1", value) if "\\" in value else value
            params[name] = f"{params[name]},{plain}" if name in params else plain
    return elements


def _rfc3164(text: str, found: re.Match[str], received_us: int, local: Callable[[int], int]) -> SyslogMessage | None:
    (pri, year_before, month, day, year, iso_day, hour, minute, second, fraction, utc, sign, zone_h, zone_m, word, year_behind,
     forwarded, host, app, proc, words, words_proc) = found.groups()  # fmt: skip
    facility = severity = None
    if pri is not None:
        priority = int(pri)
        if priority > _MAX_PRI:
            return None
        facility, severity = priority >> 3, priority & 7
    time_of_day = (int(hour) * 3600 + int(minute) * 60 + int(second)) * _SECOND
    if fraction is not None:
        time_of_day += int(fraction[:6].ljust(6, "0"))
    east: int | None = None
    if sign is not None:
        east = _zone_us(sign, zone_h, zone_m)
    elif utc is not None:
        east = 0
    elif word is not None and (minutes := _ZONES[word]) is not None:
        east = minutes * 60 * _SECOND
    if month is None:
        midnight = _midnight_us(iso_day)
    elif (known := year or year_before or year_behind) is not None:
        midnight = _midnight_us(f"{known}-{_MONTHS.get(month, 0):02}-{int(day):02}")
    else:
        midnight = _latest_year(month, day, time_of_day, received_us, local, east)
    if midnight is None:
        return None
    timestamp = midnight + time_of_day
    timestamp = local(timestamp) if east is None else timestamp - east
    message = text[found.end() :].rstrip(_TERMINATORS)
    return SyslogMessage(
        "rfc3164", facility, severity, timestamp, host or forwarded, app or words, proc or words_proc, None, None, message
    )


def _latest_year(
    month: str, day: str, time_of_day: int, received_us: int, local: Callable[[int], int], east: int | None
) -> int | None:
    """Midnight of the latest such day on which this time, as UTC, is not too far ahead of its receipt."""
    limit = received_us + _AHEAD
    for midnight in _midnights_near(month, day, received_us // _DAY):
        moment = midnight + time_of_day
        # No zone is as far as two days from UTC: most times need not be converted to be judged.
        if moment < limit - 2 * _DAY:
            return midnight
        if moment < limit + 2 * _DAY and (local(moment) if east is None else moment - east) <= limit:
            return midnight
    return None


@lru_cache(maxsize=1024)
def _midnights_near(month: str, day: str, received_day: int) -> tuple[int, ...]:
    """The midnights of this month and day, from next year's backwards; 29 February reaches eight years back."""
    number = _MONTHS.get(month)
    if number is None:
        return ()
    ordinal = min(max(_EPOCH_ORDINAL + received_day, 1), date.max.toordinal())
    year = date.fromordinal(ordinal).year
    near = (_midnight_us(f"{candidate:04}-{number:02}-{int(day):02}") for candidate in range(year + 1, year - 9, -1))
    return tuple(midnight for midnight in near if midnight is not None)[:3]


@lru_cache(maxsize=1024)
def _midnight_us(day: str) -> int | None:
    """Microseconds since 1970 at 00:00 UTC of a ``YYYY-MM-DD``; None for a day that no calendar has."""
    try:
        return (date.fromisoformat(day).toordinal() - _EPOCH_ORDINAL) * _DAY
    except ValueError:
        return None


@lru_cache(maxsize=256)
def _zone_us(sign: str, hours: str, minutes: str) -> int:
    offset = (int(hours) * 60 + int(minutes)) * 60 * _SECOND
    return offset if sign == "+" else -offset


def _mend(message: SyslogMessage) -> SyslogMessage:
    """Undo the ISO 8859-1 reading where a part is UTF-8 after all: structured data, and the byte order mark."""
    if message.format != "rfc5424":
        return message
    text = message.message.removeprefix(_BOM_AS_LATIN_1)
    elements = message.structured_data
    if elements is not None:
        elements = {sd_id: {name: _as_utf8(value) for name, value in params.items()} for sd_id, params in elements.items()}
    return message._replace(message=text, structured_data=elements)


def _as_utf8(text: str) -> str:
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text


_C0_BUT_WHITESPACE: Final = bytes(code for code in range(0x20) if code not in b"\t\r\n")
_DEL_AND_C1: Final = bytes(range(0x7F, 0xA0))


def is_text(data: bytes) -> bool:
    """Whether a unit may be a log line; False only for what is evidently something else (TLS, a scan, a wrong port).

    True for anything that begins with a PRI of 0 to 191. Without one, after CR, LF and NUL at the end are taken off: False
    if any C0 control byte (0x00 to 0x1F) but tab, CR and LF is left, and False if the bytes are not UTF-8 and more than one
    in ten of them is DEL or in the C1 range (0x7F to 0x9F), which 8-bit alphabets leave nearly empty. Else True, also for
    an empty unit.
    """
    pri = _LEADING_PRI_BYTES.match(data)
    if pri is not None and int(pri[1]) <= _MAX_PRI:
        return True
    body = data.rstrip(b"\r\n\0")
    if len(body.translate(None, _C0_BUT_WHITESPACE)) != len(body):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return (len(body) - len(body.translate(None, _DEL_AND_C1))) * 10 <= len(body)
    return True


_NOT_PRINTABLE_ASCII = re.compile(r"[^!-~]")
_WHOLE_SD_NAME = re.compile(_SD_NAME)
_TO_ESCAPE = re.compile(r'(["\\\]])')
_ESCAPED: Final = r"\\\1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_rfc5424(
    *,
    facility: int,
    severity: int,
    timestamp_us: int | None,
    hostname: str | None = None,
    app_name: str | None = None,
    proc_id: str | None = None,
    msg_id: str | None = None,
    structured_data: Mapping[str, Mapping[str, str]] | None = None,
    message: str = "",
    bom: bool = False,
) -> bytes:
    """Write one RFC 5424 message, without a frame around it. ``parse`` gives the same fields back.

    Header values may come from elsewhere, so they are made to fit: characters outside printable ASCII become ``?``, what is
    too long is cut at the RFC's limit, an empty value is nil. PARAM-VALUEs are escaped. Structured data names come from the
    program: a ValueError names one that RFC 5424 section 6.3.2 forbids, and so it does for a facility, severity or time
    that cannot be written. ``bom`` puts a byte order mark in front of the message, which many receivers mishandle.
    """
    if not (0 <= facility <= 23 and 0 <= severity <= 7):
        raise ValueError(f"facility {facility} or severity {severity} is out of range: 0 to 23 and 0 to 7 exist")
    sd_text = "".join(_format_element(sd_id, params) for sd_id, params in (structured_data or {}).items()) or "-"
    header = (
        f"<{facility * 8 + severity}>1 {_format_time(timestamp_us)} {_header_value(hostname, 255)} "
        f"{_header_value(app_name, 48)} {_header_value(proc_id, 128)} {_header_value(msg_id, 32)} {sd_text}"
    )
    body = f" {_BOM if bom else ''}{message}" if message else ""
    return (header + body).encode("utf-8", "replace")


def _format_time(timestamp_us: int | None) -> str:
    if timestamp_us is None:
        return "-"
    try:
        moment = _EPOCH + timedelta(microseconds=timestamp_us)
    except OverflowError:
        raise ValueError(f"timestamp {timestamp_us} is outside the years 1 to 9999: give UTC microseconds") from None
    # Not strftime: it writes years before 1000 without their leading zeros.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _header_value(value: str | None, limit: int) -> str:
    return _NOT_PRINTABLE_ASCII.sub("?", value[:limit]) if value else "-"


def _format_element(sd_id: str, params: Mapping[str, str]) -> str:
    for name in (sd_id, *params):
        if _WHOLE_SD_NAME.fullmatch(name) is None:
            raise ValueError(f'structured data name {name!r} is not 1 to 32 printable ASCII characters without = ] " or space')
    written = "".join(f' {name}="{_TO_ESCAPE.sub(_ESCAPED, value)}"' for name, value in params.items())
    return f"[{sd_id}{written}]"
