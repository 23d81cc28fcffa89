"""`weir rules explain` and `weir rules backtest`: rules tried on one event, and on the past.

What these need is imported when they are called: every `weir` command loads this module.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from weir.tools.rules_common import (
    EXIT_FOUND,
    EXIT_SETTINGS,
    EXIT_UNAVAILABLE,
    AsJson,
    FolderOption,
    Only,
    SuppressionsFile,
    fail,
    load,
    matching,
    output,
    print_json,
    with_suppressions,
)

if TYPE_CHECKING:
    from weir.detect.rules import RuleSet
    from weir.ops.settings import ServiceSettings

__all__ = ["backtest_command", "explain_command"]


def explain_command(
    event: Annotated[
        str, typer.Argument(metavar="EVENT", help="a file with events or an alert in JSON, - for standard input, or an event id")
    ],
    folder: FolderOption = None,
    only: Only = None,
    dataset: Annotated[str | None, typer.Option(help="of events that do not name theirs")] = None,
    suppressions: SuppressionsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say which rules look at an event, which match, and where the others fail; with --rule, as the whole tree of its condition.

    An event id is fetched from Kafka. Exit 1 where no rule (or not the rule asked for) matches.
    """
    from weir.detect.reading.loading import parsed_rules  # noqa: PLC0415
    from weir.tools.rules_explain import read_events  # noqa: PLC0415
    from weir.tools.rules_explain_view import explained, show  # noqa: PLC0415

    rule_set, _ = with_suppressions(load(folder), folder, suppressions)
    wanted = _chosen(rule_set, only or [])
    try:
        if _is_event_id(event):
            events = _fetched(event)
        elif event == "-":
            events = read_events(sys.stdin.buffer.read(), "standard input", dataset)
        else:
            events = read_events(Path(event).read_bytes(), event, dataset)
    except OSError as error:
        fail(EXIT_SETTINGS, [f"{event}: {error.strerror}; it is no event id either, which Kafka could be asked for"])
    except ValueError as error:
        fail(EXIT_SETTINGS, [str(error)])
    parsed = parsed_rules(folder)
    found = [explained(rule_set, parsed, name, record, wanted) for name, record in events]
    if as_json:
        print_json(found)
    else:
        console = output()
        for one in found:
            show(console, one, whole=wanted is not None)
    matched = any(rule["matches"] for one in found for rule in one["rules"])
    raise typer.Exit(0 if matched else EXIT_FOUND)


def _is_event_id(text: str) -> bool:
    from weir.model.ids import parse_event_id  # noqa: PLC0415

    try:
        batch, _, _ = parse_event_id(text)
        bytes.fromhex(batch)
    except ValueError:
        return False
    return True


def _fetched(event_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The event of this id, from Kafka. Exit 3 where it cannot be asked, or has no such event any more."""
    from weir.bus.topics import TopicsUnavailable  # noqa: PLC0415
    from weir.tools.evidence import EvidenceReader  # noqa: PLC0415

    try:
        with EvidenceReader(_settings()) as reader:
            found = reader.find_event(event_id)
    except TopicsUnavailable as error:
        fail(EXIT_UNAVAILABLE, [str(error), "way out: check WEIR_KAFKA_BOOTSTRAP_SERVERS and that the cluster runs"])
    if found is None:
        fail(EXIT_UNAVAILABLE, [f"no event topic has {event_id}: it has expired, or was not published"])
    return [found]


def _chosen(rule_set: RuleSet, only: list[str]) -> set[str] | None:
    """Ids of the rules that are meant, those that count in a correlation for a correlation; None for all. Exit 2 for none."""
    from weir.tools.rules_explain import of_correlation  # noqa: PLC0415

    if not only:
        return None
    ids = {rule.id for rule in rule_set.rules if any(matching(rule, text) for text in only)}
    for correlation in rule_set.correlations:
        if any(matching(correlation, text) for text in only):
            ids |= {rule.id for rule in of_correlation(rule_set, correlation)}
    if not ids:
        left = [str(p) for p in rule_set.problems if any(text.lower() in p.title.lower() for text in only)]
        fail(EXIT_SETTINGS, [f"no rule is called {', '.join(only)}; `weir rules list` shows what there is", *left])
    return ids


def backtest_command(
    since: Annotated[str, typer.Option("--from", help="-2h, -1d … back from now, or a time")],
    until: Annotated[str | None, typer.Option("--to", help="as --from [default: now]")] = None,
    folder: FolderOption = None,
    only: Only = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="folder of other rules, to say what has changed from them")
    ] = None,
    before: Annotated[
        str, typer.Option("--learn", help="read events so long before --from too, for what learns; not reported: 8d")
    ] = "0s",
    suppressions: SuppressionsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what rules would have told of the events received in a past range of time, by what the event topics hold.

    Live state is not touched. Exit 1 where --compare finds a difference.
    """
    import time  # noqa: PLC0415

    from weir.bus.topics import TopicsUnavailable  # noqa: PLC0415
    from weir.detect.case_events import duration_us  # noqa: PLC0415
    from weir.tools.backtest_command import backtest  # noqa: PLC0415
    from weir.tools.tap import TapError, parse_since  # noqa: PLC0415

    now = time.time_ns() // 1000
    try:
        begin = parse_since(since, now)
        end = now if until is None else parse_since(until, now, "--to")
        learn = duration_us(before, "--learn")
    except (TapError, ValueError) as error:
        fail(EXIT_SETTINGS, [str(error)])
    if begin >= end:
        fail(EXIT_SETTINGS, ["--from must lie before --to"])
    folders = [folder] if compare is None else [folder, compare]
    tried = [with_suppressions(_narrowed(load(one), only or []), one, suppressions) for one in folders]
    if not any(c.announce for rule_set, _ in tried for c in rule_set.correlations):
        what = f"nothing that alerts is called {', '.join(only)}" if only else "there is no rule that alerts"
        fail(EXIT_SETTINGS, [f"{what}; `weir rules list` shows what there is"])
    for rule_set, _ in tried:
        for problem in rule_set.problems:
            if problem.wrong:
                Console(stderr=True, highlight=False).print(f"weir: left out: {problem}", markup=False, soft_wrap=True)
    try:
        code = backtest(_settings(), tried, begin, end, learn, as_json=as_json, console=output())
    except TopicsUnavailable as error:
        fail(EXIT_UNAVAILABLE, [str(error), "way out: check WEIR_KAFKA_BOOTSTRAP_SERVERS and that the cluster runs"])
    raise typer.Exit(code)


def _narrowed(rule_set: RuleSet, only: list[str]) -> RuleSet:
    """The rule set with what is called so alone, and what counts in it."""
    from weir.detect.offline import subset  # noqa: PLC0415

    if not only:
        return rule_set
    named = {rule.id for rule in rule_set.rules if rule.name in only}
    return subset(rule_set, [c for c in rule_set.correlations if c.id in named or any(matching(c, text) for text in only)])


def _settings() -> ServiceSettings:
    """Settings for Kafka. Exit 2 with every mistake."""
    from weir.ops.settings import SettingsError  # noqa: PLC0415
    from weir.tools.kafka_settings import kafka_settings  # noqa: PLC0415

    try:
        return kafka_settings()
    except SettingsError as error:
        fail(EXIT_SETTINGS, error.mistakes)
