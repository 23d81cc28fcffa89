"""`weir decode` on a terminal or into a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from zoneinfo import ZoneInfo

from weir.ops import logging as ops_logging
from weir.processors.enrichment import Enrichment
from weir.processors.plugins import Plugins
from weir.tools.decode.batches import DeadUnit, Totals, decode
from weir.tools.decode.families import FAMILIES, Family
from weir.tools.decode.output import json_line
from weir.tools.decode.sources import DEFAULT_SOURCE, Options
from weir.tools.decode.units import DecodeError, Note
from weir.tools.tap_view import printable

__all__ = ["UsageError", "make_options", "run_decode", "summary"]

EXIT_DEAD = 1
EXIT_USAGE = 2
_STDIN = "-"


class UsageError(ValueError):
    """What was asked for cannot be; the text says why, and what can."""


def find_family(name: str) -> Family:
    """The family. Raises UsageError naming those there are."""
    family = FAMILIES.get(name)
    if family is None:
        raise UsageError(f"no family {name!r}; there are {', '.join(FAMILIES)}")
    return family


def make_options(
    *,
    received: str | None = None,
    time_zone: str | None = None,
    source: str | None = None,
    ports: Sequence[int] = (),
    split: bool = False,
    plugins: Plugins | None = None,
    enrichment: Enrichment | None = None,
) -> Options:
    """Options from their text. Raises UsageError for what is no time, zone, address or port."""
    if time_zone is not None:
        try:
            ZoneInfo(time_zone)
        except (KeyError, ValueError, OSError) as error:
            raise UsageError(f"--time-zone {time_zone}: not known here; such as Europe/Helsinki") from error
    if source is not None:
        try:
            source = str(ip_address(source))
        except ValueError as error:
            raise UsageError(f"--source: {error}") from error
    if wrong := [port for port in ports if not 0 < port < 65_536]:
        raise UsageError(f"--port {wrong[0]}: 1 to 65535")
    return Options(
        received_us=time.time_ns() // 1000 if received is None else _time_us(received),
        received_given=received is not None,
        source_ip=source or DEFAULT_SOURCE,
        source_given=source is not None,
        time_zone=time_zone,
        ports=frozenset(ports),
        split=split,
        plugins=plugins or Plugins(),
        enrichment=enrichment,
    )


def _time_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--received {text}: no time; such as 2026-11-27T13:00:00Z") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)


def run_decode(
    family: Family,
    paths: Sequence[str],
    options: Options,
    *,
    everything: bool = False,
    raw_times: bool = False,
    verbatim: bool = False,
    quiet: bool = False,
    limit: int | None = None,
    notes: Sequence[str] = (),
) -> int:
    """Decode and print; the exit code. `notes` are told first."""
    # To standard error, as in services: without this, what a plug-in's failure logs would stand among the events.
    ops_logging.configure("decode", "", level="warning", form="text")
    totals = Totals()
    code = 0
    printed = 0

    def note(text: str) -> None:
        sys.stderr.write(printable(text) + "\n")

    if not quiet:
        for text in notes:
            note(f"weir: {text}")
    found = decode(family, paths or [_STDIN], options, totals)
    try:
        for one in found:
            if isinstance(one, Note):
                note(f"{one.place}: {one.text}")
                continue
            if isinstance(one, DeadUnit):
                code = EXIT_DEAD
                if not quiet:
                    note(f"{one.place}: {one.reason}")
                continue
            sys.stdout.write(
                json_line(one.dataset, one.record, everything=everything, raw_times=raw_times, verbatim=verbatim) + "\n"
            )
            printed += 1
            if printed == limit:
                break
        sys.stdout.flush()
    except DecodeError as error:
        code = EXIT_USAGE
        note(f"weir: {error}")
    except BrokenPipeError:
        # Whoever read this has seen enough, as `| head` does; Python's own flush at exit must not complain again.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return code
    if not quiet:
        note(f"stopped after {printed:,} events" if printed == limit else summary(totals))
    return code


def summary(totals: Totals) -> str:
    """What came of it all, in a line."""
    by_dataset = ", ".join(f"{name} {count:,}" for name, count in totals.events.most_common())
    parts = [
        f"{totals.units:,} units",
        f"{totals.events.total():,} events" + (f" ({by_dataset})" if by_dataset else ""),
        f"{totals.empty:,} empty",
        f"{totals.dead:,} dead",
    ]
    for count, what in (
        (totals.templates, "templates"),
        (totals.option_records, "options records"),
        (totals.other, "datagrams and connections of another kind"),
        (totals.passed_over, "packets that are no UDP or TCP"),
        (totals.incomplete, "gaps in what was captured"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    return ", ".join(parts)
