"""Tables that people keep in files: rows of a CSV with a header, or of a YAML list, each with the line it stands in."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import yaml

from weir.model.yamlfile import YAML_ERRORS

__all__ = ["MAX_MISTAKES", "Row", "TableError", "read_rows", "row_of"]

MAX_MISTAKES: Final = 50
"""So many mistakes are named; more are counted."""
MAX_ROWS: Final = 1_000_000
_MAX_TEXT: Final = 1_000
_LISTS: Final = frozenset({"aliases", "roles", "domain", "upn", "email", "sid", "uid"})


class TableError(ValueError):
    """A table that cannot be used; `mistakes` holds one sentence each, with file and line."""

    def __init__(self, mistakes: list[str]) -> None:
        shown = mistakes[:MAX_MISTAKES]
        if len(mistakes) > MAX_MISTAKES:
            shown.append(f"and {len(mistakes) - MAX_MISTAKES} more mistakes")
        super().__init__("\n".join(shown))
        self.mistakes = shown


class Row(NamedTuple):
    """One row: where it stands, such as "assets.csv:7", and its cells. Keys that may have several values hold a tuple of them."""

    place: str
    cells: dict[str, Any]

    def text(self, key: str) -> str | None:
        """A cell with one value; None where it is empty or not there."""
        found = self.cells.get(key)
        return found if isinstance(found, str) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A cell with several values."""
        found = self.cells.get(key, ())
        return found if isinstance(found, tuple) else (found,)


def read_rows(name: str, content: bytes, keys: frozenset[str], mistakes: list[str]) -> list[Row]:
    """The rows of a file.

    Args:
        name: of the file: one that ends in .csv is read as CSV, anything else as YAML. Mistakes name it.
        content: UTF-8. In CSV several values in a cell are separated by "|", cells by "," or ";" as the header has it.
        keys: that a row may have.
        mistakes: gets one sentence for each mistake; the rows without one are returned all the same.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistakes.append(f"{name}:{line}: not UTF-8: {error.reason} at byte {error.start}")
        return []
    reader = _csv_rows if name.lower().endswith(".csv") else _yaml_rows
    found = reader(name, text, keys, mistakes)
    if len(found) > MAX_ROWS:
        mistakes.append(f"{name}: {len(found):,} rows are more than {MAX_ROWS:,}")
        return []
    return found


def row_of(place: str, entry: Mapping[Any, Any], keys: frozenset[str], mistakes: list[str]) -> Row | None:
    """A row from a mapping, such as a JSON object; None, and a sentence in `mistakes`, where it is none."""
    cells: dict[str, Any] = {}
    good = True
    for key, value in entry.items():
        if key not in keys:
            mistakes.append(f"{place}: {key!r} is not a key of this table{_meant(str(key), keys)}")
            good = False
            continue
        values = value if isinstance(value, list) else [value]
        if key not in _LISTS and isinstance(value, list):
            mistakes.append(f"{place}: {key} has one value, not a list")
            good = False
            continue
        texts = []
        for item in values:
            if item is None or item == "":
                continue
            if isinstance(item, bool) or not isinstance(item, (str, int)):
                mistakes.append(f"{place}: {key}: {item!r} is no text; quote it")
                good = False
                continue
            if bad := _bad_text(str(item)):
                mistakes.append(f"{place}: {key}: {bad}")
                good = False
                continue
            texts.append(str(item).strip())
        texts = [text for text in texts if text]
        if texts:
            cells[key] = tuple(texts) if key in _LISTS else texts[0]
    return Row(place, cells) if good else None


def _bad_text(text: str) -> str | None:
    if len(text) > _MAX_TEXT:
        return f"{len(text)} characters are more than {_MAX_TEXT}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a character"
    return None


def _meant(word: str, known: frozenset[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"


def _csv_rows(name: str, text: str, keys: frozenset[str], mistakes: list[str]) -> list[Row]:
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows: list[Row] = []
    header: list[str] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    begins = 1
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1
            if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                if unknown := [column for column in header if column not in keys]:
                    mistakes += [f"{name}:{line}: {c!r} is not a column of this table{_meant(c, keys)}" for c in unknown]
                    return []
                if twice := sorted({column for column in header if header.count(column) > 1}):
                    mistakes.append(f"{name}:{line}: the column {twice[0]!r} stands there twice")
                    return []
                continue
            if len(cells) > len(header):
                mistakes.append(f"{name}:{line}: {len(cells)} cells, but the header names {len(header)}")
                continue
            entry = {
                column: [part.strip() for part in cell.split("|")] if column in _LISTS else cell.strip()
                for column, cell in zip(header, cells, strict=False)
            }
            if (row := row_of(f"{name}:{line}", entry, keys, mistakes)) is not None and row.cells:
                rows.append(row)
    except csv.Error as error:
        mistakes.append(f"{name}:{begins}: not CSV: {error}")
    return rows


def _yaml_rows(name: str, text: str, keys: frozenset[str], mistakes: list[str]) -> list[Row]:
    loader = yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader
    try:
        root = yaml.compose(text, Loader=loader)
        if root is None:
            return []
        if not isinstance(root, yaml.SequenceNode):
            mistakes.append(f"{name}:{root.start_mark.line + 1}: must be a list of entries, each beginning with a dash")
            return []
        entries = yaml.load(text, Loader=loader)  # noqa: S506  both are the safe loaders
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        mistakes.append(f"{name}:{mark.line + 1 if mark else 1}: not YAML: {problem}")
        return []
    rows = []
    for node, entry in zip(root.value, entries, strict=True):
        place = f"{name}:{node.start_mark.line + 1}"
        if not isinstance(entry, dict):
            mistakes.append(f"{place}: must be keys and values, not {type(entry).__name__}")
        elif len(entry) < len(node.value):
            # YAML's loader takes the last one in silence.
            names = [str(key.value) for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), names[-1])
            mistakes.append(f"{place}: the key {twice!r} stands there twice")
        elif (row := row_of(place, entry, keys, mistakes)) is not None and row.cells:
            rows.append(row)
    return rows
