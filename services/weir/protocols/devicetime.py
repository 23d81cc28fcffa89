"""Times as devices write them: CEF's, LEEF's with a pattern of its own, and what their senders send in place of those.

Sources: "Micro Focus Security ArcSight Common Event Format", section "Date Formats"; IBM "LEEF event components",
``devTimeFormat``, whose patterns are those of Java's SimpleDateFormat.
"""

import re
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["Moment", "parse", "parse_pattern", "zone_offset"]


class Moment(NamedTuple):
    """``microseconds`` since 1970: in UTC where ``zoned``, by the clock of an unnamed zone where not."""

    microseconds: int
    zoned: bool


class _Written(NamedTuple):
    """What stands there, before the year is known."""

    year: int | None
    month: int
    day: int
    time_of_day: int  # microseconds
    offset: int | None  # of the zone from UTC, microseconds


_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LONGEST: Final = 64
# As for syslog: a time without a year is of this year unless that puts it further than this ahead of its receipt.
_AHEAD: Final = 26 * 3600 * _SECOND

_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "jan january", "feb february", "mar march", "apr april", "may", "jun june", "jul july", "aug august",
            "sep sept september", "oct october", "nov november", "dec december",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip

# Hours from UTC. Names that several zones share in practice with different offsets (IST, AST, SST) say nothing and are not here.
_ZONES: Final = {
    "z": 0, "ut": 0, "utc": 0, "gmt": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "met": 1, "cest": 2, "mest": 2, "eet": 2,
    "eest": 3, "msk": 3, "jst": 9, "kst": 9, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13, "est": -5, "edt": -4, "cst": -6,
    "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
}  # fmt: skip
_OFFSET = re.compile(r"(?:GMT|UTC)?([+-])([01]?[0-9]):?([0-5][0-9])?", re.IGNORECASE)


def zone_offset(text: str) -> int | None:
    """Microseconds east of UTC of ``Z``, ``+0200``, ``GMT+2``, ``EST``; None for a name that is none of these or not clear."""
    known = _ZONES.get(text.lower())
    if known is not None:
        return known * 3600 * _SECOND
    found = _OFFSET.fullmatch(text)
    if found is None:
        return None
    size = (int(found[2]) * 60 + int(found[3] or 0)) * 60 * _SECOND
    return size if found[1] == "+" else -size


_CLOCK = r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,:](?P<fraction>[0-9]{1,9}))?)?"
_ZONE = r"(?:\s{0,2}\(?(?P<zone>[+-][0-9]{1,2}:?[0-9]{0,2}|[A-Za-z]{1,5}(?:[+-][0-9]{1,2}:?[0-9]{0,2})?)\)?)?"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},?\s)?"
_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        # Sep 21 2026 14:13:20.123 EEST, and without year; Java's Date.toString() has the year behind the zone.
        rf"{_WEEKDAY}(?P<month>[A-Za-z]{{3,9}})\.?\s{{1,2}}(?P<day>[0-9]{{1,2}}),?(?:\s(?P<year>[0-9]{{4}}))?,?\s{_CLOCK}{_ZONE}"
        r"(?:\s(?P<late>[0-9]{4}))?",
        # 21 September 2026 14:13:20, and with hyphens or slashes between.
        rf"{_WEEKDAY}(?P<day>[0-9]{{1,2}})[\s/-](?P<month>[A-Za-z]{{3,9}})[\s/-](?P<year>[0-9]{{4}})[\s:]{_CLOCK}{_ZONE}",
        # ISO 8601 and its relatives.
        rf"(?P<year>[0-9]{{4}})[/-](?P<month>[0-9]{{2}})[/-](?P<day>[0-9]{{2}})[T\s]{_CLOCK}{_ZONE}",
    )
)
_DIGITS: Final = {10: _SECOND, 13: 1000, 16: 1}
_FRACTION_OF_SECOND = re.compile(r"[0-9]{10}\.[0-9]{1,9}")


def parse(text: str, received_us: int) -> Moment | None:
    """Read a time: seconds, milliseconds or microseconds since 1970 by their number of digits, or one that is written out.

    Written out: ``Sep 21 2026 14:13:20.123 EEST`` with or without year, fraction and zone, ``21 September 2026 14:13:20``, and
    ISO 8601. ``received_us`` gives a time without a year its year. None for anything else, never an error.
    """
    if text.isascii() and text.isdigit():
        unit = _DIGITS.get(len(text))
        return None if unit is None else Moment(int(text) * unit, True)
    if len(text) > _LONGEST:
        return None
    if _FRACTION_OF_SECOND.fullmatch(text) is not None:
        seconds, _, fraction = text.partition(".")
        return Moment(int(seconds) * _SECOND + int(fraction[:6].ljust(6, "0")), True)
    written = _read(text.strip())
    return None if written is None else _moment(written, received_us)


@lru_cache(maxsize=2048)
def _read(text: str) -> _Written | None:
    """Times of whole seconds come again and again, and to read one takes as long as all the rest of its line."""
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is not None:
            break
    else:
        return None
    parts = found.groupdict()
    month = parts["month"]
    number = int(month) if month.isdigit() else _MONTHS.get(month.lower())
    if number is None:
        return None
    year, zone = parts["year"] or parts.get("late"), parts["zone"]
    return _written(
        int(year) if year else None,
        number,
        int(parts["day"]),
        (int(parts["hour"]), int(parts["minute"]), int(parts["second"] or 0)),
        parts["fraction"] or "",
        zone_offset(zone) if zone else None,
    )


