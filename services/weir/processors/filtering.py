"""The operator's filters, as processors apply them: between enrichment and publishing, and read anew when their file changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from weir.enrich.filters import Filtered, FiltersError, FilterSet, load_rules
from weir.model.batch import RawBatch
from weir.ops import logging as ops_logging
from weir.ops.settings import SettingsError
from weir.processors.outcome import Outcome

__all__ = ["Filtering"]

Signature = tuple[int, int, int, int]

log = ops_logging.get("weir.filters")


class Filtering:
    """The filters of a file.

    The file is looked at before a batch is filtered, at most every `poll_seconds`. A file with mistakes changes nothing and is
    complained about once.

    Args:
        path: of the file; None filters nothing.
        clock: seconds, monotonic.

    Raises:
        SettingsError: the file is gone or wrong.
    """

    def __init__(self, path: Path | None, poll_seconds: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._looked = clock()
        self._seen = None if path is None else _signature(path)
        try:
            self.filters = FilterSet(() if path is None else load_rules(path))
        except FiltersError as error:
            raise SettingsError(error.mistakes) from error

    def apply(self, outcome: Outcome, batch: RawBatch) -> Filtered:
        """What becomes of a batch's events; the outcome itself is left as it is."""
        if self._path is not None:
            self._follow(self._path)
        return self.filters.apply(outcome.events, batch.source_ip, batch.source_name)

    def _follow(self, path: Path) -> None:
        now = self._clock()
        if now - self._looked < self._poll_seconds:
            return
        self._looked = now
        signature = _signature(path)
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self.filters = FilterSet(load_rules(path))
        except FiltersError as error:
            log.error("the filters are wrong; the ones before stay", file=str(path), mistakes=error.mistakes)  # noqa: TRY400
            return
        except Exception:
            # Ours to mend; until then as with any other mistake, rather than that this batch is published unfiltered.
            log.exception("reading the filters failed; the ones before stay", file=str(path))
            return
        log.info("the filters were read anew", file=str(path), rules=len(self.filters.rules))


def _signature(path: Path) -> Signature | None:
    """What differs once a file was changed or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the inode too: of a file that could not be read, the permission changes and nothing else.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
