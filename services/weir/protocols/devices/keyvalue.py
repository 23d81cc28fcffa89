"""Pairs written as ``key=value`` with spaces between them, as Fortinet and Juniper do."""

import re
from typing import Final

__all__ = ["MAX_PAIRS", "split_pairs"]

MAX_PAIRS: Final = 512
"""No device is known to send more than some 120; what comes behind these is left where it stands, in the message."""

# A quoted value ends at the next quote that is not escaped; one without its end reaches as far as there is text.
_PAIR = re.compile(r'([0-9A-Za-z_][0-9A-Za-z_.:/-]{0,63}+)=(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"?|([^\s"]*+(?:"[^\s]*+)?))', re.DOTALL)
# FortiGate's format "csv": values without quotes end at the comma.
_CSV_PAIR = re.compile(r'([0-9A-Za-z_][0-9A-Za-z_.:/-]{0,63}+)=(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"?|([^,"]*+))(?:,|$)', re.DOTALL)
_CSV_BEGIN = re.compile(r'[0-9A-Za-z_]{1,64}+=(?:"[^"]*+"|[^\s",]*+),[0-9A-Za-z_]{1,64}+=')
_ESCAPE = re.compile(r'\\(["\\])')


def split_pairs(text: str) -> dict[str, str]:
    """The pairs in ``text``, in the order in which they stand; what is no pair is passed over.

    A value is quoted with ``"`` or ends at a space. In a quoted value ``\\"`` and ``\\\\`` stand for the quote and the
    backslash; any other backslash is itself. Where a comma and another key follow the first value, commas stand in the place of
    the spaces. Of a repeated key the first value counts.
    """
    pairs: dict[str, str] = {}
    for found in (_PAIR if _CSV_BEGIN.match(text) is None else _CSV_PAIR).finditer(text):
        key, quoted, plain = found.groups()
        if quoted is not None:
            pairs.setdefault(key, _ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted)
        else:
            pairs.setdefault(key, plain)
        if len(pairs) >= MAX_PAIRS:
            break
    return pairs
