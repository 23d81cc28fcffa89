"""`weir generate …` and `weir bench …`: options in, tables out. What they do is imported when they are asked for."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from weir.local.bench.udp import Step
    from weir.local.generate.load import Load, SourceState, Summary
    from weir.local.generate.verify import Verdict

__all__ = ["bench_app", "generate_app"]

EXIT_DIFFERS = 1
EXIT_SETTINGS = 2
EXIT_UNAVAILABLE = 3

_SOURCES_SHOWN = 16

generate_app = typer.Typer(help="Send stamped traffic, and verify that none of it is missing.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure receivers and detection on this machine.", no_args_is_help=True)

_KINDS = {
    "syslog": "Daemons' lines, RFC 5424 or RFC 3164.",
    "cef": "CEF of a Kemp load balancer and of other devices.",
    "qumulo": "Qumulo's audit log.",
    "beats": "Log lines and sensor events as Filebeat ships them.",
    "suricata": "Suricata's EVE records as Filebeat ships them.",
    "netflow": "NetFlow v9, v5 or v7.",
    "ipfix": "IPFIX over UDP, TCP or TLS.",
    "sflow": "sFlow v5.",
}


_EXAMPLES = {
    "syslog": "--target 127.0.0.1:5514 --rate 5000 --seconds 60 --sources 20 --summary run.json",
    "cef": "--transport tcp --framing lines --rate 0 --count 100000",
    "qumulo": "--transport tls --target localhost:6514 --ca ca.pem --cert client.pem --key client.key --seconds 10",
    "beats": "--rate 2000 --seconds 60 --window 200 --summary run.json",
    "suricata": "--transport http --rate 2000 --seconds 60",
    "netflow": "--format v5 --rate 30000 --seconds 60 --sources 8",
    "ipfix": "--transport tcp --rate 30000 --seconds 60",
    "sflow": "--rate 5000 --seconds 60",
}


def _fail(code: int, *lines: str) -> NoReturn:
    console = Console(stderr=True, highlight=False)
    for line in lines:
        console.print(f"weir: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _generate(
    context: typer.Context,
    target: Annotated[
        str, typer.Option(help="HOST:PORT of the receiver; the port may be left out", show_default=True)
    ] = "127.0.0.1",
    transport: Annotated[
        str | None,
        typer.Option(help="udp, tcp, tls; beats, suricata: lumberjack, tls, http, https [default: the first]"),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="5424 or 3164; netflow: v9, v5 or v7; suricata: both, message or root")
    ] = None,
    rate: Annotated[float, typer.Option(min=0, help="events per second in all; 0: as fast as it goes")] = 1000.0,
    count: Annotated[int | None, typer.Option(min=1, help="events in all")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.01, help="for how long [default, without --count: until Ctrl-C]")] = None,
    sources: Annotated[
        int, typer.Option(min=1, max=4096, help="senders; on loopback each has an address of its own in 127.77.0.0/16")
    ] = 1,
    burst: Annotated[int, typer.Option(min=1, help="events that become due together")] = 1,
    seed: Annotated[int, typer.Option(help="what the values are drawn from")] = 1,
    run: Annotated[int | None, typer.Option(min=0, max=65535, help="number of the run in the stamps [default: any]")] = None,
    framing: Annotated[str, typer.Option(help="syslog over TCP and TLS: counted or lines (RFC 6587)")] = "counted",
    window: Annotated[int, typer.Option(min=1, max=10_000, help="documents in a Lumberjack window or HTTP request")] = 200,
    patience: Annotated[
        float, typer.Option(min=0, help="seconds for which a refused or lost connection is tried again; 0: give up at once")
    ] = 0.0,
    path: Annotated[str, typer.Option(help="path of the HTTP requests")] = "/",
    ca: Annotated[Path | None, typer.Option(help="certificate authority of the receiver, PEM; makes Lumberjack speak TLS")] = None,
    cert: Annotated[Path | None, typer.Option(help="certificate of this client, PEM")] = None,
    key: Annotated[Path | None, typer.Option(help="its private key, PEM")] = None,
    server_name: Annotated[str, typer.Option(help="name to find in the receiver's certificate [default: the host]")] = "",
    summary: Annotated[
        Path | None, typer.Option(help="write what was sent and acknowledged here, for `weir generate verify`")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    from weir.local.generate.load import Load, run_load

    name = str(context.info_name)
    try:
        host, port, transport, form = _target(name, target, transport, form)
        _known("--framing", framing, ("counted", "lines"))
        load = Load(
            kind=name,
            host=host,
            port=port,
            transport=transport,
            form=form,
            sources=sources,
            rate=rate,
            count=count,
            seconds=seconds,
            burst=burst,
            seed=seed,
            run=secrets.randbelow(65536) if run is None else run,
            framing=framing,
            window=window,
            patience=patience,
            tls=_tls(transport, ca, cert, key),
            server_name=server_name,
            path=path,
        )
        progress = Console(stderr=True, highlight=False)
        if progress.is_terminal:
            with Live(console=progress, transient=True, auto_refresh=False) as live:
                done = run_load(load, on_progress=_Progress(live, load), stop_on_signals=True)
        else:
            done = run_load(load, stop_on_signals=True)
    except (ValueError, OSError) as error:
        _fail(EXIT_SETTINGS, str(error))
    record = done.record()
    if summary is not None:
        summary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if as_json:
        Console(soft_wrap=True, highlight=False).print(json.dumps(record), markup=False)
    else:
        _show_summary(done)
    notes = Console(stderr=True, highlight=False)
    hints = []
    for failure in done.failures:
        notes.print(f"weir: {failure}", markup=False, soft_wrap=True)
        hints.append(_hint(failure, load, shows_certificate=cert is not None))
    for hint in dict.fromkeys(hint for hint in hints if hint):
        notes.print(f"weir: way out: {hint}", markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_DIFFERS if done.failures else 0)


for _name, _help in _KINDS.items():
    generate_app.command(_name, help=_help, epilog=f"Example: weir generate {_name} {_EXAMPLES[_name]}")(_generate)


def _target(name: str, target: str, transport: str | None, form: str | None) -> tuple[str, int, str, str]:
    """Host, port, transport and format, defaults filled in. Raises ValueError naming the option that does not fit."""
    from weir.local.generate.kinds import KINDS

    kind = KINDS[name]
    transport = transport or next(iter(kind.ports))
    if transport not in kind.ports:
        raise ValueError(f"--transport {transport}: {name} goes over {', '.join(kind.ports)}")
    form = form or kind.formats[0]
    if form not in kind.formats:
        raise ValueError(f"--format {form}: {name} has {', '.join(kind.formats)}")
    host, colon, text = target.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):  # no port, or an IPv6 address without brackets
        host, text = target, str(kind.ports[transport])
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(f"--target {target}: {text!r} is no port")
    return host.strip("[]"), int(text), transport, form


def _all_settings() -> None:
    """Make every service's settings known, so that a variable of one is not taken for a mistake."""
    from weir.cli import SETTINGS

    for module in SETTINGS:
        import_module(module)


