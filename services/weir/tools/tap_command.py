"""`weir tap` on a terminal or into a pipe: settings, signals, output."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from rich.console import Console

from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings, SettingsError, load
from weir.tools.tap import Condition, Shown, Tap, TapError, parse_since, resolve
from weir.tools.tap_view import as_json as json_line
from weir.tools.tap_view import render, summary_line

__all__ = ["run_tap"]


def _unknown_source(name: str, complete: Callable[[], object] | None) -> str:
    """What to say where no source of the catalogue has that name; empty where one has, or the catalogue cannot be read."""
    from weir.model.sources import CatalogueError, load_catalogue  # noqa: PLC0415
    from weir.receivers.sources import SourcesSettings  # noqa: PLC0415

    try:
        file = load(SourcesSettings, complete=complete).sources_file
        if file is None:
            return f"{name} is taken for a name in the catalogue of sources; WEIR_SOURCES_FILE is not set here to look it up"
        known = load_catalogue(file).sources
    except (CatalogueError, SettingsError, OSError):
        return ""
    if any(one.name.lower() == name.lower() for one in known):
        return ""
    return f"{file} has no source named {name}: only what was labelled so before will show"


def run_tap(
    what: str,
    *,
    since: str | None,
    count: int | None,
    where: list[str],
    follow: bool,
    show: str,
    as_hex: bool,
    full: bool,
    as_json: bool,
    complete: Callable[[], object] | None = None,
) -> list[str]:
    """Show until Ctrl-C or the end asked for; what went wrong, one sentence each. `complete` is as `load` takes it."""
    # Into a pipe: no colours, and lines as long as they are.
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
    notes = Console(stderr=True, highlight=False, markup=False)
    try:
        settings = load(ServiceSettings, complete=complete)
        wanted = resolve(what, TopicNames(settings.topic_prefix))
        tap = Tap(
            settings,
            wanted,
            conditions=[Condition.parse(text) for text in where],
            since_us=parse_since(since, time.time_ns() // 1000) if since else None,
            follow=follow,
            count=count,
        )
    except SettingsError as error:
        return error.mistakes
    except TapError as error:
        return [str(error)]
    if (name := wanted.name) and (unknown := _unknown_source(name, complete)):
        notes.print(unknown, style="yellow", soft_wrap=True)
    stop = threading.Event()
    seen = 0

    def put(one: Shown) -> None:
        nonlocal seen
        if tap.totals.skipped > seen:
            notes.print(f"… {tap.totals.skipped - seen:,} Kafka records skipped to keep up …", style="yellow")
            seen = tap.totals.skipped
        if as_json:
            sys.stdout.write(json_line(one, show=show) + "\n")
            sys.stdout.flush()
        else:
            console.print(render(one, console.width, show=show, as_hex=as_hex, full=full))

    previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        tap.run(put, stop, lambda: notes.print(f"watching {what}; Ctrl-C ends it", style="dim") if follow else None)
    except TapError as error:
        return [str(error)]
    except BrokenPipeError:
        # Whoever read this has seen enough, as `| head` does; Python's own flush at exit must not complain again.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    finally:
        signal.signal(signal.SIGINT, previous)
    notes.print(summary_line(tap.totals), soft_wrap=True)
    return []
