"""docs/events.md, made from the schemas, the mappings and what the samples decode to; `make docs` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from weir.model.mappings import projection
from weir.model.schemas import latest, schemas_dir
from weir.model.topics import DATASETS
from weir.processors.plugins import WEIRS_OWN
from weir.tools.decode import FAMILIES, Decoded, Options, Totals, decode

__all__ = ["ENRICHED", "SAMPLES", "events_markdown", "filled_by"]

SAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "suricata-eve.ndjson": ("eve",),
    "sensorfleet.ndjson": ("sensorfleet",),
    "filebeat-syslog.ndjson": ("beats",),
    "kemp-esp.cef": ("kemp",),
    "qumulo-audit.csv": ("qumulo",),
    "vendor.cef": ("cef",),
    "rfc5424.log": ("syslog",),
    "rfc3164.log": ("syslog",),
    "devices.log": ("syslog",),
    "leef.log": ("leef",),
    "zeek-conn.log": ("zeek",),
    "zeek.ndjson": ("zeek",),
    "snort-alerts.log": ("snort",),
    "winlogbeat.ndjson": ("beats",),
    "filebeat-netflow.ndjson": ("beats",),
    "flows.pcap": ("netflow", "sflow"),
}
"""Files of `weir/local/samples`, and the families of `weir decode` that read them."""

ENRICHED: Final = re.compile(
    r"(?:source|destination)_(?:geo_\w+|as|as_organization|network_name)|(?:source|destination|host)_asset_\w+"
    r"|user_(?:entity_id|roles|criticality|last_seen_ips)|threat_enrichments|network_direction|network_community_id"
    r"|user_agent_(?:name|version|os_name|os_version|device_name)"
)
"""Fields that enrichment fills where the source does not."""

# When the samples' times, which have no year, were received.
_RECEIVED_US: Final = 1_709_294_460_000_000
_MOST_SOURCES: Final = 8
_TYPES: Final = {"string": "text", "int": "whole number", "long": "whole number", "float": "number", "double": "number",
                 "boolean": "true or false"}  # fmt: skip
_ABSENT: Final[tuple[Any, ...]] = (None, "", [], {})

_HEAD: Final = """# Events

Every field of every event. `make docs` writes this page from the Avro schemas, the mappings to Sentinel, and what the samples in
`services/weir/local/samples` decode to; do not edit it.

- **type**: a time is microseconds since 1970 UTC in Kafka, and ISO 8601 with six digits in `weir decode`, Sentinel and Azure Data
  Explorer. Any field may be absent.
- **ECS** is the field's name in the Elastic Common Schema.
- **Sentinel** is the column of the table that the heading names; "(2.)" means that the column takes this field where the first
  one is absent. The table has `EventTopic`, `EventPartition` and `EventOffset` besides. In Azure Data Explorer each field has a
  column of its own name in PascalCase.
- **filled by** names the sources whose samples have it: that is what Weir's own samples show, not all that a source can send.
  `Weir` is the receiver, the catalogue of sources or a default; `enrichment` is what tables and rules add where they are
  configured; `-` means that no sample has it.
