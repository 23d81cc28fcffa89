"""`weir rules …`: look at rules, judge them, run their test cases, and see what of ATT&CK they speak of.

What these need is imported when they are called: every `weir` command loads this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from weir.tools.rules_common import (
    EXIT_FOUND,
    EXIT_SETTINGS,
    AsJson,
    Folder,
    Only,
    SuppressionsFile,
    fail,
    load,
    matching,
    output,
    places,
    plain,
    print_json,
    say,
    suppressions_of,
)
from weir.tools.rules_try import backtest_command, explain_command

if TYPE_CHECKING:
    from weir.detect.cases import CaseResult
    from weir.detect.rules import RuleSet

__all__ = ["rules_app"]

# Rules that a cell of the table of coverage names; --json names all.
_TITLES = 4
_LEVELS = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}

rules_app = typer.Typer(
    help="Rules of detection: judge, test and explain them, try them.",
    no_args_is_help=True,
    epilog="Examples: weir rules check rules/ · weir rules test rules/ --rule 'Port scan' · "
    "weir decode syslog line.log | weir rules explain - · weir rules backtest --from -2h --folder rules/",
)

rules_app.command("explain")(explain_command)
rules_app.command("backtest")(backtest_command)


@rules_app.command("list")
def list_(folder: Folder = None, as_json: AsJson = False) -> None:
    """List rules and correlations. Exit 1 where something in the folder is wrong and left out."""
    from weir.tools.rules_report import problem_rows, rule_rows  # noqa: PLC0415

    rule_set = load(folder)
    rows, problems = rule_rows(rule_set), problem_rows(rule_set.problems)
    wrong = [row for row in problems if row["state"] == "wrong"]
    if as_json:
        print_json({"version": rule_set.version, "rules": rows, "problems": problems})
        raise typer.Exit(EXIT_FOUND if wrong else 0)
    console = output()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("level", "title", "kind", "datasets", "ATT&CK", "file"):
        table.add_column(heading, overflow="fold")
    for place, row in places(rows):
        kind = row["kind"] if row["alerts"] else f"{row['kind']}, only counted"
        style = _LEVELS.get(row["level"], "")
        table.add_row(
            f"[{style}]{row['level']}[/]" if style else row["level"] or "-",
            plain(row["title"]),
            kind,
            ", ".join(row["datasets"]),
            " ".join(row["techniques"]) or "-",
            plain(place),
        )
    console.print(table)
    alerting = sum(row["alerts"] for row in rows)
    total = f"{len(rows)} rules and correlations, {alerting} of them alert; {sum(row['tests'] for row in rows)} test cases"
    say(console, f"{total}; version {rule_set.version}")
    for place, row in places(problems):
        style = "red" if row["state"] == "wrong" else "yellow"
        say(console, f"{place}: {row['title'] or '-'}: {row['state']}: {row['cause']}", style)
    raise typer.Exit(EXIT_FOUND if wrong else 0)


@rules_app.command("check")
def check(
    folder: Folder = None,
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 also where a rule is not applicable")] = False,
    suppressions: SuppressionsFile = None,
    as_json: AsJson = False,
) -> None:
    """Load a folder as the services do, and name everything that is left out of it, with the cause and the way out.

    Placeholders and suppressions are judged too; of suppressions that have expired it is said.

    Rules that are sound, but about events that no dataset has, are not applicable. Exit 1 where something is wrong.
    """
    from weir.tools.rules_report import problem_rows  # noqa: PLC0415

    rule_set = load(folder)
    problems = problem_rows(rule_set.problems)
    wrong = [row for row in problems if row["state"] == "wrong"]
    mistakes, remarks = _judged(rule_set, folder, suppressions)
    code = EXIT_FOUND if wrong or mistakes or (strict and problems) else 0
    correlations = {c.id for c in rule_set.correlations} - {rule.id for rule in rule_set.rules}
    counts = {
        "rules": len(rule_set.rules),
        "correlations": len(correlations),
        "wrong": len(wrong),
        "not_applicable": len(problems) - len(wrong),
        "suppressions": {"mistakes": mistakes, "remarks": remarks},
    }
    if as_json:
        print_json({"version": rule_set.version, **counts, "problems": problems})
        raise typer.Exit(code)
    console = output()
    elsewhere = [row for row in problems if row["state"] != "wrong"]
    for place, row in places(elsewhere):
        say(console, f"{place}: {row['title'] or '-'}: not applicable: {row['cause']}", "yellow")
    for way in dict.fromkeys(row["way_out"] for row in elsewhere if row["way_out"]):
        say(console, f"    way out: {way}", "dim")
    for place, row in places(wrong):
        say(console, f"{place}: {row['title'] or '-'}: {row['cause']}", "bold red")
        if row["way_out"]:
            say(console, f"    way out: {row['way_out']}", "dim")
    for mistake in mistakes:
        say(console, mistake, "bold red")
    for remark in remarks:
        say(console, f"suppressions: {remark}", "yellow")
    named = f"{counts['rules']} rules and {counts['correlations']} correlations can be used"
    say(console, f"{named}; {counts['wrong']} wrong, {counts['not_applicable']} not applicable; version {rule_set.version}")
    raise typer.Exit(code)


def _judged(rule_set: RuleSet, folder: Path | None, file: Path | None) -> tuple[list[str], list[str]]:
    """Mistakes in the suppressions, and what there is to remark of them: expired, or of rules that are not there."""
    import time  # noqa: PLC0415

    from weir.detect.telling.suppressions import SuppressionsError  # noqa: PLC0415

    try:
        found = suppressions_of(rule_set, folder, file)
    except SuppressionsError as error:
        return error.mistakes, []
    expired = [f"{entry.id} of {entry.owner} has expired" for entry in found.expired(time.time_ns() // 1000)]
    return [], [*found.remarks, *expired]


@rules_app.command("test")
def run_tests(folder: Folder = None, only: Only = None, as_json: AsJson = False) -> None:
    """Run the test cases that the rule files carry. Exit 1 where one goes otherwise than expected, or a rule is wrong."""
    from weir.detect.cases import cases_of, run_case  # noqa: PLC0415

    rule_set = load(folder)
    cases = [case for case in cases_of(rule_set) if not only or any(matching(case.of, text) for text in only)]
    if only and not cases:
        fail(EXIT_SETTINGS, [f"no rule with test cases is called {', '.join(only)}; `weir rules list` shows what there is"])
    results: list[CaseResult] = []
    notes = Console(stderr=True, highlight=False)
    with notes.status("", speed=1) as status:
        for number, case in enumerate(cases, 1):
            status.update(plain(f"{number} of {len(cases)}: {case.of.title}"))
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
        print_json({"version": rule_set.version, "passed": len(results) - len(failed), "failed": len(failed), "cases": rows})
        raise typer.Exit(code)
    console = output()
    for result in failed:
        say(console, f"{result.file}:{result.line}: {result.rule}: {result.name or 'a case without a name'}", "bold red")
        say(console, f"    {result.failure}")
        for summary in result.came:
            say(console, f"    came: {summary}", "dim")
    for problem in wrong:
        say(console, f"{problem}", "red")
    untested = {c.title for c in rule_set.correlations if c.announce and not c.tests and not _rule_has_tests(rule_set, c.id)}
    if untested and not only:
        say(
            console,
            f"without a test case: {len(untested)}: {', '.join(sorted(untested)[:10])}{' …' if len(untested) > 10 else ''}",
            "yellow",
        )
    say(console, f"{len(results) - len(failed)} of {len(results)} test cases as expected")
    raise typer.Exit(code)


def _rule_has_tests(rule_set: RuleSet, rule_id: str) -> bool:
    return any(rule.id == rule_id and rule.tests for rule in rule_set.rules)


def _some(titles: list[str]) -> str:
    more = f"; {len(titles) - _TITLES} more" if len(titles) > _TITLES else ""
    return "; ".join(titles[:_TITLES]) + more


@rules_app.command("coverage")
def coverage_(
    folder: Folder = None,
    as_json: AsJson = False,
    navigator: Annotated[bool, typer.Option("--navigator", help="print a layer for the ATT&CK Navigator (format 4.5)")] = False,
) -> None:
    """Say which tactics and techniques of MITRE ATT&CK the rules alert on, and from which datasets."""
    from weir.tools.rules_coverage import coverage, navigator_layer  # noqa: PLC0415

    rule_set = load(folder)
    rows = coverage(rule_set)
    if navigator:
        print_json(navigator_layer(rule_set))
    elif as_json:
        print_json(rows)
    else:
        console = output()
        table = Table(box=None, header_style="bold", pad_edge=False)
        for heading in ("tactic", "technique", "rules", "datasets", "which"):
            table.add_column(heading, overflow="fold", justify="right" if heading == "rules" else "left")
        last = ""
        for row in rows:
            tactic = "" if row["tactic"] == last else row["tactic"]
            last = row["tactic"]
            technique = f"{row['technique']} {row['name']}".rstrip()
            table.add_row(tactic, technique, str(row["count"]), ", ".join(row["sources"]), plain(_some(row["rules"])))
        console.print(table)
        techniques = {row["technique"] for row in rows} - {"-"}
        untagged = sum(1 for c in rule_set.correlations if c.announce and not c.techniques and not c.tactics)
        tactics = len({row["tactic"] for row in rows})
        say(console, f"{len(techniques)} techniques, {tactics} tactics; {untagged} rules that alert name neither")
