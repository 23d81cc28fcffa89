"""docs/log-sources.md, made from the table of log sources; `make docs` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from weir.detect.reading.logsource_table import TABLE, TAXONOMY, Row, Target, zeek
from weir.model.topics import DATASETS

__all__ = ["log_sources_markdown"]

_HEAD: Final = """# Log sources

Which events a Sigma rule is tried with. `make docs` writes this page from `weir.detect.reading.logsource_table`; do not edit it.

A log source stands for one dataset or several: a rule is compiled for each that has its fields, and where none has them, or the
log source is not listed here, `weir rules check` names the rule with the reason. Field names are those of the Elastic Common
Schema ([events.md](events.md) lists all); besides them rules may use Sigma's own names below. `a.b` is an entry of a map field or
of a text that holds JSON, `a:part` is worked out from a field (`path`, `query` and `extension` of a URL; `forms`: the URL both with
its host and from the path on). Where fields are joined by "or", the first that is there is taken.

| log source | dataset | only events where | keywords are looked for in | remark |
|---|---|---|---|---|
"""
_SERVICES: Final = ("conn", "dns", "http", "ssl", "x509", "dce_rpc", "notice")


def log_sources_markdown() -> str:
    """The page."""
    rows = [f"| product weir, service {name} | {name} | | | Weir's own name of the dataset |\n" for name in DATASETS]
    for row in TABLE:
        rows += [_row(_source(row), target) for target in row.targets]
    zeeks = [("conn", "conn"), ("notice", "notice"), ("any other log", "LOG")]
    rows += [_row(f"product zeek, service {name}", target) for name, service in zeeks for target in zeek(service)]
    return _HEAD + "".join(rows) + "".join(_names())


def _source(row: Row) -> str:
    keys = zip(("category", "product", "service"), row.source, strict=True)
    return ", ".join(f"{key} {value}" for key, value in keys if value) + (", nothing else" if "" in row.source else "")


def _row(source: str, target: Target) -> str:
    where = [f"`{name}` is {' or '.join(texts)}" for name, texts in target.where.items()]
    where += [f"`{target.there}` is there"] if target.there else []
    keywords = ", ".join(f"`{name}`" for name in target.keywords or ())
    return f"| {source} | {target.dataset} | {' and '.join(where)} | {keywords} | {target.note} |\n"


def _names() -> Iterator[str]:
    yield "\n## Names of fields\n\nIn every dataset that has the field:\n\n| Sigma | record field |\n|---|---|\n"
    yield from (f"| `{name}` | `{field.replace('.', '_')}` |\n" for name, field in TAXONOMY.items())
    yield "\nIn one log source; a name that is not listed is looked up as the last line of its table says:\n"
    for row in TABLE:
        for target in row.targets:
            yield from _table(f"{_source(row)}: {target.dataset}", target)
    for service in _SERVICES:
        for target in zeek(service):
            yield from _table(f"product zeek, service {service}: {target.dataset}", target)


def _table(title: str, target: Target) -> Iterator[str]:
    if not target.names and target.others is None:
        return
    yield f"\n### {title}\n\n| Sigma | read from |\n|---|---|\n"
    yield from (f"| `{name}` | {_code(field)} |\n" for name, field in target.names.items())
    if target.others is not None:
        yield f"| any other | {_code(target.others.replace('{}', 'NAME'))} |\n"


def _code(name: str) -> str:
    return " or ".join(f"`{one}`" for one in name.split("|"))


if __name__ == "__main__":
    sys.stdout.write(log_sources_markdown())
