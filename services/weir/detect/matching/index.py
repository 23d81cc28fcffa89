"""Which of many detections may match an event, found without trying them one by one.

Every detection is filed under clues (`covers`) of which each event that it matches has at least one: an exact value of a field, a
piece of text in it, the network of an address, a limit of a number. An event is looked up once per field that clues speak of,
however many detections there are: pieces of text are found by one Aho-Corasick automaton a field, limits by bisection. A detection
without any clue is tried with every event.

The detections of one dataset are kept apart by the `event_dataset` or `event_module` that they require, so that an event of Zeek's
DNS log is not searched for what only HTTP has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar

import ahocorasick_rs

from weir.detect.matching.covers import KEYWORDS, Clue, Cover, network_head
from weir.detect.matching.fields import fold, getter, text_of
from weir.detect.matching.matcher import event_text
from weir.detect.matching.values import number_of

__all__ = ["Index"]

T = TypeVar("T")
Record = dict[str, Any]
Entry = tuple[T, Cover, dict[str, frozenset[str]]]

MAX_PAIRS: Final = 1_000
"""Pairs of dataset and module, as senders write them, that are remembered; others are looked up a little slower."""

MAX_NAME: Final = 128
"""Characters of either; longer ones are not remembered."""

_DATASET: Final = "event_dataset"
_MODULE: Final = "event_module"


class Index(Generic[T]):
    """Detections of one dataset."""

    def __init__(self, entries: Iterable[Entry[T]]) -> None:
        """Each entry is what `candidates` shall give, the cover of its detection, and what its detection requires.

        Sections are made when the first event asks for one; there are no more than the detections have datasets times modules.
        """
        self._entries = list(entries)
        self._known = {
            field: frozenset().union(*(required.get(field, ()) for _, _, required in self._entries))
            for field in (_DATASET, _MODULE)
        }
        self._sections: dict[tuple[str | None, str | None], _Section[T]] = {}
        self._by_pair: dict[tuple[Any, Any], _Section[T]] = {}

    def candidates(self, record: Record) -> list[T]:
        """What may match an event, in the order of the entries. The list is not to be changed."""
        key = (record.get(_DATASET), record.get(_MODULE))
        section = self._by_pair.get(key)
        if section is None:
            section = self._section(*key)
            if len(self._by_pair) < MAX_PAIRS and all(len(str(name)) <= MAX_NAME for name in key):
                self._by_pair[key] = section
        return section.candidates(record)

    def _section(self, dataset: Any, module: Any) -> _Section[T]:
        """The section for a pair. Pairs that no detection tells apart have one, so that senders cannot make more of them."""
        dataset, module = (
            text if isinstance(value, str) and (text := fold(value)) in self._known[field] else None
            for field, value in ((_DATASET, dataset), (_MODULE, module))
        )
        section = self._sections.get((dataset, module))
        if section is None:
            fitting = [
                (item, cover)
                for item, cover, required in self._entries
                if (_DATASET not in required or dataset in required[_DATASET])
                and (_MODULE not in required or module in required[_MODULE])
            ]
            section = self._sections[dataset, module] = _Section(fitting)
        return section


class _Column:
    """What is filed under one field, by place in the section."""

    __slots__ = ("exact", "heads", "limits", "name", "pieces", "read", "search", "there")

    def __init__(self, name: str, filed: list[tuple[Clue, int]]) -> None:
        self.name = name
        # A plain field is read without a call.
        self.read = None if name.replace("_", "").isalnum() else getter(name) if name != KEYWORDS else event_text
        texts = _by_text(filed, "equals")
        # A whole number is looked up as it is, too.
        self.exact: dict[str | int, tuple[int, ...]] = {int(text): texts[text] for text in texts if _is_whole(text)} | texts
        self.heads = _by_text(filed, "network")
        self.there = tuple(place for clue, place in filed if clue.kind == "there")
        pieces = _by_text(filed, "contains")
        self.pieces = list(pieces.values())
        self.search = (
            ahocorasick_rs.AhoCorasick(list(pieces), matchkind=ahocorasick_rs.MatchKind.Standard).find_matches_as_indexes
            if pieces
            else None
        )
        self.limits = _Limits(filed) if any(clue.kind in {"above", "below"} for clue, _ in filed) else None

    @property
    def is_plain(self) -> bool:
        """Whether a text or a whole number is looked up as it stands in the record, and in no other way."""
        return self.read is None and not (self.search or self.heads or self.limits or self.there)

    def look_up(self, value: Any, places: list[int]) -> None:
        """Add the places of what a value is a clue to."""
        if isinstance(value, (list, tuple)):
            for item in value:
                if item is not None and not isinstance(item, (list, dict)):
                    self.look_up(item, places)
            return
        if isinstance(value, dict):
            return
        self.look_up_text(text_of(value), places)
        if not isinstance(value, (str, bool)):
            # 443.0 equals 443.
            places += self.exact.get(value, ())
            if self.limits is not None:
                self.limits.add_met(value, places)

    def look_up_text(self, value: str, places: list[int]) -> None:
        """The same of a text."""
        text = fold(value)
        places += self.exact.get(text, ())
        if self.search is not None:
            for match in self.search(text, overlapping=True):
                places += self.pieces[match[0]]
        if self.heads:
            places += self.heads.get(network_head(text), ())
        if self.limits is not None and (number := number_of(value)) is not None:
            self.limits.add_met(number, places)


class _Limits:
    """Detections that want a number above or below one of theirs (or equal to it, which they check themselves)."""

    __slots__ = ("above", "above_limits", "below", "below_limits")

    def __init__(self, filed: list[tuple[Clue, int]]) -> None:
        above = sorted((clue.limit, place) for clue, place in filed if clue.kind == "above")
        below = sorted((clue.limit, place) for clue, place in filed if clue.kind == "below")
        self.above_limits, self.above = [limit for limit, _ in above], [place for _, place in above]
        self.below_limits, self.below = [limit for limit, _ in below], [place for _, place in below]

    def add_met(self, number: float, places: list[int]) -> None:
        if self.above:
            places += self.above[: bisect_right(self.above_limits, number)]
        if self.below:
            places += self.below[bisect_left(self.below_limits, number) :]


def _is_whole(text: str) -> bool:
    """Whether this is how a whole number is written."""
    # Longer ones are in no integer field, and beyond 4,300 digits Python refuses to read them.
    return len(text) < 20 and text.removeprefix("-").isdecimal() and text.isascii() and str(int(text)) == text


def _by_text(filed: list[tuple[Clue, int]], kind: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for clue, place in filed:
        if clue.kind == kind:
            found.setdefault(clue.text, []).append(place)
    return {text: tuple(places) for text, places in found.items()}


class _Section(Generic[T]):
    """The detections that events of one kind are looked up in."""

    __slots__ = ("always", "items", "others", "plain", "unconditional")

    def __init__(self, entries: list[tuple[T, Cover]]) -> None:
        self.items = [item for item, _ in entries]
        self.always: list[int] = []
        filed: dict[str, list[tuple[Clue, int]]] = {}
        for place, (_, cover) in enumerate(entries):
            if cover is None or any(clue.kind == "contains" and not clue.text for clue in cover):
                self.always.append(place)
                continue
            for clue in sorted(cover):
                filed.setdefault(clue.field, []).append((clue, place))
        columns = [_Column(name, clues) for name, clues in sorted(filed.items())]
        # The commonest columns are looked up without a call.
        self.plain = [(column.name, column.exact, column) for column in columns if column.is_plain]
        self.others = [column for column in columns if not column.is_plain]
        self.unconditional = [self.items[place] for place in self.always]

    def candidates(self, record: Record) -> list[T]:
        places: list[int] = []
        read = record.get
        for name, exact, column in self.plain:
            value: Any = read(name)
            if value is None:
                continue
            if value.__class__ is str:
                if (found := exact.get(value.casefold())) is not None:
                    places += found
            elif value.__class__ is int:
                if (found := exact.get(value)) is not None:
                    places += found
            else:
                column.look_up(value, places)
        for column in self.others:
            value = read(column.name) if column.read is None else column.read(record)
            if value is None:
                continue
            if value.__class__ is int and column.search is None:
                if (found := column.exact.get(value)) is not None:
                    places += found
                if column.limits is not None:
                    column.limits.add_met(value, places)
            elif value.__class__ is str:
                column.look_up_text(value, places)
            else:
                column.look_up(value, places)
            if column.there and value != []:
                places += column.there
        if not places:
            return self.unconditional
        return [self.items[place] for place in sorted({*places, *self.always})]
