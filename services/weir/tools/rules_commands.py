"""`weir rules …`: look at rules, judge them, run their test cases, ask why one did not match, and try them on the past.

What these need is imported when they are called: every `weir` command loads this module.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from weir.detect.cases import CaseResult
    from weir.detect.rules import RuleSet
    from weir.ops.settings import ServiceSettings

__all__ = ["rules_app"]

EXIT_FOUND = 1
EXIT_SETTINGS = 2
EXIT_UNAVAILABLE = 3
_WIDE = 200
_LEVELS = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}

rules_app = typer.Typer(
    help="Rules of detection: look at them, judge them, test them, try them on the past.",
    no_args_is_help=True,
    epilog="Examples: weir rules check rules/ · weir rules test rules/ --rule 'Port scan' · "
    "weir decode syslog line.log | weir rules explain - · weir rules backtest --from -2h --folder rules/",
)

Folder = Annotated[
    Path | None, typer.Argument(envvar="WEIR_RULES_DIR", help="folder of rules [default: WEIR_RULES_DIR, else those of Weir]")
]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", envvar="WEIR_RULES_DIR", help="folder of rules instead of those of Weir")
]
Only = Annotated[list[str] | None, typer.Option("--rule", help="id, name or part of a title; may be repeated")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def _fail(code: int, lines: list[str]) -> NoReturn:
    console = Console(stderr=True, highlight=False)
    for line in lines:
        console.print(f"weir: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        # What goes into a file or a pipe is not bound to 80 columns.
        console.width = max(console.width, _WIDE)
    return console


def _load(folder: Path | None) -> RuleSet:
    from weir.detect.loading import load_rules  # noqa: PLC0415

    try:
        return load_rules(folder)
    except FileNotFoundError as error:
        _fail(EXIT_SETTINGS, [str(error)])


def _print(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))  # noqa: T201


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False, soft_wrap=True)


def _plain(text: str) -> str:
    from weir.tools.tap_view import printable  # noqa: PLC0415

    return printable(text).replace("[", r"\[")


def _line(text: str) -> str:
    from weir.tools.tap_view import printable  # noqa: PLC0415

    return printable(text)


def _places(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{row['file']}:{row['line']}" if row["line"] else row["file"], row) for row in rows]


@rules_app.command("list")
def list_(folder: Folder = None, as_json: AsJson = False) -> None:
    """List rules and correlations. Exit 1 where something in the folder is wrong and left out."""
    from weir.tools.rules_report import problem_rows, rule_rows  # noqa: PLC0415

    rule_set = _load(folder)
    rows, problems = rule_rows(rule_set), problem_rows(rule_set.problems)
    wrong = [row for row in problems if row["state"] == "wrong"]
    if as_json:
        _print({"version": rule_set.version, "rules": rows, "problems": problems})
        raise typer.Exit(EXIT_FOUND if wrong else 0)
    console = _console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("level", "title", "kind", "datasets", "ATT&CK", "file"):
        table.add_column(heading, overflow="fold")
    for place, row in _places(rows):
        kind = row["kind"] if row["alerts"] else f"{row['kind']}, only counted"
        style = _LEVELS.get(row["level"], "")
        table.add_row(
            f"[{style}]{row['level']}[/]" if style else row["level"] or "-",
            _plain(row["title"]),
            kind,
            ", ".join(row["datasets"]),
            " ".join(row["techniques"]) or "-",
            _plain(place),
        )
    console.print(table)
    alerting = sum(row["alerts"] for row in rows)
    total = f"{len(rows)} rules and correlations, {alerting} of them alert; {sum(row['tests'] for row in rows)} test cases"
    _say(console, f"{total}; version {rule_set.version}")
    for place, row in _places(problems):
        style = "red" if row["state"] == "wrong" else "yellow"
        _say(console, _line(f"{place}: {row['title'] or '-'}: {row['state']}: {row['cause']}"), style)
    raise typer.Exit(EXIT_FOUND if wrong else 0)


@rules_app.command("check")
def check(
    folder: Folder = None,
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 also where a rule is not applicable")] = False,
    as_json: AsJson = False,
) -> None:
    """Load a folder as the services do, and name everything that is left out of it, with the cause and the way out.

    Rules that are sound, but about events that no dataset has, are not applicable. Exit 1 where something is wrong.
    """
    from weir.tools.rules_report import problem_rows  # noqa: PLC0415

    rule_set = _load(folder)
    problems = problem_rows(rule_set.problems)
    wrong = [row for row in problems if row["state"] == "wrong"]
    code = EXIT_FOUND if wrong or (strict and problems) else 0
    correlations = {c.id for c in rule_set.correlations} - {rule.id for rule in rule_set.rules}
    counts = {
        "rules": len(rule_set.rules),
        "correlations": len(correlations),
        "wrong": len(wrong),
        "not_applicable": len(problems) - len(wrong),
    }
    if as_json:
        _print({"version": rule_set.version, **counts, "problems": problems})
        raise typer.Exit(code)
    console = _console()
    elsewhere = [row for row in problems if row["state"] != "wrong"]
    for place, row in _places(elsewhere):
        _say(console, _line(f"{place}: {row['title'] or '-'}: not applicable: {row['cause']}"), "yellow")
    for way in dict.fromkeys(row["way_out"] for row in elsewhere if row["way_out"]):
        _say(console, f"    way out: {way}", "dim")
    for place, row in _places(wrong):
        _say(console, _line(f"{place}: {row['title'] or '-'}: {row['cause']}"), "bold red")
        if row["way_out"]:
            _say(console, f"    way out: {row['way_out']}", "dim")
    named = f"{counts['rules']} rules and {counts['correlations']} correlations can be used"
    _say(console, f"{named}; {counts['wrong']} wrong, {counts['not_applicable']} not applicable; version {rule_set.version}")
    raise typer.Exit(code)


@rules_app.command("test")
def run_tests(folder: Folder = None, only: Only = None, as_json: AsJson = False) -> None:
    """Run the test cases that the rule files carry. Exit 1 where one goes otherwise than expected, or a rule is wrong."""
    from weir.detect.cases import cases_of, run_case  # noqa: PLC0415

    rule_set = _load(folder)
    cases = [case for case in cases_of(rule_set) if not only or any(_meant(case.of, text) for text in only)]
    if only and not cases:
        _fail(EXIT_SETTINGS, [f"no rule with test cases is called {', '.join(only)}; `weir rules list` shows what there is"])
    results: list[CaseResult] = []
    notes = Console(stderr=True, highlight=False)
    with notes.status("", speed=1) as status:
        for number, case in enumerate(cases, 1):
            status.update(_plain(f"{number} of {len(cases)}: {case.of.title}"))
            results.append(run_case(rule_set, case))
    failed = [result for result in results if result.failure]
    wrong = [problem for problem in rule_set.problems if problem.wrong]
    code = EXIT_FOUND if failed or wrong else 0
    if as_json:
        rows = [
            {
                "rule": r.rule,
                "case": r.name,
                "passed": not r.failure,
                "failure": r.failure,
                "came": r.came,
                "file": r.file,
                "line": r.line,
            }
            for r in results
        ]
        _print({"version": rule_set.version, "passed": len(results) - len(failed), "failed": len(failed), "cases": rows})
        raise typer.Exit(code)
    console = _console()
    for result in failed:
        _say(console, _line(f"{result.file}:{result.line}: {result.rule}: {result.name or 'a case without a name'}"), "bold red")
        _say(console, _line(f"    {result.failure}"))
        for summary in result.came:
            _say(console, _line(f"    came: {summary}"), "dim")
    for problem in wrong:
        _say(console, f"{problem}", "red")
    untested = {c.title for c in rule_set.correlations if c.announce and not c.tests and not _rule_has_tests(rule_set, c.id)}
    if untested and not only:
        _say(
            console,
            f"without a test case: {len(untested)}: {', '.join(sorted(untested)[:10])}{' …' if len(untested) > 10 else ''}",
            "yellow",
        )
    _say(console, f"{len(results) - len(failed)} of {len(results)} test cases as expected")
    raise typer.Exit(code)


def _rule_has_tests(rule_set: RuleSet, rule_id: str) -> bool:
    return any(rule.id == rule_id and rule.tests for rule in rule_set.rules)


def _meant(one: Any, text: str) -> bool:
    """Whether a rule or correlation is what somebody calls by this text."""
    return text in {one.id, getattr(one, "name", "")} or text.lower() in one.title.lower()


@rules_app.command("coverage")
def coverage_(
    folder: Folder = None,
    as_json: AsJson = False,
    navigator: Annotated[bool, typer.Option("--navigator", help="print a layer for the ATT&CK Navigator (format 4.5)")] = False,
) -> None:
    """Say which tactics and techniques of MITRE ATT&CK the rules alert on, and from which datasets."""
    from weir.tools.rules_coverage import coverage, navigator_layer  # noqa: PLC0415

    rule_set = _load(folder)
    rows = coverage(rule_set)
    if navigator:
        _print(navigator_layer(rule_set))
    elif as_json:
        _print(rows)
    else:
        console = _console()
        table = Table(box=None, header_style="bold", pad_edge=False)
        for heading in ("tactic", "technique", "rules", "datasets", "which"):
            table.add_column(heading, overflow="fold", justify="right" if heading == "rules" else "left")
        last = ""
        for row in rows:
            tactic = "" if row["tactic"] == last else row["tactic"]
            last = row["tactic"]
            technique = f"{row['technique']} {row['name']}".rstrip()
            table.add_row(tactic, technique, str(row["count"]), ", ".join(row["sources"]), _plain("; ".join(row["rules"])))
        console.print(table)
        techniques = {row["technique"] for row in rows} - {"-"}
        untagged = sum(1 for c in rule_set.correlations if c.announce and not c.techniques and not c.tactics)
        tactics = len({row["tactic"] for row in rows})
        _say(console, f"{len(techniques)} techniques, {tactics} tactics; {untagged} rules that alert name neither")


@rules_app.command("explain")
def explain_(
    event: Annotated[
        str, typer.Argument(metavar="EVENT", help="a file with events or an alert in JSON, - for standard input, or an event id")
    ],
    folder: FolderOption = None,
    only: Only = None,
    dataset: Annotated[str | None, typer.Option(help="of events that do not name theirs")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which rules look at an event, which match, and where the others fail; with --rule, as the whole tree of its condition.

    An event id is fetched from Kafka. Exit 1 where no rule (or not the rule asked for) matches.
    """
    from weir.detect.loading import parsed_rules  # noqa: PLC0415
    from weir.tools.rules_explain import read_events  # noqa: PLC0415
    from weir.tools.rules_explain_view import explained, show  # noqa: PLC0415

    rule_set = _load(folder)
    wanted = _chosen(rule_set, only or [])
    try:
        if _is_event_id(event):
            events = _fetched(event)
        elif event == "-":
            events = read_events(sys.stdin.buffer.read(), "standard input", dataset)
        else:
            events = read_events(Path(event).read_bytes(), event, dataset)
    except (OSError, ValueError) as error:
        _fail(EXIT_SETTINGS, [str(error)])
    parsed = parsed_rules(folder)
    found = [explained(rule_set, parsed, name, record, wanted) for name, record in events]
    if as_json:
        _print(found)
    else:
        console = _console()
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
        _fail(EXIT_UNAVAILABLE, [str(error), "way out: check WEIR_KAFKA_BOOTSTRAP_SERVERS and that the cluster runs"])
    if found is None:
        _fail(EXIT_UNAVAILABLE, [f"no event topic has {event_id}: it has expired, or was not published"])
    return [found]


