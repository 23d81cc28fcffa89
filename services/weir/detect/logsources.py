"""Which dataset a Sigma log source speaks of, and which record field a Sigma field name.

| Sigma log source                         | dataset       | only events where          |
|------------------------------------------|---------------|----------------------------|
| category: file_audit, product: qumulo    | file-audit    | event_module is qumulo     |
| category: file_audit                     | file-audit    |                            |
| service: netflow                         | network-flow  |                            |
| category: firewall, no product           | network-flow  |                            |
| product: weir, service: <dataset>        | that dataset  |                            |

A log source that is not in the table is a problem of the rule, not a rule that never matches: web server and proxy rules, for
instance, want request fields (`cs-uri-query`) that no dataset has under one name yet. The same holds for a field that the
dataset does not have: a `firewall` rule about a verdict is not applicable to flows, which carry none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from sigma.rule.logsource import SigmaLogSource

from weir.detect.matcher import UnsupportedError
from weir.model.schemas import latest
from weir.model.topics import DATASETS

__all__ = ["LogSource", "dataset_of", "record_field", "record_fields"]


@dataclass(frozen=True, slots=True)
class LogSource:
    """A dataset and what its events must have besides, as field and text."""

    dataset: str
    where: dict[str, str] = field(default_factory=dict)


# (category, product, service), None for any; the first that fits is taken.
_TABLE: tuple[tuple[tuple[str | None, str | None, str | None], LogSource], ...] = (
    (("file_audit", "qumulo", None), LogSource("file-audit", {"event_module": "qumulo"})),
    (("file_audit", "", None), LogSource("file-audit")),
    ((None, "", "netflow"), LogSource("network-flow")),
    (("firewall", "", ""), LogSource("network-flow")),
)

# Names of Sigma's taxonomy that are not ECS names.
_TAXONOMY = {
    "src_ip": "source_ip",
    "src_port": "source_port",
    "dst_ip": "destination_ip",
    "dst_port": "destination_port",
}


def dataset_of(source: SigmaLogSource) -> LogSource:
    """The dataset of a rule's log source. Raises UnsupportedError where the table above has none."""
    if source.product == "weir" and source.service in DATASETS:
        return LogSource(source.service)
    given = (source.category, source.product, source.service)
    for wanted, found in _TABLE:
        if all(want is None or (have or "") == want for want, have in zip(wanted, given, strict=True)):
            return found
    named = ", ".join(
        f"{key} {value}" for key, value in zip(("category", "product", "service"), given, strict=True) if value is not None
    )
    raise UnsupportedError(f"log source {named} is mapped to no dataset")


@cache
def record_fields(dataset: str) -> frozenset[str]:
    """Fields of a dataset's records."""
    return frozenset(entry["name"] for entry in latest(dataset).parsed["fields"])


def record_field(name: str, dataset: str) -> str:
    """The record field of a Sigma field: `file.path` is `file_path`. Raises UnsupportedError where the dataset has none."""
    if name == "@timestamp":
        return "timestamp"
    found = _TAXONOMY.get(name, name.replace(".", "_"))
    if found not in record_fields(dataset):
        raise UnsupportedError(f"field {name} is not in dataset {dataset}")
    return found
