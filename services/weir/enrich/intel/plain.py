"""Plain lists: one indicator a line, with comments and notes; hosts files among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from weir.enrich.intel.lists import Report, lines_of, short_text
from weir.enrich.intel.values import Indicator, classify

__all__ = ["parse"]

_COMMENTS: Final = ("#", ";", "//", "!")
# What follows a value: "1.2.3.0/24 ; SBL1", "evil.example # phishing", "1.2.3.4<tab>C2 server", "1.2.3.4,C2".
_NOTE: Final = re.compile(r"([^\s;,#]+)[\s;,]*(.*)", re.DOTALL)
_URL: Final = re.compile(r"(\S+)\s*(.*)", re.DOTALL)
_NOWHERE: Final = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})
# Every hosts file begins with them.
_OWN_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback"})


def parse(text: str, report: Report) -> Iterator[Indicator]:
    """The indicators of a list, in its order. Lines that are none are counted in the report."""
    for number, raw in enumerate(lines_of(text), 1):
        line = raw.strip()
        if not line or line.startswith(_COMMENTS):
            continue
        found = (_URL if "://" in line else _NOTE).match(line)
        if found is None:
            report.leave_out(f"line {number}", f"{line[:80]!r} is no indicator")
            continue
        value, note = found[1], found[2].lstrip("#/; \t")
        if value in _NOWHERE and note:
            # A hosts file sends the names behind the address nowhere.
            for name in note.partition("#")[0].split():
                if name not in _OWN_NAMES and name not in _NOWHERE:
                    yield from _one(name, None, number, report)
            continue
        yield from _one(value, short_text(note) if note else None, number, report)


def _one(value: str, note: str | None, number: int, report: Report) -> Iterator[Indicator]:
    try:
        kind, normal = classify(value.strip("\"'"))
    except ValueError as error:
        report.leave_out(f"line {number}", str(error))
        return
    yield Indicator(kind, normal, description=note)
