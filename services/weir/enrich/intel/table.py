"""CSV lists: those of abuse.ch (URLhaus, ThreatFox, Feodo Tracker, SSLBL, MalwareBazaar) and others, by the names of their columns.

abuse.ch writes the header as the last comment before the data; others write it as the first row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from weir.enrich.intel.lists import IntelError, Report, confidence_of, lines_of, short_text
from weir.enrich.intel.values import Indicator, classify, time_us

__all__ = ["find_header", "parse"]

# The first of a group that a header has is taken; the indicators' own columns only where none is named by a general word.
_VALUE: Final[tuple[str, ...]] = ("ioc_value", "indicator", "indicator_value", "ioc", "value", "observable")
_VALUES: Final[tuple[str, ...]] = (
    *(
        "url",
        "ip",
        "ip_address",
        "ipaddress",
        "dst_ip",
        "dstip",
        "src_ip",
        "srcip",
        "network",
        "cidr",
        "domain",
        "hostname",
        "fqdn",
    ),
    *("sha256_hash", "sha256", "sha1_hash", "sha1", "md5_hash", "md5"),
)
_FIRST: Final = ("first_seen_utc", "first_seen", "firstseen", "dateadded", "date_added", "listingdate", "created", "valid_from")
_LAST: Final = ("last_seen_utc", "last_seen", "lastseen", "last_online")
_EXPIRES: Final = ("expires", "expiration", "valid_until", "expires_at")
_CONFIDENCE: Final = ("confidence_level", "confidence")
_REFERENCE: Final = ("urlhaus_link", "reference", "references", "link")
_DESCRIPTION: Final = (
    *("threat", "threat_type", "malware_printable", "malware", "signature", "listingreason", "description", "comment", "note"),
    "tags",
)
_PORT: Final = ("dst_port", "dstport", "port")
_KNOWN: Final = frozenset((*_VALUE, *_VALUES, *_FIRST, *_LAST, *_EXPIRES, *_CONFIDENCE, *_REFERENCE, *_DESCRIPTION, *_PORT))
_LONGEST_ROW: Final = 20
"""Lines; a description may have some."""
_NOTHING: Final = frozenset({"", "none", "null", "n/a", "-"})


def find_header(text: str) -> tuple[int, list[str], str] | None:
    """Number of the header's line (from 0), its columns in lower case, and the delimiter; None where there is no header."""
    found = None
    for number, line in enumerate(lines_of(text)):
        if not line.strip():
            continue
        is_comment = line.lstrip().startswith("#")
        bare = line.lstrip("# \t") if is_comment else line
        delimiter = ";" if bare.count(";") > bare.count(",") else "\t" if bare.count("\t") > bare.count(",") else ","
        columns = [column.strip().strip('"').lower() for column in bare.split(delimiter)]
        named = _KNOWN.intersection(columns)
        if (named & {*_VALUE, *_VALUES} and (len(named) > 1 or not is_comment)) or (not found and _is_certificates(columns)):
            found = (number, columns, delimiter)
        if not is_comment:
            break
    return found


def _is_certificates(columns: list[str]) -> bool:
    """SSLBL's list of certificates has the column SHA1 too, and no field of any event has a certificate's."""
    return "listingreason" in columns


def parse(text: str, report: Report) -> Iterator[Indicator]:
    """The indicators of a list, in its order. Rows that hold none are counted in the report.

    Raises:
        IntelError: no line names columns that are known, or it is no CSV.
    """
    header = find_header(text)
    if header is None:
        raise IntelError(f"no header names a column of indicators, such as {', '.join(_VALUE[:3] + _VALUES[:6])}")
    start, columns, delimiter = header
    if _is_certificates(columns):
        report.leave_out(f"line {start + 1}", "SHA-1 of certificates, which are in no field of any event")
        return
    values: list[str] = [name for name in _VALUE if name in columns][:1] or [name for name in _VALUES if name in columns]
    reader = csv.reader(islice(lines_of(text), start + 1, None), delimiter=delimiter, skipinitialspace=True)
    ended = 0
    try:
        for cells in reader:
            begun, ended = ended + 1, reader.line_num
            if ended - begun >= _LONGEST_ROW:
                reason = f"a row of {ended - begun + 1:,} lines: a quotation mark is not closed, and what is behind it is lost"
                report.leave_out(f"line {start + 1 + begun}", reason)
            if not cells or cells[0].startswith("#"):
                continue
            row = {
                column: cell.strip() for column, cell in zip(columns, cells, strict=False) if cell.strip().lower() not in _NOTHING
            }
            yield from _row(row, values, f"line {start + 1 + reader.line_num}", report)
    except csv.Error as error:
        raise IntelError(f"line {start + 1 + reader.line_num}: not CSV: {error}") from error


def _row(row: Mapping[str, str], values: list[str], place: str, report: Report) -> Iterator[Indicator]:
    found = False
    for column in values:
        if (text := row.get(column)) is None:
            continue
        found = True
        try:
            kind, value = classify(text)
        except ValueError as error:
            report.leave_out(place, str(error))
            continue
        port = _first(row, _PORT) or (text.rpartition(":")[2] if kind == "ip" and text.count(":") == 1 else None)
        said = dict.fromkeys([row[name] for name in _DESCRIPTION if name in row] + ([f"port {port}"] if port else []))
        yield Indicator(
            kind,
            value,
            time_us(_first(row, _FIRST)),
            time_us(_first(row, _LAST)),
            time_us(_first(row, _EXPIRES)),
            confidence_of(_first(row, _CONFIDENCE)),
            short_text(_first(row, _REFERENCE)),
            short_text(", ".join(said)),
        )
    if not found:
        report.leave_out(place, f"nothing in the column {' or '.join(values)}")


def _first(row: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((row[name] for name in names if name in row), None)