def _written(
    year: int | None, month: int, day: int, clock: tuple[int, int, int], fraction: str, offset: int | None
) -> _Written | None:
    hour, minute, second = clock
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 60):
        return None
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return _Written(year, month, day, (hour * 3600 + minute * 60 + second) * _SECOND + micros, offset)


def _moment(written: _Written, received_us: int) -> Moment | None:
    shift = written.offset or 0
    if written.year is not None:
        midnight = _midnight(written.year, written.month, written.day)
        return None if midnight is None else Moment(midnight + written.time_of_day - shift, written.offset is not None)
    this_year = date.fromordinal(min(max(_EPOCH + received_us // _DAY, 1), date.max.toordinal())).year
    # 29 February reaches eight years back.
    for year in range(this_year + 1, this_year - 9, -1):
        midnight = _midnight(year, written.month, written.day)
        if midnight is not None and (at := midnight + written.time_of_day - shift) <= received_us + _AHEAD:
            return Moment(at, written.offset is not None)
    return None


@lru_cache(maxsize=1024)
def _midnight(year: int, month: int, day: int) -> int | None:
    try:
        return (date(year, month, day).toordinal() - _EPOCH) * _DAY
    except ValueError:
        return None


# What a letter of a SimpleDateFormat pattern stands for: group and regular expression. A group comes once in a pattern, so that
# no pattern of a sender's can make the match costly. M is a number or, from three on, a name.
_LETTERS: Final = {
    "y": ("year", r"[0-9]{2,4}"),
    "u": ("number_of_day", r"[0-9]"),
    "d": ("day", r"[0-9]{1,2}"),
    "H": ("hour", r"[0-9]{1,2}"),
    "k": ("hour", r"[0-9]{1,2}"),
    "h": ("hour", r"[0-9]{1,2}"),
    "K": ("hour", r"[0-9]{1,2}"),
    "m": ("minute", r"[0-9]{1,2}"),
    "s": ("second", r"[0-9]{1,2}"),
    "S": ("fraction", r"[0-9]{1,9}"),
    "a": ("half", r"[AaPp][Mm]"),
    "E": ("name_of_day", r"[A-Za-z]{2,10}"),
    "z": ("zone", r"[A-Za-z]{1,5}(?:[+-][0-9]{1,2}:?[0-9]{0,2})?|[+-][0-9]{1,2}:?[0-9]{0,2}"),
    "Z": ("zone", r"[+-][0-9]{2}:?[0-9]{2}"),
    "X": ("zone", r"Z|[+-][0-9]{2}:?[0-9]{0,2}"),
}
_RUN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


def parse_pattern(text: str, pattern: str, received_us: int) -> Moment | None:
    """Read a time by a pattern of Java's SimpleDateFormat; None where the text is not of it, or where it asks for more than dates.

    Of the letters, all are read that LEEF's documentation uses and ``k K h a E u X`` besides; a pattern with others, or of more
    than 64 characters, is not. ``received_us`` as for `parse`.
    """
    if len(text) > _LONGEST:
        return None
    compiled = _compile(pattern)
    found = None if compiled is None else compiled.fullmatch(text.strip())
    if found is None:
        return None
    get = found.groupdict().get
    month = get("month") or "1"
    number = int(month) if month.isdigit() else _MONTHS.get(month.lower())
    if number is None:
        return None
    year = get("year")
    hour = int(get("hour") or 0)
    if (half := get("half")) is not None:
        hour = hour % 12 + (12 if half.lower() == "pm" else 0)
    elif hour == 24:
        hour = 0
    zone = get("zone")
    written = _written(
        None if year is None else int(year) + 2000 if len(year) == 2 else int(year),
        number,
        int(get("day") or 1),
        (hour, int(get("minute") or 0), int(get("second") or 0)),
        (get("fraction") or "").rjust(3, "0") if "fraction" in found.re.groupindex else "",
        zone_offset(zone) if zone else None,
    )
    return None if written is None else _moment(written, received_us)


@lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str] | None:
    if len(pattern) > _LONGEST:
        return None
    parts: list[str] = []
    seen: set[str] = set()
    position = 0
    while position < len(pattern):
        found = _RUN.match(pattern, position)
        if found is None:
            return None
        position = found.end()
        if found[2] is None:
            literal = found[0] if found[1] is None else found[1].replace("''", "'") or "'"
            parts.append(re.escape(literal).replace(r"\ ", r"\s{1,2}"))
            continue
        part = _letters(found[2], len(found[0]), seen)
        if part is None:
            return None
        parts.append(part)
    return re.compile("".join(parts), re.IGNORECASE)


def _letters(letter: str, count: int, seen: set[str]) -> str | None:
    """Regular expression of a run of one letter; None for a letter that is not read, or a field that comes twice."""
    if letter in "ML":
        group, body = "month", r"[A-Za-z]{3,9}" if count >= 3 else r"[0-9]{1,2}"
    elif letter in _LETTERS:
        group, body = _LETTERS[letter]
        if letter == "y" and count >= 4:
            body = r"[0-9]{4}"
    else:
        return None
    if group in seen:
        return None
    seen.add(group)
    return f"(?P<{group}>{body})"
