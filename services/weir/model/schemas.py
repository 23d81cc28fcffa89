"""The Avro schemas in `schemas/` and the checked-in catalogue of their ids.

Every record on a Weir topic is in the Confluent wire format, which names its schema by a 4-byte id. The ids come from
`schemas/catalogue.json` and lie in a high range, so that they never meet the ids a registry hands out from 1 upwards; a Weir
without a registry and a Weir with one can therefore read the same topic.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import to_parsing_canonical_form

__all__ = ["CATALOGUE_ID_BASE", "SchemaVersion", "catalogue", "fingerprint", "latest", "make_catalogue", "schemas_dir"]

CATALOGUE_ID_BASE = 0x57450000
"""First id of the catalogue's range; schema number n (from 0), version v gets base + 256 n + v."""


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of one record type: its id in the wire format, its GUID (wire format with magic 1), its parsed schema."""

    name: str
    version: int
    id: int
    guid: uuid.UUID
    fingerprint: str
    parsed: dict[str, Any]

    @property
    def text(self) -> str:
        """The schema as in its file, for a registry."""
        return _file(self.name, self.version).read_text(encoding="utf-8")


def schemas_dir() -> Path:
    """Folder of the schemas: WEIR_SCHEMAS_DIR, else the one beside `services/` in a checkout, else the installed copy.

    Raises:
        FileNotFoundError: none of them holds a catalogue.
    """
    here = Path(__file__).resolve()
    candidates = [here.parents[3] / "schemas", here.parents[1] / "schemas"]
    if override := os.environ.get("WEIR_SCHEMAS_DIR"):
        candidates.insert(0, Path(override))
    for folder in candidates:
        if (folder / "topics.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"no folder of schemas with a topics.yaml among {', '.join(map(str, candidates))}; set WEIR_SCHEMAS_DIR to it"
    )


def _file(name: str, version: int) -> Path:
    return schemas_dir() / "avro" / f"{name}.v{version}.avsc"


def fingerprint(schema: dict[str, Any]) -> str:
    """SHA-256 in hex of all that a reader can notice: the parsing canonical form and the defaults."""
    canonical = to_parsing_canonical_form(schema)
    defaults = json.dumps(_defaults(schema), sort_keys=True)
    return hashlib.sha256(f"{canonical}\n{defaults}".encode()).hexdigest()


def _defaults(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _defaults(v) for k, v in node.items() if k in {"fields", "items", "values", "type", "name", "default"}}
    if isinstance(node, list):
        return [_defaults(item) for item in node]
    return node


def make_catalogue(previous: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The catalogue that fits the files in `schemas/avro`, given the one there is.

    Ids already given stay; a record type not seen before gets the next number. Raises ValueError where the schema of a
    version already in the catalogue has changed: that needs a new version, because records with the old id exist.
    """
    numbers = {entry["name"]: (entry["id"] - CATALOGUE_ID_BASE) // 256 for entry in previous}
    known = {(entry["name"], entry["version"]): entry for entry in previous}
    entries: list[dict[str, Any]] = []
    for path in sorted((schemas_dir() / "avro").glob("*.avsc")):
        name, _, version_text = path.name.removesuffix(".avsc").rpartition(".v")
        version = int(version_text)
        mark = fingerprint(json.loads(path.read_text(encoding="utf-8")))
        if (old := known.get((name, version))) is not None:
            if old["fingerprint"] != mark:
                raise ValueError(f"{path.name} differs from what the catalogue holds: add {name}.v{version + 1}.avsc instead")
            entries.append(old)
            continue
        number = numbers.setdefault(name, max(numbers.values(), default=-1) + 1)
        guid = uuid.uuid5(uuid.NAMESPACE_OID, mark)
        schema_id = CATALOGUE_ID_BASE + 256 * number + version
        entries.append({"name": name, "version": version, "id": schema_id, "guid": str(guid), "fingerprint": mark})
    return sorted(entries, key=lambda entry: entry["id"])


@cache
def catalogue() -> dict[int, SchemaVersion]:
    """All schema versions by id."""
    raw = json.loads((schemas_dir() / "catalogue.json").read_text(encoding="utf-8"))
    versions = {}
    for entry in raw:
        # Each file is a world of its own: named types must not leak from one schema into the next.
        parsed = fastavro.parse_schema(json.loads(_file(entry["name"], entry["version"]).read_text(encoding="utf-8")), {})
        if not isinstance(parsed, dict):
            raise TypeError(f"{entry['name']}.v{entry['version']}.avsc is not a record schema")
        versions[entry["id"]] = SchemaVersion(
            entry["name"], entry["version"], entry["id"], uuid.UUID(entry["guid"]), entry["fingerprint"], parsed
        )
    return versions


@cache
def latest(name: str) -> SchemaVersion:
    """The newest version of record type `name`, such as "network-flow". Raises KeyError naming the known ones."""
    found = [entry for entry in catalogue().values() if entry.name == name]
    if not found:
        raise KeyError(f"no schema {name!r}; there are {', '.join(sorted({e.name for e in catalogue().values()}))}")
    return max(found, key=lambda entry: entry.version)