def _chosen(rule_set: RuleSet, only: list[str]) -> set[str] | None:
    """Ids of the rules that are meant, those that count in a correlation for a correlation; None for all. Exit 2 for none."""
    from weir.tools.rules_explain import of_correlation  # noqa: PLC0415

    if not only:
        return None
    ids = {rule.id for rule in rule_set.rules if any(_meant(rule, text) for text in only)}
    for correlation in rule_set.correlations:
        if any(_meant(correlation, text) for text in only):
            ids |= {rule.id for rule in of_correlation(rule_set, correlation)}
    if not ids:
        left = [str(p) for p in rule_set.problems if any(text.lower() in p.title.lower() for text in only)]
        _fail(EXIT_SETTINGS, [f"no rule is called {', '.join(only)}; `weir rules list` shows what there is", *left])
    return ids


@rules_app.command("backtest")
def backtest_(
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
        _fail(EXIT_SETTINGS, [str(error)])
    if begin >= end:
        _fail(EXIT_SETTINGS, ["--from must lie before --to"])
    rule_sets = [_narrowed(_load(one), only or []) for one in ([folder] if compare is None else [folder, compare])]
    for rule_set in rule_sets:
        for problem in rule_set.problems:
            if problem.wrong:
                Console(stderr=True, highlight=False).print(f"weir: left out: {problem}", markup=False, soft_wrap=True)
    try:
        code = backtest(_settings(), rule_sets, begin, end, learn, as_json=as_json, console=_console())
    except TopicsUnavailable as error:
        _fail(EXIT_UNAVAILABLE, [str(error), "way out: check WEIR_KAFKA_BOOTSTRAP_SERVERS and that the cluster runs"])
    raise typer.Exit(code)


def _narrowed(rule_set: RuleSet, only: list[str]) -> RuleSet:
    """The rule set with what is called so alone. Exit 2 where nothing is, or nothing alerts."""
    from weir.detect.offline import subset  # noqa: PLC0415

    named = {rule.id for rule in rule_set.rules if any(rule.name == text for text in only)}
    chosen = [c for c in rule_set.correlations if not only or c.id in named or any(_meant(c, text) for text in only)]
    if not chosen:
        what = f"nothing that alerts is called {', '.join(only)}" if only else "there is no rule that alerts"
        _fail(EXIT_SETTINGS, [f"{what}; `weir rules list` shows what there is"])
    return subset(rule_set, chosen) if only else rule_set


def _settings() -> ServiceSettings:
    """Settings for Kafka. Exit 2 with every mistake."""
    from weir.ops.settings import SettingsError  # noqa: PLC0415
    from weir.tools.kafka_settings import kafka_settings  # noqa: PLC0415

    try:
        return kafka_settings()
    except SettingsError as error:
        _fail(EXIT_SETTINGS, error.mistakes)
