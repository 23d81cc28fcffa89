"""Start everything, send, wait until all has arrived, compare, tell."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from weir.detect.reading.loading import load_rules
from weir.local import dev, generate
from weir.local.demo.oracle import SOURCES, Audit, Oracle
from weir.local.demo.report import Destination, Report, render
from weir.local.demo.stack import Stack, running_stack
from weir.local.errors import LocalError
from weir.local.generate.attacks import AttackUnits, Expected
from weir.local.ports import LOOPBACK
from weir.model.mappings import projection
from weir.model.topics import DATASETS

__all__ = ["run_demo"]

SEND_SECONDS = 10.0
DRAIN_SECONDS = 120.0
SETTLED_TURNS = 5
MIN_RATIO = 100
LINES_FOR_RATIO = 20_000
POLL_SECONDS = 0.3
MASS_DELETE_USER = "AD\\mallory"
FOLDER = Path(".weir") / "demo"


class _Interrupted(Exception):
    """SIGTERM or Ctrl-C: stop what was started."""


def run_demo(*, lines: int, seed: int, as_json: bool, folder: Path | None = None) -> int:
    """Run the demo; the exit code: 0 if every number adds up, 1 if not.

    Args:
        lines: syslog lines to send; the other sources follow in proportion.
        seed: of the generated traffic.
        as_json: print the report as JSON and nothing else on standard output.
        folder: where data, logs and the report go; `.weir/demo` unless WEIR_DEMO_DIR says otherwise.

    Raises:
        LocalError: something cannot be had or started; with the way out.
    """
    folder = folder or Path(os.environ.get("WEIR_DEMO_DIR", FOLDER))
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = 120  # of a file or a pipe nothing is known; 80 columns would break the tables
    stays = sys.stdout.isatty() and not os.environ.get("DEMO_EXIT") and not as_json
    begun = time.monotonic()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        dev.fetch(console)
        with _only_one(folder), running_stack(folder, lambda text: _say(console, text), _restarted(console)) as stack:
            report = _run(stack, console, lines, seed, begun)
            (folder / "report.json").write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
            render(report, console)
            _say(console, f"the same as JSON: {folder / 'report.json'}; logs: {folder / 'logs'}")
            if as_json:
                sys.stdout.write(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
            if stays:
                _stay(stack, console)
    except (_Interrupted, KeyboardInterrupt):
        _say(console, "stopped")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 1 if report.problems else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def _say(console: Console, text: str) -> None:
    console.print(f"  {text}", markup=False, soft_wrap=True)


def _restarted(console: Console) -> Callable[[str], None]:
    def say(name: str) -> None:
        console.print(f"  {name} died and was started again", style="yellow")

    return say


class _only_one:
    """One demo a folder: a second one would read the first one's data as its own."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"

    def __enter__(self) -> None:
        import fcntl

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocalError(
                f"a demo runs already in {self._path.parent}", "stop it, or set WEIR_DEMO_DIR to another folder"
            ) from error

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _run(stack: Stack, console: Console, lines: int, seed: int, begun: float) -> Report:

    oracle = Oracle(stack.settings)
    with Progress(
        TextColumn("  {task.description:<24}"), BarColumn(40), TextColumn("{task.completed:>9,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(), console=console, transient=not console.is_terminal,
    ) as progress:  # fmt: skip
        sent = _send(stack, progress, lines, seed)
        late = _drain(stack, oracle, progress)
    background = {name: sent[name] for name in SOURCES}
    for name in SOURCES:
        sent[name] = sent[name] + sent.pop(f"attacks {name}")
    audit = oracle.audit()
    report = Report(
        audit=audit,
        sent={name: s.units for name, s in sent.items()},
        destinations=_destinations(stack, audit),
        siem_alerts=int(stack.stats("siem")["distinct"]),
        siem_bytes=int(stack.stats("siem")["bytes_in"]),
        bytes_in=sum(s.bytes for s in sent.values()),
        restarts=dict(stack.supervisor.restarts),
        seconds=time.monotonic() - begun,
    )
    report.problems += late
    _look_for_acknowledged(report, background, seed)
    _judge(report, sent)
    _judge_alerts(report)
    return report


def _send(stack: Stack, progress: Progress, lines: int, seed: int) -> dict[str, generate.Sent]:
    """Send everything, showing how far each kind is."""
    amounts = generate.Amounts(syslog=lines, netflow=max(60, lines * 3 // 100), beats=max(200, lines // 4), attacks=True)
    totals = {"syslog": amounts.syslog, "beats": amounts.beats, "netflow": amounts.netflow}
    tasks = {name: progress.add_task(f"sending {name}", total=total) for name, total in totals.items()}

    def show(sent: dict[str, generate.Sent]) -> None:
        for name, task in tasks.items():
            progress.update(task, completed=sent[name].units)

    targets = generate.Targets(
        syslog_udp=(LOOPBACK, stack.ports["syslog"]),
        syslog_tcp=(LOOPBACK, stack.ports["syslog"]),
        beats=(LOOPBACK, stack.ports["beats"]),
        netflow=(LOOPBACK, stack.ports["netflow"]),
    )
    return generate.run(targets, amounts, seed=seed, seconds=SEND_SECONDS, on_progress=show)


def _drain(stack: Stack, oracle: Oracle, progress: Progress) -> list[str]:
    """Wait until nothing moves any more: receivers flushed, groups at the end, destinations settled; or the deadline.

    Returns what the deadline cut short, one sentence for each stage.
    """
    names, prefix = oracle.names, stack.settings.topic_prefix
    begun = time.monotonic()
    deadline = begun + DRAIN_SECONDS
    late: list[str] = []
    stages: list[tuple[str, list[str], list[str]]] = [
        ("parsing", [names[f"raw.{s}"] for s in SOURCES], [f"{prefix}.process.{s}" for s in SOURCES]),
        ("reading the ledger", [names["ledger"]], [f"{prefix}.process.ledger"]),
        ("detecting", [names["signals"]], [f"{prefix}.process.detector"]),
        (
            "delivering",
            [*(names[f"events.{d}"] for d in DATASETS), names["alerts"]],
            [f"{prefix}.sink.{s}" for s in ("sentinel", "adx")],
        ),
        ("alerting", [names["alerts"]], [f"{prefix}.sink.siem"]),
    ]
    for title, topics, groups in stages:
        task = progress.add_task(title, total=1)
        # Ticks never end, nor do the detector's entries about them; what came of the raw records is there when those are done.
        ever = title in {"reading the ledger", "detecting"}
        ends = oracle.ends(topics) if ever else _stable_ends(oracle, topics, deadline)
        total = sum(ends.values()) * (len(groups) if title == "delivering" else 1)
        while time.monotonic() < deadline:
            left = 0
            for group in groups:
                own = {k: v for k, v in ends.items() if title != "parsing" or k[0].split(".")[-2] == group.rsplit(".", 1)[-1]}
                left += oracle.behind(group, own)
            progress.update(task, total=max(total, 1), completed=total - left if total else 1)
            if left == 0:
                break
            time.sleep(POLL_SECONDS)
        else:
            late.append(f"{title}: {left} of {total} records were not dealt with after {DRAIN_SECONDS:.0f} s")
        if not progress.console.is_terminal:
            progress.console.print(f"  {title} done ({time.monotonic() - begun:.1f} s after the last unit was sent)")
    _settle(lambda: stack.stats("adx"), deadline)
    return late


def _stable_ends(oracle: Oracle, topics: list[str], deadline: float) -> dict[tuple[str, int], int]:
    """End offsets once they have stood still for longer than any linger."""
    ends, since = oracle.ends(topics), time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < 1.5:
        time.sleep(POLL_SECONDS)
        now = oracle.ends(topics)
        if now != ends:
            ends, since = now, time.monotonic()
    return ends


def _settle(stats: Callable[[], dict[str, Any]], deadline: float) -> None:
    """Wait until the aggregator has looked into its queue several times and found nothing: to load a blob may take seconds."""
    last = stats()
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        now = stats()
        if now["blobs"] != last["blobs"] or now["queued"]:
            last = now
        elif now["turns"] - last["turns"] >= SETTLED_TURNS:
            return


def _destinations(stack: Stack, audit: Audit) -> dict[str, Destination]:
    expected = {f"events.{dataset}": ids for dataset, ids in audit.event_ids.items()} | {"alerts": audit.alert_ids}
    found: dict[str, Destination] = {}
    for name in ("sentinel", "adx"):
        destination = Destination()
        for topic, ids in expected.items():
            if not ids:
                continue
            table = projection(name, topic).table
            there = stack.ids(name, table)
            destination.rows[table] = len(there)
            if missing := len(ids - there):
                destination.missing[table] = missing
        revisions = projection(name, "alerts").table
        for table, counted in stack.stats(name)["tables"].items():
            # Later revisions of an alert are no repeats: they replace the earlier ones.
            beyond = audit.alert_revisions if table == revisions else int(counted["distinct"])
            destination.repeated += max(0, int(counted["rows"]) - beyond)
        found[name] = destination
    # A forwarder that is cut off does not know what arrived, and says it again.
    siem = Destination(repeated=max(0, int(stack.stats("siem")["messages"]) - audit.alert_revisions))
    if missing := len(audit.alert_ids - stack.ids("siem")):
        siem.missing["alerts"] = missing
    found["siem"] = siem
    return found


def _look_for_acknowledged(report: Report, sent: dict[str, generate.Sent], seed: int) -> None:
    """Every Beats document was acknowledged in the end, since its sender tries until it is: each must be in Kafka, by number."""
    units = generate.BeatsUnits(seed, sent["beats"].units)
    wanted: set[int] = set()
    for number in range(sent["beats"].acknowledged):
        wanted.update(n for _, _, n in generate.marks(units.unit(number, 0).data.decode("utf-8", "replace")))
    missing = wanted - report.audit.marks["beats"]
    report.audit.lose("raw.beats: acknowledged documents by number", {str(n) for n in missing})


def _judge(report: Report, sent: dict[str, generate.Sent]) -> None:
    """Every sentence here is a number that does not add up."""
    audit, problems = report.audit, report.problems
    problems += audit.lost
    problems += audit.disagreements
    for name, mine in audit.sources.items():
        accounted = mine.units_empty + mine.units_dead + mine.units_with_events
        if accounted != mine.units_received:
            problems.append(f"{name}: {mine.units_received} units received, {accounted} empty, dead or with events")
        report.unreceived[name] = max(0, report.sent[name] - mine.units_received)
        if report.sent[name] != mine.units_received and f"receive-{name}" not in report.restarts:
            said = f"{name}: {report.sent[name]} units sent, {mine.units_received} received"
            others = "somebody else sends here too" if mine.units_received > report.sent[name] else "no receiver had died"
            problems.append(f"{said}, and {others}")
    if not any(name.startswith("receive-") for name in report.restarts):
        intended = sum((s.events for s in sent.values()), Counter[str]())
        for dataset, ids in audit.event_ids.items():
            if len(ids) != intended[dataset]:
                problems.append(f"events.{dataset}: {intended[dataset]} events sent, {len(ids)} came of it")
    for name, destination in report.destinations.items():
        for table, missing in destination.missing.items():
            problems.append(f"{name}: {missing} distinct ids are missing in {table}")
        for table, rows in destination.rows.items():
            topics = {projection(name, t).table: t for t in (*(f"events.{d}" for d in DATASETS), "alerts")}
            topic = topics[table]
            wanted = len(audit.alert_ids) if topic == "alerts" else len(audit.event_ids[topic.removeprefix("events.")])
            if rows > wanted:
                problems.append(f"{name}: {table} holds {rows} distinct ids, {topic} has {wanted}")
    # The attacks are the same however little traffic there is beside them.
    expected_ratio = min(MIN_RATIO, sum(report.sent.values()) / LINES_FOR_RATIO * MIN_RATIO)
    if report.ratio < expected_ratio:
        problems.append(
            f"the WAN carried one byte for every {report.ratio:.0f} received, {expected_ratio:.0f} at least were expected"
        )


def _judge_alerts(report: Report) -> None:
    """Each attack must have raised its alerts once, about whom it should, and the background none.

    Where a receiver died, what it had over plain TCP or UDP may be lost, and an attack be too little of one for its rule.
    """
    whole = not any(name.startswith("receive-") for name in report.restarts)
    names = {correlation.id: correlation.name for correlation in load_rules().correlations}
    unexplained = {str(alert["alert_id"]): alert for alert in report.audit.alerts}
    for expected in (Expected("qumulo_mass_delete", (MASS_DELETE_USER,)), *AttackUnits(pipeline=True).expected()):
        found = [
            alert
            for alert in report.audit.alerts
            if names.get(str(alert["rule_id"])) == expected.rule and all(name in _named(alert) for name in expected.names)
        ]
        for alert in found:
            unexplained.pop(str(alert["alert_id"]), None)
        if len(found) > 1 or (whole and not found):
            report.problems.append(f"{len(found)} alerts of {expected.rule} about {', '.join(expected.names)}; 1 was expected")
    report.attacks = len(AttackUnits(pipeline=True).attacks) + 1
    report.problems += [f"an alert that no attack explains: {alert['summary']}" for alert in unexplained.values()]


def _named(alert: dict[str, object]) -> set[str]:
    """All that an alert names: values of its group and its entities."""
    found: set[str] = set()
    for part in ("group_by", "entities"):
        values = alert[part]
        if isinstance(values, dict):
            found |= {str(value) for value in values.values()}
    return found


def _stay(stack: Stack, console: Console) -> None:
    """Keep everything up until Ctrl-C, and say what to look at."""
    servers, prefix = stack.bootstrap_servers, stack.settings.topic_prefix
    console.print("\n[bold]Still running. Have a look, Ctrl-C stops it:[/]")
    for what, command in (
        ("topics", f"WEIR_KAFKA_BOOTSTRAP_SERVERS={servers} .venv/bin/weir topics list"),
        ("raw records", f"kcat -b {servers} -t {prefix}.raw.syslog.v1 -C -o -3 -e"),
        ("send a line", f"logger -n 127.0.0.1 -P {stack.ports['syslog']} -d --rfc5424 'hello weir'"),
        ("SIEM's messages", f"curl -s '{stack.control['siem']}/_messages?limit=3'"),
        ("ADX's rows", f"curl -s '{stack.control['adx']}/_rows?table=FileAudit&limit=2'"),
        ("a service's log", f"tail -f {stack.folder}/logs/detector.log"),
        ("kill one", f"kill -9 $(cat {stack.folder}/pids/process-syslog.pid)"),
    ):
        console.print(f"  {what:<16} {command}", markup=False, soft_wrap=True)
    # Ctrl-C is the way out that was offered: what the demo found is its result, not that it was stopped.
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    _say(console, "stopping")