def _known(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{option} {value}: there are {', '.join(choices)}")


def _tls(transport: str, ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if transport in {"udp", "tcp", "http"}:
        if ca or cert or key:
            raise ValueError(f"--ca, --cert and --key say TLS, --transport {transport} does not: use tls, https or lumberjack")
        return None
    if transport == "lumberjack" and not (ca or cert):
        return None
    if ca is not None and not ca.is_file():
        raise ValueError(f"--ca {ca}: there is no such file")
    if key is not None and cert is None:
        raise ValueError("--key needs --cert: the certificate that it belongs to")
    for option, file in (("--cert", cert), ("--key", key)):
        if file is not None and not file.is_file():
            raise ValueError(f"{option} {file}: there is no such file")
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ValueError(f"--ca {ca}: it holds no PEM certificate") from None
    if cert is not None:
        try:
            # An encrypted key is refused: OpenSSL would ask on the terminal, and wait there.
            context.load_cert_chain(cert, key, password="")
        except ssl.SSLError:
            pair = f"--cert {cert} and --key {key}" if key else f"--cert {cert}, without --key,"
            raise ValueError(f"{pair} do not hold a PEM certificate and its key, not encrypted") from None
    return context


def _hint(failure: str, load: Load, *, shows_certificate: bool) -> str:
    """What most often cures a failure; empty where it speaks for itself."""
    if "CERTIFICATE_VERIFY_FAILED" in failure:
        return "name the authority of the receiver by --ca, and the name in its certificate by --server-name"
    if "refused" in failure or "listens" in failure:
        return "start the receiver, or correct --target"
    if "closed" in failure or "reset" in failure.lower():
        if load.tls is None:
            return "does that port speak TLS? Then --transport tls or https, or --ca for Lumberjack"
        if not shows_certificate:
            return "does the receiver ask for a client certificate? --cert and --key show one"
        return "the receiver's log says why"
    return ""


class _Progress:
    """One line that follows the run."""

    def __init__(self, live: Live, load: Load) -> None:
        self._live, self._total = live, load.total
        self._last = (time.monotonic(), 0)

    def __call__(self, states: list[SourceState]) -> None:
        now, sent = time.monotonic(), sum(state.sent for state in states)
        before, already = self._last
        self._last = (now, sent)
        parts = [f"{sent:,}" + (f" of {self._total:,}" if self._total else "") + " events"]
        parts.append(f"{(sent - already) / max(now - before, 0.001):,.0f}/s")
        if states[0].acknowledged is not None:
            parts.append(f"{sum(state.acknowledged or 0 for state in states):,} acknowledged")
        if blocked := sum(state.blocked_seconds for state in states):
            parts.append(f"held up {blocked:.1f} s")
        if refused := sum(state.refused for state in states):
            parts.append(f"{refused:,} refused")
        if broken := sum(state.reconnects for state in states):
            parts.append(f"{broken:,} connections lost")
        self._live.update(Text("  ".join(parts), no_wrap=True, overflow="ellipsis"), refresh=True)


def _show_summary(done: Summary) -> None:
    load = done.load
    acknowledges = done.sources[0].acknowledged is not None
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("source", no_wrap=True)
    headings = ["sent", *(["acknowledged"] if acknowledges else []), "bytes", "events/s", "held up", "uncertain", "lost links"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)

    def row(label: str, states: list[SourceState], style: str = "") -> None:
        sent = sum(state.sent for state in states)
        acknowledged = sum(state.acknowledged or 0 for state in states)
        doubt = sum(last - first + 1 for state in states for first, last in state.uncertain)
        table.add_row(
            label,
            f"{sent:,}",
            *([f"{acknowledged:,}"] if acknowledges else []),
            f"{sum(state.bytes for state in states):,}",
            f"{sent / done.seconds if done.seconds else 0:,.0f}",
            f"{sum(state.blocked_seconds for state in states):.1f} s",
            f"{(sent - acknowledged) if acknowledges else doubt:,}",
            f"{sum(state.reconnects for state in states):,}",
            style=style,
        )

    for state in done.sources[:_SOURCES_SHOWN]:
        row(state.address or state.name, [state])
    if len(done.sources) > _SOURCES_SHOWN:
        row(f"{len(done.sources) - _SOURCES_SHOWN} more", done.sources[_SOURCES_SHOWN:])
    row("all", done.sources, "bold")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    asked = f"{load.rate:,.0f} asked for" if load.rate else "as fast as it went"
    console.print(
        f"{load.kind} {load.form} over {load.transport} to {load.host} port {load.port}: {done.seconds:.1f} s, "
        f"{done.rate:,.0f} events/s ({asked}); run {load.run}, seed {load.seed}",
        markup=False,
        soft_wrap=True,
    )
    console.print(table)


@generate_app.command("verify", epilog="Example: weir generate verify run.json --stage both")
def verify(
    summary: Annotated[Path, typer.Argument(help="what --summary wrote")],
    stage: Annotated[str, typer.Option("--stage", help="what to read: raw, events, or both")] = "raw",
    bootstrap: Annotated[str | None, typer.Option(help="Kafka brokers [default: WEIR_KAFKA_BOOTSTRAP_SERVERS]")] = None,
    prefix: Annotated[str | None, typer.Option(help="prefix of the topics [default: WEIR_TOPIC_PREFIX]")] = None,
    silence: Annotated[float, typer.Option(min=0.5, help="seconds without a record after which nothing more is expected")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Look for every event of a run in Kafka: per source what is missing, came twice, or came late. Exit 1 where any is missing."""
    from confluent_kafka import KafkaException

    from weir.local.generate.intervals import TooFragmentedError
    from weir.local.generate.kinds import KINDS
    from weir.local.generate.verify import Oracle, expected_of, read_topics
    from weir.model.topics import TopicNames
    from weir.ops.settings import ServiceSettings, SettingsError, load

    if stage not in {"raw", "events", "both"}:
        _fail(EXIT_SETTINGS, f"--stage {stage}: there are raw, events and both")
    try:
        sent = json.loads(summary.read_text(encoding="utf-8"))
        expected = expected_of(sent)
        kind = KINDS[sent["kind"]]
    except OSError as error:
        _fail(EXIT_SETTINGS, f"{summary}: {error.strerror or error}")
    except (ValueError, KeyError, TypeError) as error:
        _fail(EXIT_SETTINGS, f"{summary}: it is not what `weir generate … --summary` writes ({error})")
    if not any(one.sent for one in expected):
        _fail(EXIT_DIFFERS, f"{summary}: nothing was sent in this run, so there is nothing to look for")
    if bootstrap:
        os.environ["WEIR_KAFKA_BOOTSTRAP_SERVERS"] = bootstrap
    if prefix:
        os.environ["WEIR_TOPIC_PREFIX"] = prefix
    verdicts: dict[str, Verdict] = {}
    try:
        settings = load(ServiceSettings, complete=_all_settings)
        names = TopicNames(settings.topic_prefix)
        stages = {"raw": [names[kind.raw_topic]], "events": [names[f"events.{dataset}"] for dataset in kind.datasets]}
        for one in ("raw", "events") if stage == "both" else (stage,):
            oracle = Oracle(sent["run"], expected)
            # A broker's clock may be some way off ours; stamps of other runs do no harm.
            since_us = sent["started_at"] - 60_000_000
            flows = kind.raw_topic == "raw.netflow"
            read_topics(settings, stages[one], since_us, oracle, sent["run"], flows=flows, silence_s=silence)
            verdicts[one] = oracle.verdict()
    except SettingsError as error:
        _fail(EXIT_SETTINGS, *error.mistakes)
    except (KafkaException, TooFragmentedError) as error:
        _fail(EXIT_UNAVAILABLE, f"the topics cannot be read: {error}", "way out: check --bootstrap and --prefix")
    if as_json:
        record = {one: verdict.record() for one, verdict in verdicts.items()}
        Console(soft_wrap=True, highlight=False).print(json.dumps(record), markup=False)
    else:
        for one, verdict in verdicts.items():
            _show_verdict(one, verdict)
    raise typer.Exit(0 if all(verdict.ok for verdict in verdicts.values()) else EXIT_DIFFERS)


def _show_verdict(stage: str, verdict: Verdict) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(stage, no_wrap=True)
    counts = ("found", "missing", "in_doubt", "repeated", "late", "invented")
    for heading in ("sent", *counts):
        table.add_column(heading.replace("_", " "), justify="right", no_wrap=True)
    table.add_column("missing numbers")
    # What is wrong comes first, and is always shown.
    ordered = sorted(verdict.sources, key=lambda one: one.ok)
    for one in ordered[:_SOURCES_SHOWN]:
        ranges = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in one.missing_ranges[:6])
        more = ", …" if len(one.missing_ranges) > 6 else ""
        values = [f"{getattr(one, name):,}" for name in counts]
        table.add_row(one.expected.name, f"{one.expected.sent:,}", *values, ranges + more, style="" if one.ok else "red")
    totals = [f"{verdict.total(name):,}" for name in counts]
    table.add_row("all", f"{sum(one.expected.sent for one in verdict.sources):,}", *totals, "", style="bold")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    console.print(table)
    if verdict.damaged or verdict.foreign:
        console.print(f"{verdict.damaged:,} damaged stamps, {verdict.foreign:,} of sources that are not in the summary")
    console.print("nothing is missing" if verdict.ok else "[red]not as it should be[/]")


@bench_app.command(
    "udp",
    short_help="The UDP loss curve.",
    epilog="Example: weir bench udp --rates 50000,100000 --seconds 3 --processes 2",
)
def bench_udp(
    rates: Annotated[str, typer.Option(help="datagrams per second, one after the other")] = "10000,20000,50000,75000,100000,150000",
    seconds: Annotated[float, typer.Option(min=0.5, help="for how long each")] = 5.0,
    size: Annotated[int, typer.Option(min=120, max=8192, help="bytes of a datagram")] = 300,
    processes: Annotated[int, typer.Option(min=1, max=64, help="receiver processes that share the port")] = 1,
    sources: Annotated[int, typer.Option(min=1, max=250, help="senders")] = 8,
    target: Annotated[
        str | None,
        typer.Option(help="127.0.0.1:PORT of a syslog receiver that runs already [default: one is started]"),
    ] = None,
    bootstrap: Annotated[str | None, typer.Option(help="Kafka brokers [default: development's, else one is started]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """The UDP loss curve: what arrives and what is dropped at each rate. Exit 1 where received + drops are not sent."""
    from weir.local.bench.udp import Plan, run_bench
    from weir.local.errors import LocalError
    from weir.ops.settings import SettingsError

    try:
        plan = Plan(
            rates=tuple(int(rate) for rate in rates.split(",")),
            seconds=seconds,
            size=size,
            processes=processes,
            sources=sources,
            target=target,
            bootstrap=bootstrap,
        )
    except ValueError as error:
        _fail(EXIT_SETTINGS, f"--rates {rates}: {error}")
    progress = Console(stderr=True, highlight=False)
    try:
        steps = run_bench(plan, lambda line: progress.print(line, markup=False, soft_wrap=True), complete=_all_settings)
    except SettingsError as error:
        _fail(EXIT_SETTINGS, *error.mistakes)
    except LocalError as error:
        _fail(EXIT_UNAVAILABLE, error.what, f"way out: {error.way_out}")
    if as_json:
        Console(soft_wrap=True, highlight=False).print(json.dumps([step.record() for step in steps]), markup=False)
    else:
        _show_curve(steps)
    raise typer.Exit(0 if all(step.ok for step in steps) else EXIT_DIFFERS)


@bench_app.command(
    "detect",
    short_help="What matching with Sigma rules costs.",
    epilog="Example: weir bench detect --amounts 500,3000 --rules sigma/rules",
)
def bench_detect(
    amounts: Annotated[str, typer.Option(help="numbers of rules, one after the other")] = "0,500,3000",
    rules: Annotated[Path | None, typer.Option(help="folder of Sigma rules that take part; made ones fill up the number")] = None,
    events: Annotated[int, typer.Option(min=250, help="of each source")] = 5_000,
    rounds: Annotated[int, typer.Option(min=1, help="of which the best counts")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """CPU time of matching events with so many Sigma rules, and with those that come with Weir, beside that of decoding them."""
    from weir.local.bench.detect import run_bench

    try:
        numbers = tuple(int(amount) for amount in amounts.split(","))
    except ValueError as error:
        _fail(EXIT_SETTINGS, f"--amounts {amounts}: {error}")
    progress = Console(stderr=True, highlight=False)
    try:
        measured = run_bench(events, numbers, rules, rounds, lambda line: progress.print(line, markup=False))
    except FileNotFoundError as error:
        _fail(EXIT_SETTINGS, str(error))
    if as_json:
        record = {"loaded": measured.loaded, "problems": measured.problems, "costs": [cost.record() for cost in measured.costs]}
        Console(soft_wrap=True, highlight=False).print(json.dumps(record), markup=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("source", "rules", "events", "decoding µs", "matching µs", "encoding µs", "share", "matches", "partials"):
        table.add_column(heading, justify="left" if heading == "source" else "right", no_wrap=True)
    for cost in measured.costs:
        table.add_row(
            cost.source,
            f"{'shipped ' if cost.shipped else ''}{cost.rules:,}",
            f"{cost.events:,}",
            f"{cost.decode_us:.2f}",
            f"{cost.match_us:.2f}",
            f"{cost.encode_us:.2f}",
            f"{cost.share:.1%}",
            f"{cost.matches:,}",
            f"{cost.partials:,}",
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    console.print(table)
    for problem in measured.problems:
        console.print(f"left out: {problem}", markup=False)


def _show_curve(steps: list[Step]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (
        "rate", "achieved", "sent", "received", "kernel drops", "receiver drops", "unexplained", "loss", "CPU µs each", "",
    ):  # fmt: skip
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for step in steps:
        unexplained = f"{step.unexplained:,}"
        table.add_row(
            f"{step.rate:,}",
            f"{step.achieved:,.0f}",
            f"{step.sent:,}",
            f"{step.received:,}",
            f"{step.kernel_drops:,}",
            f"{step.receiver_drops:,}",
            unexplained if step.ok else f"[red]{unexplained}[/]",
            f"{step.loss:.2%}",
            "-" if step.cpu_us is None else f"{step.cpu_us:.1f}",
            _bar(step.loss),
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    console.print(table)
    cores = os.cpu_count()
    console.print(f"Sender, receiver and Kafka share {cores} CPUs: what the sender needs at a rate, the receiver does not have.")
    if all(step.ok for step in steps):
        console.print("received + counted drops = sent, at every rate")
    else:
        console.print("[red]received + counted drops are not what was sent[/]")


def _bar(share: float, width: int = 24) -> str:
    """A bar of eighths of a character; anything above nothing shows."""
    eighths = max(1, round(share * width * 8)) if share > 0 else 0
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
