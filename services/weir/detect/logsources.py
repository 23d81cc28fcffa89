"""Which datasets a Sigma log source speaks of, and which record field a Sigma field name.

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

__all__ = ["DEFAULT_ENTITIES", "DEFAULT_GROUP", "LogSource", "NotApplicableError", "datasets_of", "record_fields"]


class NotApplicableError(UnsupportedError):
    """Sound Sigma about events that no dataset of ours has; the message says what is not there."""



@dataclass(frozen=True, slots=True)
class LogSource:
    """A dataset and what its events must have besides, as field and text; `names` are record fields of Sigma's own names there."""

    dataset: str
    where: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def record_field(self, name: str) -> str:
        """The record field of a Sigma field: `file.path` is `file_path`. Raises UnsupportedError where the dataset has none."""
        if name == "@timestamp":
            return "timestamp"
        found = self.names.get(name) or _TAXONOMY.get(name) or name.replace(".", "_")
        if found.partition(".")[0] not in record_fields(self.dataset):
            error = UnsupportedError if self.ours else NotApplicableError
            raise error(f"field {name} is not in dataset {self.dataset}")
        return found


# (category, product, service), None for any; the first that fits is taken.
_TABLE: tuple[tuple[tuple[str | None, str | None, str | None], tuple[LogSource, ...]], ...] = (
    (("file_audit", "qumulo", None), (LogSource("file-audit", {"event_module": "qumulo"}),)),
    (("file_audit", "", None), (LogSource("file-audit"),)),
    ((None, "", "netflow"), (LogSource("network-flow"),)),
    (("firewall", "", ""), (LogSource("network-flow"),)),
)

# Names of Sigma's taxonomy that are not ECS names.
_TAXONOMY = {
    "src_ip": "source_ip",
    "src_port": "source_port",
    "dst_ip": "destination_ip",
    "dst_port": "destination_port",
}

# What an alert names where its rule does not say, by dataset: name of the entity and event field.
_ADDRESSES = {
    "source_address": "source.ip",
    "destination_address": "destination.ip",
}
DEFAULT_ENTITIES: dict[str, dict[str, str]] = {
    "file-audit": {"user": "user.name", "source_address": "source.ip", "host": "host.name", "file": "file.path"},
    "network-flow": {**_ADDRESSES, "user": "user.name"},
    "cef": {**_ADDRESSES, "user": "user.name", "host": "host.name", "file": "file.path"},
    "ids-alert": {**_ADDRESSES, "host": "host.name"},
    "network-log": {**_ADDRESSES, "user": "user.name", "host": "host.name", "file": "file.path"},
    "syslog": {"host": "host.name", "source_address": "source.ip", "user": "user.name"},
    "authentication": {"user": "user.name", "source_address": "source.ip", "host": "host.name"},
    "sensor": {"host": "host.name"},
}

# What makes an alert of its own of a rule that alerts by itself and does not say.
DEFAULT_GROUP: dict[str, tuple[str, ...]] = {
    "file-audit": ("user.id",),
    "network-flow": ("source.ip",),
    "cef": ("source.ip",),
    "ids-alert": ("source.ip",),
    "network-log": ("source.ip",),
    "syslog": ("host.name",),
    "authentication": ("user.name",),
    "sensor": ("host.name",),
}


def datasets_of(source: SigmaLogSource) -> tuple[LogSource, ...]:
    """The datasets of a rule's log source. Raises UnsupportedError where the table above has none."""
    if source.product == "weir" and source.service in DATASETS:
        return (LogSource(source.service),)
    given = (source.category, source.product, source.service)
    for wanted, found in _TABLE:
        if all(want is None or (have or "") == want for want, have in zip(wanted, given, strict=True)):
            return found
    named = ", ".join(
        f"{key} {value}" for key, value in zip(("category", "product", "service"), given, strict=True) if value is not None
    )
    raise NotApplicableError(f"log source {named} is mapped to no dataset")


@cache
def record_fields(dataset: str) -> frozenset[str]:
    """Fields of a dataset's records."""
    return frozenset(entry["name"] for entry in latest(dataset).parsed["fields"])
