"""The tables of a processor, fresh: read at start, watched, and swapped whole when a file changes.

Files are looked at every few seconds, in a thread; a change is a new inode, time of change or size of what the path leads to, so
that replacing by rename, the swap of a ConfigMap's symbolic link, and editing in place are all seen. What cannot be read stays as
it was, a warning says why, and it is tried again after some minutes: what was wrong need not have been the file.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from weir.enrich.assets import ASSET_KEYS, AssetTable, compile_assets
from weir.enrich.geo import GeoDatabase
from weir.enrich.intel import Indicator, IntelError, IntelList, IntelTable, Report, compile_intel, read_list
from weir.enrich.lookup import Lookup, Tables
from weir.enrich.rows import Row, TableError, read_rows
from weir.enrich.users import USER_KEYS, UserTable, compile_users
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.ops.settings import SettingsError
from weir.processors.assets_topic import AssetsTopic
from weir.processors.settings import ProcessorSettings

__all__ = ["MAX_FILE_BYTES", "HotTables", "IntelSource", "Loaded", "intel_sources"]

MAX_FILE_BYTES: Final = 512 * 1024 * 1024
_TRY_AGAIN_SECONDS: Final = 300.0
# Beside the events of a MISP feed: its table of contents, and MD5 of everything in it, also of what is not for detection.
_NOT_LISTS: Final = frozenset({"manifest.json", "hashes.csv"})

log = ops_logging.get("weir.enrich")


@dataclass(frozen=True, slots=True)
class IntelSource:
    """One list as configured: its file, and the name it has in events."""

    provider: str
    path: Path


@dataclass(slots=True)
class Loaded:
    """What came of reading one kind of table: how many entries, what was left out, and as of when its newest file is."""

    entries: int
    changed_at: float
    reports: dict[str, Report]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _paths(text: str) -> list[Path]:
    return [Path(part) for part in _listed(text)]


def intel_sources(text: str) -> list[IntelSource]:
    """The lists behind WEIR_ENRICH_INTEL: files, and the files of folders, `name=` in front of either.

    Raises:
        TableError: a path leads nowhere.
    """
    found, mistakes = [], []
    for part in _listed(text):
        name, equals, rest = part.partition("=")
        path = Path(rest if equals and "/" not in name else part)
        given = name.strip() if equals and "/" not in name else ""
        try:
            if path.is_dir():
                files = sorted(f for f in path.iterdir() if not f.name.startswith(".") and f.name not in _NOT_LISTS and f.is_file())
                found += [IntelSource(given or file.stem, file) for file in files]
            elif path.is_file():
                found.append(IntelSource(given or path.stem, path))
            else:
                mistakes.append(f"WEIR_ENRICH_INTEL: there is no file or folder {path}")
        except OSError as error:
            mistakes.append(f"WEIR_ENRICH_INTEL: {path}: {error.strerror}")
    if mistakes:
        raise TableError(mistakes)
    return found


def _naming(path: Path, indicators: Iterator[Indicator]) -> Iterator[Indicator]:
    """The same, but its error names the file."""
    try:
        yield from indicators
    except IntelError as error:
        raise IntelError(f"{path}: {error}") from error


def _read(path: Path, setting: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise TableError([f"{setting}: {path} has {size:,} bytes; {MAX_FILE_BYTES:,} are the most"])
        return path.read_bytes()
    except OSError as error:
        raise TableError([f"{setting}: {path}: {error.strerror}"]) from error


class HotTables:
    """All tables of one processor.

    Args:
        settings: name the files.

    Raises:
        SettingsError: with every mistake in every file.
    """

    def __init__(self, settings: ProcessorSettings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._topic = AssetsTopic(settings, log) if settings.enrich_assets_topic else None
        self._seen_changes = 0
        self.loaded: dict[str, Loaded] = {}
        self._kinds: dict[str, Callable[[], dict[str, Any]]] = {}
        if settings.enrich_mmdb_files:
            self._kinds["geo"] = self._load_geo
        if settings.enrich_asset_files or settings.enrich_user_files or self._topic is not None:
            self._kinds["assets"] = self._load_assets
        if settings.enrich_intel:
            self._kinds["intel"] = self._load_intel
        meter = telemetry.meter("weir.enrich")
        self._count_reloads = meter.create_counter("weir.enrich.reloads", description="tables read anew, by kind and outcome")
        self._entries = meter.create_gauge("weir.enrich.entries", "1", "Entries of each table")
        self._changed = meter.create_gauge("weir.enrich.age", "s", "How long ago the newest file of each table was changed")
        self._broken = meter.create_gauge(
            "weir.enrich.broken", "1", "Look-ups that MaxMind DB files could not answer, being damaged"
        )
        tables = Tables()
        mistakes: list[str] = []
        self._try_again: dict[str, float] = {}
        self._marks = {kind: self._mark(kind) for kind in self._kinds}
        for load in self._kinds.values():
            try:
                tables = replace(tables, **load())
            except TableError as error:
                mistakes += error.mistakes
            except OSError as error:  # a file that vanished between two looks at it
                mistakes.append(f"tables: {error.filename}: {error.strerror}")
        if mistakes:
            raise SettingsError(mistakes)
        self._lookup = Lookup(tables, settings.enrich_cache_entries)

    @property
    def lookup(self) -> Lookup:
        """The tables as they are now."""
        return self._lookup

    @property
    def configured(self) -> bool:
        """Whether there is any table."""
        return bool(self._kinds)

    # --- reading -------------------------------------------------------------------------------------------------------------

    def _load_geo(self) -> dict[str, Any]:
        databases, mistakes = [], []
        for path in _paths(self._settings.enrich_mmdb_files):
            try:
                databases.append(GeoDatabase(path))
            except TableError as error:
                mistakes += [f"WEIR_ENRICH_MMDB_FILES: {mistake}" for mistake in error.mistakes]
        if mistakes:
            raise TableError(mistakes)
        self._note("geo", sum(database.nodes for database in databases), _paths(self._settings.enrich_mmdb_files))
        return {"geo": tuple(databases)}

    def _rows(self, setting: str, text: str, keys: frozenset[str], mistakes: list[str]) -> list[Row]:
        rows: list[Row] = []
        for path in _paths(text):
            try:
                rows += read_rows(str(path), _read(path, setting), keys, mistakes)
            except TableError as error:
                mistakes += error.mistakes
        return rows

    def _load_assets(self) -> dict[str, Any]:
        """Assets and users together: rows of users in the assets' files belong to the users."""
        settings = self._settings
        mistakes: list[str] = []
        rows = self._rows("WEIR_ENRICH_ASSET_FILES", settings.enrich_asset_files, ASSET_KEYS, mistakes)
        assets: AssetTable = compile_assets(rows, mistakes, self._topic.subjects() if self._topic is not None else ())
        rows = self._rows("WEIR_ENRICH_USER_FILES", settings.enrich_user_files, USER_KEYS, mistakes)
        users: UserTable = compile_users(rows, mistakes, assets.users.items())
        if mistakes:
            raise TableError(mistakes)
        self._note("assets", len(assets), _paths(settings.enrich_asset_files))
        self._note("users", users.entities, _paths(settings.enrich_user_files))
        return {"assets": assets, "users": users}

    def _load_intel(self) -> dict[str, Any]:
        settings = self._settings
        sources = intel_sources(settings.enrich_intel)
        reports = {str(source.path): Report() for source in sources}
        try:
            table: IntelTable = compile_intel(
                self._lists(sources, reports),
                limit=settings.enrich_intel_max_indicators,
                max_age_days=settings.enrich_intel_max_age_days,
            )
        except IntelError as error:
            raise TableError([f"WEIR_ENRICH_INTEL: {error}"]) from error
        self._note("intel", len(table), [source.path for source in sources], reports)
        return {"intel": table}

    def _lists(self, sources: list[IntelSource], reports: dict[str, Report]) -> Iterator[IntelList]:
        for source in sources:
            report = reports[str(source.path)]
            content = _read(source.path, "WEIR_ENRICH_INTEL")
            as_of = round(source.path.stat().st_mtime * 1_000_000)
            yield IntelList(source.provider, as_of, _naming(source.path, read_list(source.path.name, content, report)), report)

    def _note(self, kind: str, entries: int, paths: list[Path], reports: dict[str, Report] | None = None) -> None:
        times = []
        for path in paths:
            try:
                times.append(path.stat().st_mtime)
            except OSError:
                continue
        self.loaded[kind] = Loaded(entries, max(times, default=time.time()), reports or {})

    # --- watching ------------------------------------------------------------------------------------------------------------

    def _files(self, kind: str) -> list[Path]:
        settings = self._settings
        if kind == "geo":
            return _paths(settings.enrich_mmdb_files)
        if kind == "assets":
            return _paths(settings.enrich_asset_files) + _paths(settings.enrich_user_files)
        try:
            return [source.path for source in intel_sources(settings.enrich_intel)]
        except TableError:
            return []

    def _mark(self, kind: str) -> tuple[object, ...]:
        """What changes when any of the files does."""
        marks: list[object] = [self._topic.changes] if kind == "assets" and self._topic is not None else []
        for path in self._files(kind):
            try:
                found = path.stat()
            except OSError:
                marks.append((str(path), None))
            else:
                marks.append((str(path), found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size))
        return tuple(marks)

    def check(self) -> list[str]:
        """Look at the files once and read anew what has changed; the kinds that were swapped."""
        swapped = []
        for kind, load in self._kinds.items():
            mark = self._mark(kind)
            if mark == self._marks[kind] and time.monotonic() < self._try_again.get(kind, math.inf):
                continue
            self._try_again.pop(kind, None)
            # Noted first: a file that changes while it is read differs again at the next look.
            self._marks[kind] = mark
            try:
                tables = replace(self._lookup.tables, **load())
            except Exception as error:
                # Whatever it is: tables that other files have may be fresh all the same.
                mistakes = error.mistakes if isinstance(error, TableError) else [repr(error)]
                self._try_again[kind] = time.monotonic() + _TRY_AGAIN_SECONDS
                log.warning("a table could not be read anew; the old one is kept", kind=kind, mistakes=mistakes)
                self._count_reloads.add(1, {"kind": kind, "outcome": "kept"})
                continue
            self._lookup = Lookup(tables, self._settings.enrich_cache_entries)
            self._count_reloads.add(1, {"kind": kind, "outcome": "swapped"})
            log.info("tables read anew", kind=kind)
            self._tell("assets", "users") if kind == "assets" else self._tell(kind)
            swapped.append(kind)
        return swapped

    def _tell(self, *kinds: str) -> None:
        for kind in kinds:
            one = self.loaded[kind]
            log.info("table", kind=kind, entries=one.entries)
            for path, report in one.reports.items():
                if report.left_out:
                    log.info("entries of a list left out", file=path, entries=report.left_out, examples=report.examples)

    def _gauge(self) -> None:
        now = time.time()
        if broken := sum(database.failures for database in self._lookup.tables.geo):
            self._broken.set(broken)
        for kind, one in self.loaded.items():
            self._entries.set(one.entries, {"table": kind})
            self._changed.set(max(0.0, now - one.changed_at), {"table": kind})

    def start(self) -> None:
        """Read the topic to its end, and begin to watch.

        Raises:
            DeliveryFailed: the topic could not be read.
        """
        if self._topic is not None:
            self._topic.start()
            self.check()
        self._tell(*self.loaded)
        self._gauge()
        if self._settings.enrich_reload_seconds:
            self._thread = threading.Thread(target=self._watch, name="weir-tables", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._topic is not None:
            self._topic.close()
        if self._thread is not None:
            self._thread.join(10.0)

    def _watch(self) -> None:
        while not self._stop.wait(self._settings.enrich_reload_seconds):
            try:
                self.check()
                self._gauge()
            except Exception:
                # Without this thread the processor would go on with tables that grow old, healthy by its looks.
                log.exception("looking at the tables failed; trying again")
