"""IBM's Log Event Extended Format, versions 1 and 2, in and out.

After IBM QRadar, "LEEF event components" and "Predefined LEEF event attributes": a header of five fields (six in version 2, the
last of which names the delimiter) that each end in a pipe, then pairs of key and value between delimiters. The format has no
escapes: a pipe ends a header's field, and a value is what stands there.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from weir.protocols.cef import split_pairs

__all__ = ["LeefError", "LeefEvent", "find", "format_leef", "parse"]

_TAB: Final = "\t"


class LeefEvent(NamedTuple):
    """One event. Values are as sent; of a key that comes twice the first one's."""

    version: str
    device_vendor: str
    device_product: str
    device_version: str
    event_id: str
    delimiter: str
    attributes: dict[str, str]


class LeefError(ValueError):
    """A text that begins as LEEF and has no whole header. ``fields`` is how many of the five were found ended by a pipe."""

    def __init__(self, problem: str, fields: int) -> None:
        super().__init__(problem)
        self.fields = fields


_VERSION = r"LEEF: ?([0-9]{1,3}+(?:\.[0-9]{1,3}+)?)\|"
_FIND = re.compile(_VERSION)
_HEADER = re.compile(_VERSION + r"([^|\\]*+(?:\\.[^|\\]*+)*+)\|" * 4, re.DOTALL)
# A character, its code in hexadecimal, or nothing, which is tab. "\t" is written out by some; "#011" is rsyslog's way to write one.
_DELIMITER = re.compile(r"(?:0?[xX]([0-9A-Fa-f]{1,4})|(\\t|#011)|([^|]?))\|")
_KEY = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}")
_NUMBER_AND_MORE = re.compile(r"\s*([0-9]{1,2}) +([A-Za-z0-9_]{1,64}=.*)", re.DOTALL)


def find(message: str) -> int:
    """Where in a syslog message the LEEF text begins (``LEEF:``, digits, a pipe), or -1."""
    found = _FIND.search(message)
    return -1 if found is None else found.start()


def parse(text: str) -> LeefEvent:
    """Read a text that begins with ``LEEF:``. Raises LeefError if the header lacks one of its five pipes.

    The delimiter that a header names is obeyed: no other character begins a pair, whatever a value holds. Tabs that rsyslog has
    written as ``#011`` on the way are tabs. Where no delimiter is named and no tab is there at all, spaces separate, as from
    senders that took LEEF for CEF. What has no key belongs to the value before it.
    """
    found = _HEADER.match(text)
    if found is None:
        raise _header_error(text)
    # The format has no escapes; senders that write CEF as well bring its own, for a pipe.
    version, vendor, product, device_version, event_id = (field.replace("\\|", "|") for field in found.groups())
    position = found.end()
    named = _DELIMITER.match(text, position)
    delimiter = _TAB
    if named is not None:
        position = named.end()
        delimiter = _character(named)
    rest = text[position:]
    pairs: list[tuple[str, str]]
    if delimiter == _TAB and _TAB not in rest and "#011" in rest:
        pairs = _split(rest, "#011")
    elif named is None and _TAB not in rest:
        pairs = split_pairs(rest.rstrip("\r\n"))
    else:
        pairs = _split(rest, delimiter)
    attributes: dict[str, str] = {}
    for key, value in pairs:
        attributes.setdefault(key, value)
    if (severity := attributes.get("sev")) is not None and (mended := _NUMBER_AND_MORE.fullmatch(severity)) is not None:
        # A number ends where it ends: Trend Micro puts a space and more pairs behind this one.
        attributes["sev"] = mended[1]
        for key, value in split_pairs(mended[2]):
            attributes.setdefault(key, value)
    return LeefEvent(version, vendor, product, device_version, event_id, delimiter, attributes)


def _character(named: re.Match[str]) -> str:
    code, spelt, plain = named.groups()
    if code is not None:
        number = int(code, 16)
        return _TAB if number == 0 or 0xD800 <= number <= 0xDFFF else chr(number)
    return _TAB if spelt is not None else plain or _TAB


def _split(text: str, delimiter: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, list[str]]] = []
    for part in text.split(delimiter):
        key, sign, value = part.partition("=")
        key = key.strip()
        if sign and _KEY.fullmatch(key) is not None:
            pairs.append((key, [value]))
        elif pairs:
            pairs[-1][1].append(part)
    return [(key, delimiter.join(values).rstrip(" \t\r\n")) for key, values in pairs]


def _header_error(text: str) -> LeefError:
    if _FIND.match(text) is None:
        return LeefError(f"no version and pipe behind 'LEEF:' at character 5 but {text[5:25]!r}", 0)
    fields = min(text.count("|"), 4)
    return LeefError(
        f"LEEF header has {fields} of its 5 fields: each, the event id too, must end in a pipe; after the last one stands "
        f"{text.rpartition('|')[2][:20]!r}",
        fields,
    )


_IN_HEADER: Final = str.maketrans(dict.fromkeys("|\n\r\t\0", " "))
_WHOLE_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")


def format_leef(
    *,
    device_vendor: str,
    device_product: str,
    device_version: str,
    event_id: str,
    attributes: Mapping[str, str],
    version: Literal["1.0", "2.0"] = "2.0",
    delimiter: str = _TAB,
) -> str:
    """Write one event. No value, whatever it holds, can end its field, start a pair or start a line.

    The format has no escapes, so a delimiter, a line end, a tab or NUL in a value becomes a space, and so does a pipe in the
    header; a ``#011``, which is a tab to `parse`, gets a space within. Version 2 names its delimiter in hexadecimal; version 1
    has tab and ends in one. Raises ValueError for a key that is not of letters, digits and ``_``, and for a delimiter that is one
    of those, a line end, a space, a pipe, an equals sign or not one character.
    """
    if len(delimiter) != 1 or delimiter in "|=\\#\n\r\0 " or delimiter.isalnum() or delimiter == "_" or ord(delimiter) > 0xFFFF:
        raise ValueError(f"delimiter {delimiter!r} cannot be used: take one character such as tab or ^ that is in no key")
    if version == "1.0" and delimiter != _TAB:
        raise ValueError("LEEF 1.0 has tab as its delimiter: use version 2.0 for another")
    in_value = str.maketrans(dict.fromkeys("\n\r\t\0" + delimiter, " "))
    pairs: list[str] = []
    for key, value in attributes.items():
        if _WHOLE_KEY.fullmatch(key) is None:
            raise ValueError(f"attribute key {key!r} cannot be written: use letters, digits and _ only")
        pairs.append(f"{key}={value.translate(in_value).replace('#011', '# 011').rstrip(' ')}")
    header = "|".join(field.translate(_IN_HEADER) for field in (device_vendor, device_product, device_version, event_id))
    body = delimiter.join(pairs)
    if version == "1.0":
        return f"LEEF:1.0|{header}|{body}{_TAB}"
    return f"LEEF:2.0|{header}|x{ord(delimiter):02X}|{body}"
