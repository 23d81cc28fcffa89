"""`weir enrich …`: are the tables of enrichment sound, and what would they add."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from weir.tools.printing import fail

if TYPE_CHECKING:
    from weir.processors.settings import ProcessorSettings
    from weir.processors.tables import HotTables

__all__ = ["enrich_app"]

EXIT_NOTHING = 1
EXIT_SETTINGS = 2

# One environment may hold settings of any service.
_SERVICES: Final = (
    *("weir.receivers.syslog", "weir.receivers.beats", "weir.receivers.netflow"),
    *("weir.sinks.sentinel", "weir.sinks.adx", "weir.sinks.siem"),
)
_PLACEHOLDER: Final = "127.0.0.1:9092"

enrich_app = typer.Typer(
    help="Check the tables of enrichment, and ask what they say.",
    epilog="Examples: weir enrich check --assets assets.csv --intel lists/ · weir enrich lookup 192.0.2.7 · "
    "weir enrich lookup 'AD\\alice'. Without options the files are those of the settings WEIR_ENRICH_….",
    no_args_is_help=True,
)

Mmdb = Annotated[str | None, typer.Option("--mmdb", metavar="FILES", help="instead of WEIR_ENRICH_MMDB_FILES")]
Assets = Annotated[str | None, typer.Option("--assets", metavar="FILES", help="instead of WEIR_ENRICH_ASSET_FILES")]
Users = Annotated[str | None, typer.Option("--users", metavar="FILES", help="instead of WEIR_ENRICH_USER_FILES")]
Intel = Annotated[str | None, typer.Option("--intel", metavar="PATHS", help="instead of WEIR_ENRICH_INTEL")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


@contextmanager
def _without_kafka() -> Iterator[None]:
    """Settings ask for brokers; files need none."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield
        return
    os.environ["KAFKA_BOOTSTRAP_SERVERS"] = _PLACEHOLDER
    try:
        yield
    finally:
        del os.environ["KAFKA_BOOTSTRAP_SERVERS"]


def _tables(mmdb: str | None, assets: str | None, users: str | None, intel: str | None) -> tuple[ProcessorSettings, HotTables]:
    """The tables of the settings, or of the options where any is given. Exit 2 with every mistake."""
    from weir.ops.settings import SettingsError, load  # noqa: PLC0415  with its libraries a second that `weir --help` need not pay
    from weir.processors.settings import ProcessorSettings  # noqa: PLC0415
    from weir.processors.tables import HotTables  # noqa: PLC0415

    given = {
        "enrich_mmdb_files": mmdb,
        "enrich_asset_files": assets,
        "enrich_user_files": users,
        "enrich_intel": intel,
    }
    # The topic is left out: reading it needs Kafka.
    changes: dict[str, Any] = {"enrich_assets_topic": False}
    if any(value is not None for value in given.values()):
        changes |= {name: value or "" for name, value in given.items()}
    try:
        with _without_kafka():
            settings = load(ProcessorSettings, complete=lambda: [import_module(name) for name in _SERVICES])
        settings = settings.model_copy(update=changes)
        tables = HotTables(settings)
    except SettingsError as error:
        fail(EXIT_SETTINGS, error.mistakes)
    if not tables.configured:
        fail(EXIT_SETTINGS, ["no table is configured: set WEIR_ENRICH_…, or name files by --mmdb, --assets, --users and --intel"])
    return settings, tables


@enrich_app.command("check")
def check(mmdb: Mmdb = None, assets: Assets = None, users: Users = None, intel: Intel = None, as_json: AsJson = False) -> None:
    """Read every table as a processor would, and say what is in it. Exit 2, with every mistake named, where one cannot be used."""
    _, tables = _tables(mmdb, assets, users, intel)
    of_kind = tables.lookup.tables.intel.counts() if tables.lookup.tables.intel is not None else {}
    lists = {path: report for one in tables.loaded.values() for path, report in one.reports.items()}
    if as_json:
        record = {
            "tables": {kind: one.entries for kind, one in tables.loaded.items()},
            "indicators": of_kind,
            "lists": {
                path: {"indicators": report.taken, "left_out": report.left_out, "examples": report.examples}
                for path, report in lists.items()
            },
        }
        print(json.dumps(record, indent=1))  # noqa: T201
        return
    console = Console(highlight=False)
    shown = Table(box=None, header_style="bold", pad_edge=False)
    shown.add_column("table")
    shown.add_column("entries", justify="right")
    shown.add_column("left out", justify="right")
    for kind, one in tables.loaded.items():
        shown.add_row("geo (nodes)" if kind == "geo" else kind, f"{one.entries:,}", "")
        for path, report in one.reports.items():
            shown.add_row(f"  {path}", f"{report.taken:,}", f"{report.left_out:,}" if report.left_out else "")
    console.print(shown)
    if of_kind:
        console.print("indicators: " + ", ".join(f"{count:,} {kind}" for kind, count in of_kind.items()), markup=False)
    for path, report in lists.items():
        for example in report.examples:
            console.print(f"{path}: left out: {example}", markup=False, soft_wrap=True)


@enrich_app.command("lookup")
def lookup(
    value: Annotated[str, typer.Argument(help="an address, host, domain, URL, hash or user")],
    mmdb: Mmdb = None,
    assets: Assets = None,
    users: Users = None,
    intel: Intel = None,
    as_json: AsJson = False,
) -> None:
    """Say what the tables would add to an event that has this value. Exit 1 where that is nothing."""
    _, tables = _tables(mmdb, assets, users, intel)
    found = _answers(tables, value)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))  # noqa: T201
    else:
        console = Console(highlight=False)
        for field, said in found.items():
            for one in said if field == "threat_enrichments" else [said]:
                text = json.dumps(one, ensure_ascii=False) if isinstance(one, (dict, list)) else str(one)
                console.print(f"{field:24} {text}", markup=False, soft_wrap=True)
        if not found:
            fail(EXIT_NOTHING, [f"no table says anything of {value!r}"])
    raise typer.Exit(0 if found else EXIT_NOTHING)


def _answers(tables: HotTables, value: str) -> dict[str, Any]:
    """Every field that the tables give, whatever the value is; of an address, the fields have no side."""
    from weir.enrich.intel import as_record  # noqa: PLC0415

    asked = tables.lookup
    found: dict[str, Any] = {}
    facts = asked.addresses[value]
    if facts is not None:
        found |= {name.removeprefix("source_"): said for name, said in facts.source.items()}
    elif (host := asked.hosts[value]) is not None:
        found |= {name.removeprefix("source_"): said for name, said in host.source_fields.items()}
    found |= asked.users[value, None, None].fields
    matches = {
        "ip": facts.matches if facts is not None else (),
        "domain": asked.names[value] if facts is None else (),
        "url": asked.urls[value],
        "hash": asked.hashes[value],
    }
    if threats := [as_record(match, field) for field, of_field in matches.items() for match in of_field]:
        found["threat_enrichments"] = threats
    return found
