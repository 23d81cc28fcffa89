"""The rules and suppressions in force, which follow their folder and file: what processors and the detector share.

The folder is looked at every `WEIR_RULES_POLL_SECONDS`. What has changed is read, judged and compiled in a thread, and taken over
by the event loop between two records. Rules that have become bad stay as they were (`reading.reloading`); a folder that is gone or
empty, and a file of suppressions with a mistake, change nothing. Each is said once.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from weir.detect.reading.folder import Signature, read_folder, signature_of
from weir.detect.reading.loading import DEFAULT_RULES, load_rules
from weir.detect.rules import Problem, RuleSet
from weir.detect.signals.partials import SignalSource
from weir.detect.telling.suppressions import NOTHING, Suppressions, SuppressionsError, load_suppressions
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.ops.settings import SettingsError
from weir.processors.settings import ProcessorSettings

__all__ = ["LiveRules", "load_live_rules"]

SETTLED_NS: Final = 2_000_000_000
"""A file changed so lately may change again without that its times tell: its content is compared again."""

log = ops_logging.get("weir.detect")


class _Seen(NamedTuple):
    """What the folder was like when it was last read; `settled` says that its times alone tell whether it has changed."""

    signature: Signature
    settled: bool
    digest: str


class _News(NamedTuple):
    rule_set: RuleSet
    suppressions: Suppressions


class LiveRules:
    """The rules of a folder and the suppressions of a file.

    Args:
        folder: of rules; None for those that come with Weir.
        suppressions_file: None for none.
        poll_seconds: how often both are looked at.
        now_us: receive time that suppressions are judged by when they are loaded, microseconds UTC.

    Raises:
        SettingsError: there is no such folder, or the suppressions have mistakes; all are named.
    """

    def __init__(
        self,
        folder: str | Path | None,
        suppressions_file: Path | None = None,
        poll_seconds: float = 10.0,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._folder = Path(folder) if folder is not None else DEFAULT_RULES
        self._file = suppressions_file
        self.poll_seconds = poll_seconds
        self._now_us = now_us
        self._looking = asyncio.Lock()
        self._complaints: dict[str, list[str]] = {}
        mistakes: list[str] = []
        suppressions = NOTHING
        try:
            self._seen, self.rule_set = self._seen_now(), _load(self._folder, None)
        except OSError as error:
            mistakes.append(str(error))
        self._seen_file = self._file_digest()
        try:
            suppressions = self._load_suppressions()
        except SuppressionsError as error:
            mistakes += error.mistakes
        if mistakes:
            raise SettingsError(mistakes)
        self.suppressions = suppressions.of(self.rule_set)
        self.source = self._source()
        meter = telemetry.meter("weir.detect")
        self._info = meter.create_gauge("weir.rules.info", "1", "1 for the version of the rules in force, 0 for those before")
        self._loaded = meter.create_gauge("weir.rules.loaded", "1", "Correlations in force, and rules that alert by themselves")
        self._problems = meter.create_gauge("weir.rules.problems", "1", "Documents of the folder that are left out or as they were")
        self._reloads = meter.create_counter("weir.rules.reloads", description="looks at changed rules or suppressions, by outcome")
        self._tell_problems(())

    async def follow(self, changed: Callable[[], None]) -> NoReturn:
        """Look at folder and file for ever; `changed` is called in the event loop after each change was taken over."""
        self._measure("")
        while True:
            await asyncio.sleep(self.poll_seconds)
            await self.look(changed)

    async def look(self, changed: Callable[[], None]) -> bool:
        """Look at folder and file now; whether anything was taken over."""
        async with self._looking:
            news = await asyncio.to_thread(self._news)
            if news is None:
                return False
            before = self.rule_set
            try:
                # The signals' source is made in the thread too: it compiles indexes over all rules.
                source = await asyncio.to_thread(_source_of, *news)
            except Exception:
                # As in `_load_rules`.
                log.exception("making an index of the rules failed; the ones before stay", folder=str(self._folder))
                return False
            self.rule_set, self.suppressions, self.source = *news, source
            self._tell_problems(before.problems)
            self._measure(before.version)
            self._reloads.add(1, {"outcome": "taken"})
            log.info(
                "the rules were read anew",
                rules=self.rule_set.version,
                before=before.version,
                correlations=len(self.rule_set.correlations),
                problems=len(self.rule_set.problems),
                suppressions=len(self.suppressions.suppress),
                allowed=len(self.suppressions.allow),
            )
            changed()
            return True

    def _source(self) -> SignalSource | None:
        return _source_of(self.rule_set, self.suppressions)

    def _news(self) -> _News | None:
        """What has changed, loaded; None where nothing has or what has cannot be used."""
        rule_set, suppressions = self.rule_set, self.suppressions
        try:
            if (seen := self._folder_change()) is not None:
                rule_set = self._load_rules()
                self._seen = seen
            self._complaints.pop("rules", None)
        except OSError as error:
            self._complain("rules", [str(error)])
        try:
            if (digest := self._file_digest()) != self._seen_file:
                suppressions = self._load_suppressions()
                self._seen_file = digest
            self._complaints.pop("suppressions", None)
        except SuppressionsError as error:
            self._complain("suppressions", error.mistakes)
        if rule_set is self.rule_set and suppressions is self.suppressions:
            return None
        return _News(rule_set, suppressions.of(rule_set))

    def _load_rules(self) -> RuleSet:
        try:
            return _load(self._folder, self.rule_set)
        except OSError:
            raise
        except Exception:
            # Ours to mend; until then as with any mistake in the folder, and not tried again before it changes.
            log.exception("reading the rules failed; the ones before stay", folder=str(self._folder))
            return self.rule_set

    def _seen_now(self) -> _Seen:
        signature, latest = signature_of(self._folder)
        settled = time.time_ns() - latest > SETTLED_NS
        digest = hashlib.sha256()
        for name, content in read_folder(self._folder).items():
            digest.update(f"{len(name)} {name} {len(str(content))} ".encode("utf-8", "surrogateescape"))
            digest.update(content if isinstance(content, bytes) else str(content).encode())
        return _Seen(signature, settled, digest.hexdigest())

    def _folder_change(self) -> _Seen | None:
        """How the folder is now, where its content is another than the one that was loaded."""
        seen = self._seen
        if seen.settled and signature_of(self._folder)[0] == seen.signature:
            return None
        now = self._seen_now()
        if now.digest != seen.digest:
            return now
        self._seen = now
        return None

    def _file_digest(self) -> str:
        if self._file is None:
            return ""
        try:
            return hashlib.sha256(self._file.read_bytes()).hexdigest()
        except OSError as error:
            return str(error)

    def _load_suppressions(self) -> Suppressions:
        return NOTHING if self._file is None else load_suppressions(self._file, self._now_us())

    def _complain(self, what: str, mistakes: list[str]) -> None:
        if self._complaints.get(what) != mistakes:
            self._complaints[what] = mistakes
            self._reloads.add(1, {"outcome": "refused"})
            log.error(f"the {what} cannot be used; the ones before stay", mistakes=mistakes)

    def _tell_problems(self, before: tuple[Problem, ...]) -> None:
        for problem in self.rule_set.problems:
            if problem not in before:
                log.warning("rule left out", file=problem.file, line=problem.line, rule=problem.title, cause=problem.cause)
        for remark in self.suppressions.remarks:
            log.warning("a suppression that has no effect", remark=remark)
        for entry in self.suppressions.expired(self._now_us()):
            log.warning("a suppression that has expired", id=entry.id, owner=entry.owner)

    def _measure(self, before: str) -> None:
        if before:
            self._info.set(0, {"version": before})
        self._info.set(1, {"version": self.rule_set.version})
        self._loaded.set(len(self.rule_set.correlations))
        self._problems.set(len(self.rule_set.problems))


def _load(folder: Path, previous: RuleSet | None) -> RuleSet:
    # Parsing makes hundreds of thousands of objects that live until its end. Looking for garbage among them again and again would
    # stop the event loop for as long as it takes, and find none.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return load_rules(folder, previous)
    finally:
        if collecting:
            gc.enable()


def _source_of(rule_set: RuleSet, suppressions: Suppressions) -> SignalSource | None:
    """The single-event part; None where no correlation is left to count for."""
    return SignalSource(suppressions.allowing(rule_set)) if rule_set.correlations else None


def load_live_rules(settings: ProcessorSettings) -> LiveRules:
    """The rules and suppressions that the settings name. Raises SettingsError as `LiveRules`."""
    return LiveRules(settings.rules_dir, settings.suppressions_file, settings.rules_poll_seconds)
