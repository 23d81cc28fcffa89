"""ArcSight Common Event Format, in and out.

After the "Micro Focus Security ArcSight Common Event Format" guide: a header of seven fields between pipes, then pairs of
key and value. In the header a backslash escapes a pipe or a backslash; in a value it escapes an equals sign or a backslash,
and ``\\n`` and ``\\r`` stand for line ends. A backslash before anything else is itself, as senders that do not escape have it.

Senders that escape too little are read for what they mean where that is clear: an equals sign that follows no key or another
equals sign, cookies after a semicolon, a path or an account whose backslashes are bare, a pipe in the name of an event.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from weir.protocols.cef_keys import DICTIONARY

__all__ = ["CefError", "CefEvent", "find", "format_cef", "parse", "severity_number", "split_pairs"]


class CefEvent(NamedTuple):
    """One event, its escapes undone. ``extension_text`` is what follows the header, as sent."""

    version: str
    device_vendor: str
    device_product: str
    device_version: str
    device_event_class_id: str
    name: str
    severity: str
    extension: dict[str, str]
    extension_text: str


class CefError(ValueError):
    """A text that begins as CEF and has no whole header. ``fields`` is how many of the seven were found ended by a pipe."""

    def __init__(self, problem: str, fields: int) -> None:
        super().__init__(problem)
        self.fields = fields


# Fortinet's devices put a space before the version. More digits than these are no version, and no number that fits anywhere.
_VERSION = r"CEF: ?([0-9]{1,9}+(?:\.[0-9]{1,9}+)?)\|"
_FIELD = r"([^|\\]*+(?:\\.[^|\\]*+)*+)\|"
_FIND = re.compile(_VERSION)
_HEADER = re.compile(_VERSION + _FIELD * 6, re.DOTALL)
_ONE_FIELD = re.compile(_FIELD, re.DOTALL)
_HEADER_ESCAPE = re.compile(r"\\([|\\])")
# A key follows a space, and one equals sign follows it: ``id==old`` is a comparison and ``QUE==`` is Base64. Texts get a space in
# front, since a pattern that begins with a fixed character is found twice as fast. Only one space belongs to the match: were it a
# run of them, a line of nothing but spaces would be scanned anew from each.
_KEY = re.compile(r" ([A-Za-z0-9_][A-Za-z0-9_.,\[\]-]*+)=(?!=)")
# Some senders put a tab or a line end between pairs; in front of any other word it is of the value.
_TAB_OR_LINE_END = re.compile(r"[\t\r\n]++(?=([A-Za-z0-9]++)=(?!=))")
_WHOLE_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,\[\]-]*")
_VALUE_ESCAPE = re.compile(r"\\([=\\nr])")
_LEVEL = "(?:10|[0-9]|unknown|low|medium|high|very-high|very high|critical|info|informational|warning|error|notice|debug)"
_LEVELS: Final = frozenset(
    "0 1 2 3 4 5 6 7 8 9 10 unknown low medium high very-high critical info informational warning error notice debug".split()  # noqa: SIM905
) | {"", "very high"}
# A header that ends with its severity, without the last pipe, at the end of the message: there is nothing left to be cut off.
_HEADER_ALONE = re.compile(rf"{_VERSION}{_FIELD * 5}({_LEVEL})\s*\Z", re.DOTALL | re.IGNORECASE)
_LATE_SEVERITY = re.compile(rf"((?:[^|=\\]{{0,200}}\|){{0,3}}?)({_LEVEL})\|", re.IGNORECASE)
_COOKIE_KEYS: Final = frozenset({"requestCookies", "cookie", "cookies", "Cookie"})
# Keys whose values hold no line ends, so that in ``CORP\nora`` Nora of CORP is meant.
_NAMES: Final = frozenset(
    [
        "suser",
        "sourceUserName",
        "suid",
        "sntdom",
        "duser",
        "destinationUserName",
        "duid",
        "dntdom",
        "fname",
        "fileName",
        "filePath",
        "oldFileName",
        "oldFilePath",
        "sproc",
        "sourceProcessName",
        "dproc",
        "destinationProcessName",
        "deviceProcessName",
    ]
)
_UNESCAPED: Final = {"=": "=", "\\": "\\", "n": "\n", "r": "\r"}


def find(message: str) -> int:
    """Where in a syslog message the CEF text begins (``CEF:``, digits, a pipe), or -1."""
    found = _FIND.search(message)
    return -1 if found is None else found.start()


def parse(text: str) -> CefEvent:
    """Read a text that begins with ``CEF:``.

    Of a key that comes twice the first value counts, so that a pair smuggled into a later, unescaped value (a user agent,
    say) cannot replace what the device said. Spaces at the end of a value are dropped. Raises CefError, with the number of
    fields found and the place, if the header has fewer than its seven pipes; only that behind a severity may lack where the
    message ends.
    """
    found = _HEADER.match(text)
    if found is None:
        found = _HEADER_ALONE.match(text)
        if found is None:
            raise _header_error(text)
    version, *fields = found.groups()
    end = found.end()
    if fields[5].lower() not in _LEVELS:
        end = _widen_name(text, end, fields)
    if "\\" in found[0]:
        fields = [_HEADER_ESCAPE.sub(r"\1", field) for field in fields]
    vendor, product, device_version, class_id, name, severity = fields
    extension_text = text[end:]
    spaced = extension_text
    if "\t" in spaced or "\n" in spaced:
        spaced = _TAB_OR_LINE_END.sub(lambda found: " " if found[1] in DICTIONARY else found[0], spaced)
    parts = _KEY.split(" " + spaced)
    if "; " in extension_text:
        parts = _join_cookies(parts)
    keys, values = parts[1::2], parts[2::2]
    # A value ends in a space where two follow each other, or where the line does; in a line end where each pair has its own line.
    if "\\" in spaced or "  " in spaced or spaced.endswith(" "):
        values = [
            _unescape(key, value) if "\\" in value else value.rstrip(" \r\n") for key, value in zip(keys, values, strict=True)
        ]
    extension = dict(zip(keys, values, strict=True))
    if len(extension) != len(keys):
        extension = {}
        for key, value in zip(keys, values, strict=True):
            extension.setdefault(key, value)
    return CefEvent(version, vendor, product, device_version, class_id, name, severity, extension, extension_text)


def _widen_name(text: str, end: int, fields: list[str]) -> int:
    """Where a name holds pipes that its sender did not escape, what stands for the severity is of the name; the header's end."""
    found = _LATE_SEVERITY.match(text, end)
    if found is None:
        return end
    fields[4:6] = [f"{fields[4]}|{fields[5]}{'|' + found[1][:-1] if found[1] else ''}", found[2]]
    return found.end()