"""


def filled_by(samples: Path) -> dict[str, dict[str, set[str]]]:
    """By dataset and field, the sources whose samples fill it; under the field "" all sources of the dataset.

    Raises ValueError where a sample does not decode whole: the page would lack what it fills.
    """
    found: dict[str, dict[str, set[str]]] = {dataset: {"": set()} for dataset in DATASETS}
    for name, families in SAMPLES.items():
        for family in families:
            totals = Totals()
            for one in decode(FAMILIES[family], [str(samples / name)], Options(_RECEIVED_US), totals):
                if not isinstance(one, Decoded):
                    raise ValueError(f"{name} does not decode whole: {one}")  # noqa: TRY004 - it is a unit that could not be read
                source = _source(one)
                fields = found[one.dataset]
                fields[""].add(source)
                for key, value in one.record.items():
                    if value not in _ABSENT:
                        fields.setdefault(key, set()).add(source)
    return found


def _source(one: Decoded) -> str:
    # Of a flow the exporter's protocol says more than that it is a flow.
    protocol = one.record.get("flow_protocol") if one.dataset == "network-flow" else None
    return str(protocol or one.record["event_dataset"] or one.record["event_module"])


def events_markdown(samples: Path) -> str:
    """The page. `samples` is the folder of the sample files."""
    found = filled_by(samples)
    lines = [_HEAD]
    lines += [f"- [{dataset}](#{dataset}): {latest(dataset).parsed['doc']}" for dataset in DATASETS]
    for dataset in DATASETS:
        lines += _dataset(dataset, found[dataset])
    return "\n".join(lines) + "\n"


def _dataset(dataset: str, found: dict[str, set[str]]) -> Iterator[str]:
    schema = latest(dataset)
    target = projection("sentinel", f"events.{dataset}")
    yield f"\n## {dataset}\n"
    yield f"{schema.parsed['doc']} Topic `events.{dataset}`, schema `{dataset}.v{schema.version}`, table `{target.table}`."
    yield f"Sources among the samples: {', '.join(sorted(found[''])) or 'none'}.\n"
    yield "| field | type | what it is | ECS | Sentinel | filled by |"
    yield "|---|---|---|---|---|---|"
    columns = _columns(dataset)
    for field in schema.parsed["fields"]:
        name = field["name"]
        ecs = f"`{field['ecs']}`" if field.get("ecs") else ""
        cells = (f"`{name}`", _type(field["type"]), field["doc"], ecs, ", ".join(columns.get(name, [])), _who(field, found))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(avro: Any) -> str:
    if isinstance(avro, list):
        return " or ".join(_type(option) for option in avro if option != "null")
    if isinstance(avro, str):
        return _TYPES.get(avro, avro)
    if avro.get("logicalType") == "timestamp-micros":
        return "time"
    if avro["type"] == "array":
        return f"list of {_type(avro['items'])}"
    if avro["type"] == "map":
        return f"map of {_type(avro['values'])}"
    return _type(avro["type"])


def _columns(dataset: str) -> dict[str, list[str]]:
    """By field, the columns of Sentinel that it goes to."""
    columns: dict[str, list[str]] = {}
    for column in projection("sentinel", f"events.{dataset}").columns:
        if column.source:
            columns.setdefault(column.source.partition("[")[0], []).append(column.name)
    path = schemas_dir() / "mappings" / "sentinel" / f"{dataset}.yaml"
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))["columns"] if path.is_file() else {}
    for column_name, rule in rules.items():
        if isinstance(sources := rule.get("from"), list):
            for place, source in enumerate(sources[1:], 2):
                columns.setdefault(source, []).append(f"{column_name} ({place}.)")
    return {name: _short(names) for name, names in columns.items()}


def _short(names: list[str]) -> list[str]:
    # Each key of a CEF extension has a column of its own: the mapping lists them.
    return names if len(names) <= _MOST_SOURCES else [*names[:3], f"{len(names) - 3} more"]


def _who(field: dict[str, Any], found: dict[str, set[str]]) -> str:
    name = field["name"]
    if name in WEIRS_OWN:
        return "Weir"
    who = list(_by_module(found.get(name, set()), found[""]))
    if ENRICHED.fullmatch(name):
        who.append("enrichment")
    if not who and field.get("default") not in _ABSENT:
        who.append("Weir")
    return ", ".join(who) or "-"


def _by_module(sources: set[str], everyone: set[str]) -> Iterable[str]:
    """Names of the sources; one name stands for all of a module's where all of them fill it."""
    if len(everyone) > 1 and sources == everyone:
        return ["all"]
    names: list[str] = []
    modules = sorted({source.partition(".")[0] for source in sources})
    for module in modules:
        mine, all_of_it = ({one for one in group if one.partition(".")[0] == module} for group in (sources, everyone))
        names += [module] if mine == all_of_it and len(mine) > 1 else sorted(mine)
    return names
