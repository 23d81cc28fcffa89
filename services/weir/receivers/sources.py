"""Who sends: every sender is looked up here, before the first of its units is taken.

The operator's catalogue (`weir.model.sources`) tells who a sender is and what is known of it. It is read anew when its file
changes; a file with mistakes changes nothing and is complained about. What was answered is remembered for so many senders, so that
a look-up costs less than a microsecond and a flood of invented addresses costs time but no memory.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from weir.model.sources import Catalogue, CatalogueError, KnownSource, load_catalogue, network_of
from weir.ops.logging import get
from weir.ops.settings import SettingsError
from weir.ops.tls import TlsSettings
from weir.receivers.publishing.batching import Source

__all__ = ["MAX_REMEMBERED", "Sources", "SourcesSettings"]

MAX_REMEMBERED = 16_384
"""Senders whose answer is remembered, some 400 bytes each."""

LookUp = Callable[[str, str, int, str | None], Source | None]
Signature = tuple[int, int, int]

log = get("weir.sources")


def _allowed(text: str) -> Catalogue | None:
    """The allow-list as something to look addresses up in; None where it is empty. Raises ValueError for what is no range."""
    ranges = [part.strip() for part in text.split(",") if part.strip()]
    return Catalogue([KnownSource("allowed", tuple(map(network_of, ranges)))]) if ranges else None


class SourcesSettings(TlsSettings):
    """Who may send, and where the catalogue of senders is."""

    sources_file: Path | None = Field(None, description="catalogue of sources, YAML (docs/sources.md); read anew when it changes")
    sources_unknown: str = Field(
        "accept",
        pattern="^(accept|quarantine|refuse)$",
        description="what becomes of senders that are not in the catalogue; quarantined ones wait in the topic raw.quarantine for "
        "`weir sources release`",
    )
    sources_poll_seconds: float = Field(2.0, ge=0.05, le=3600, description="how often the catalogue is looked at for changes")
    receiver_allow: str = Field(
        "", description="CIDR ranges that may send, comma separated; others are refused and counted; empty allows all"
    )

    @model_validator(mode="after")
    def _sources(self) -> Self:
        mistakes = []
        if self.sources_file is None and self.sources_unknown != "accept":
            mistakes.append(
                f"WEIR_SOURCES_UNKNOWN is {self.sources_unknown}, but without WEIR_SOURCES_FILE all senders are unknown: name a "
                "catalogue"
            )
        try:
            _allowed(self.receiver_allow)
        except ValueError as error:
            mistakes.append(f"WEIR_RECEIVER_ALLOW: {error}")
        if self.sources_file is not None and self.sources_file.is_file():
            try:
                load_catalogue(self.sources_file)
            except CatalogueError as error:
                mistakes += error.mistakes
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class Sources:
    """The operator's view of senders.

    Args:
        catalogue: of known senders; None where there is none, and all are as good as unknown.
        unknown: accept, quarantine or refuse.
        allow: CIDR ranges, comma separated; empty allows all.

    Raises:
        ValueError: a range is none.
    """

    def __init__(self, catalogue: Catalogue | None = None, *, unknown: str = "accept", allow: str = "") -> None:
        self._unknown = unknown
        self._allow = _allowed(allow)
        self.replace(catalogue)

    @classmethod
    def of_settings(cls, settings: SourcesSettings) -> Sources:
        """The catalogue that the settings name, kept up to date by a thread for as long as this object is in use.

        Raises:
            SettingsError: the file is gone, or has become wrong, since the settings were read.
        """
        path = settings.sources_file
        seen = None if path is None else _signature(path)
        try:
            catalogue = None if path is None else load_catalogue(path)
        except CatalogueError as error:
            raise SettingsError(error.mistakes) from error
        sources = cls(catalogue, unknown=settings.sources_unknown, allow=settings.receiver_allow)
        if path is not None:
            arguments = (weakref.ref(sources), path, seen, settings.sources_poll_seconds)
            threading.Thread(target=_follow, args=arguments, name="sources", daemon=True).start()
        return sources

    def replace(self, catalogue: Catalogue | None) -> None:
        """Answer by this catalogue from now on, in any thread: old answers go with the old one."""
        self.catalogue = catalogue
        self._look_up: LookUp = lru_cache(MAX_REMEMBERED)(_answers(catalogue, self._unknown, self._allow))

    def of(self, ip: str, transport: str, listener_port: int, tls_subject: str | None = None) -> Source | None:
        """What units of this sender are labelled with; None where it is refused.

        Equal for equal arguments until the catalogue changes. Cheap enough to be called for each datagram. Connections call it
        anew for each read, so that a reloaded catalogue counts at once.
        """
        return self._look_up(ip, transport, listener_port, tls_subject)


def _answers(catalogue: Catalogue | None, unknown: str, allow: Catalogue | None) -> LookUp:
    def look_up(ip: str, transport: str, port: int, subject: str | None) -> Source | None:
        if allow is not None and allow.find(ip, None, None) is None:
            return None
        known = None if catalogue is None else catalogue.find(ip, transport, port, subject)
        if known is None:
            return None if unknown == "refuse" else Source(ip, transport, port, subject, quarantined=unknown == "quarantine")
        return Source(
            ip,
            transport,
            port,
            subject,
            name=known.name,
            tenant=known.tenant,
            vendor=known.vendor,
            site=known.site,
            time_zone=known.time_zone,
            copied=known.copies,
        )

    return look_up


def _signature(path: Path) -> Signature | None:
    """What differs once a file was changed or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _follow(owner: weakref.ref[Sources], path: Path, seen: Signature | None, seconds: float) -> None:
    """Look at the file every so many seconds, until nobody uses the catalogue any more."""
    pause = threading.Event()
    while True:
        pause.wait(seconds)
        sources = owner()
        if sources is None:
            return
        now = _signature(path)
        if now != seen:
            seen = now
            _read_anew(sources, path)
        del sources


def _read_anew(sources: Sources, path: Path) -> None:
    try:
        catalogue = load_catalogue(path)
    except CatalogueError as error:
        log.error("the catalogue of sources is wrong; the one before stays", file=str(path), mistakes=error.mistakes)  # noqa: TRY400
        return
    except Exception:
        # This thread is all that follows the file.
        log.exception("the catalogue of sources cannot be read; the one before stays", file=str(path))
        return
    sources.replace(catalogue)
    log.info("the catalogue of sources was read anew", file=str(path), sources=len(catalogue.sources))