def _join_cookies(parts: list[str]) -> list[str]:
    """Cookies come as ``a=1; b=2``: a key behind a semicolon is one of theirs, unless it is in CEF's dictionary."""
    joined = parts[:1]
    cookies: list[str] = []
    for key, value in zip(parts[1::2], parts[2::2], strict=True):
        if cookies and cookies[-1].endswith(";") and key not in DICTIONARY:
            cookies.append(f"{key}={value}")
            continue
        if cookies:
            joined.append(" ".join(cookies))
            cookies = []
        joined.append(key)
        if key in _COOKIE_KEYS:
            cookies = [value]
        else:
            joined.append(value)
    return [*joined, " ".join(cookies)] if cookies else joined


def split_pairs(extension_text: str) -> list[tuple[str, str]]:
    """The pairs of an extension in order, repeated keys included, values as sent (escapes kept, spaces at the end not)."""
    parts = _KEY.split(" " + extension_text)
    return [(key, value.rstrip(" ")) for key, value in zip(parts[1::2], parts[2::2], strict=True)]


_DRIVE = re.compile(r"[A-Za-z]:\\(?![\\nr=])")


def _unescape(key: str, value: str) -> str:
    value = value.rstrip(" \r\n")
    if key in _NAMES or _DRIVE.match(value) is not None:
        # A network path begins with two backslashes. If no others are doubled, none has been escaped.
        behind = value[2:] if value.startswith("\\\\") else value
        if "\\" in behind and "\\\\" not in behind:
            return value.replace("\\=", "=")
    return _VALUE_ESCAPE.sub(lambda found: _UNESCAPED[found[1]], value)


def _header_error(text: str) -> CefError:
    found = _FIND.match(text)
    if found is None:
        return CefError(f"no version and pipe behind 'CEF:' at character 4 but {text[4:24]!r}", 0)
    fields = 1
    position = found.end()
    while (field := _ONE_FIELD.match(text, position)) is not None:
        fields += 1
        position = field.end()
    return CefError(
        f"CEF header has {fields} of its 7 fields: no unescaped pipe from character {position} on, where {text[position:][:20]!r}"
        " stands; the sender must write a pipe behind the severity too",
        fields,
    )


_SEVERITIES: Final = {"low": 0, "medium": 4, "high": 7, "very-high": 9}


@lru_cache(maxsize=256)
def severity_number(severity: str) -> int | None:
    """0 to 10 of a header's severity, of a word the lowest number that it covers; None for Unknown and for anything else."""
    text = severity.strip().lower()
    if text.isascii() and text.isdigit() and len(text) <= 2:
        number = int(text)
        return number if number <= 10 else None
    return _SEVERITIES.get(text.replace(" ", "-"))


_IN_HEADER: Final = str.maketrans({"\\": "\\\\", "|": "\\|", "\n": " ", "\r": " ", "\0": " "})
_IN_VALUE: Final = str.maketrans({"\\": "\\\\", "=": "\\=", "\n": "\\n", "\r": "\\r", "\0": " "})


def format_cef(
    *,
    device_vendor: str,
    device_product: str,
    device_version: str,
    device_event_class_id: str,
    name: str,
    severity: str | int,
    extension: Mapping[str, str] | None = None,
) -> str:
    """Write one event as ``CEF:0``. No value, whatever it holds, can end its field, start a pair or start a line.

    Line ends in a header, where the format has none, become spaces, and so does NUL everywhere: it ends a message for some
    receivers. Spaces at the end of a value are dropped, as a reader cannot tell them from the separator. Raises ValueError for
    a key that is not of letters, digits, ``_ . , [ ] -`` or begins with none of the first three.
    """
    header = (device_vendor, device_product, device_version, device_event_class_id, name, str(severity))
    pairs: list[str] = []
    for key, value in (extension or {}).items():
        if _WHOLE_KEY.fullmatch(key) is None:
            raise ValueError(
                f"extension key {key!r} cannot be written: use letters, digits and _ . , [ ] - only, the first a letter or digit"
            )
        pairs.append(f"{key}={value.translate(_IN_VALUE).rstrip(' ')}")
    return f"CEF:0|{'|'.join(field.translate(_IN_HEADER) for field in header)}|{' '.join(pairs)}"
