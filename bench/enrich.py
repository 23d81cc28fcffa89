"""What enrichment costs an event: `python -m bench.enrich`, no Kafka, one process, tables made up on the spot."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from weir.processors.enrichment import Enrichment
from weir.processors.faust_app import ProcessorSettings
from weir.processors.table_steps import table_steps
from weir.processors.tables import HotTables

BATCH: Final = 250
ROUNDS: Final = 400
RECEIVED_US: Final = 1_790_000_000_000_000
INDICATORS: Final = 200_000
ADDRESSES: Final = 5_000

Record = dict[str, Any]


def _files(folder: Path) -> dict[str, str]:
    """The settings of each table, its file written."""
    chance = random.Random(1)
    rows = ["network,ip,host,name,criticality,owner,zone"]
    rows += [f"10.{n}.0.0/16,,,Site {n},low,it," for n in range(256)]
    rows += [f"10.{n}.{m}.0/24,,,Floor {m} of site {n},,," for n in range(64) for m in range(64)]
    rows += [f",10.{n}.1.{m},,server-{n}-{m},high,ops," for n in range(64) for m in range(1, 50)]
    rows += [f",,node-{n},node-{n},high,storage," for n in range(500)]
    (folder / "assets.csv").write_text("\n".join(rows))
    users = ["entity,name,domain,sid,roles,criticality"]
    users += [f"user{n}@corp.example,user{n},AD,S-1-5-21-1-2-3-{n},staff|vpn,normal" for n in range(10_000)]
    (folder / "users.csv").write_text("\n".join(users))
    intel = [
        f"{chance.randrange(1, 224)}.{chance.randrange(256)}.{chance.randrange(256)}.{n % 256}" for n in range(INDICATORS // 2)
    ]
    intel += [f"host{n}.evil{n % 977}.example" for n in range(INDICATORS // 4)]
    intel += [f"http://evil{n}.example/a/{n}" for n in range(INDICATORS // 8)]
    intel += [f"{n:064x}" for n in range(INDICATORS // 8)]
    (folder / "intel.txt").write_text("\n".join(intel))
    return {
        "assets": f"enrich_asset_files={folder / 'assets.csv'}",
        "users": f"enrich_user_files={folder / 'users.csv'}",
        "intel": f"enrich_intel={folder / 'intel.txt'}",
        "last seen": "enrich_seen_hours=12",
    }


def _flow(n: int) -> Record:
    source, destination = f"10.{n % 64}.{n % 7}.{n % 200}", f"{100 + n % 90}.{n % 256}.7.{n % 199}"
    return {
        "event_created": RECEIVED_US,
        "log_source_ip": "10.0.0.1",
        "source_ip": source,
        "destination_ip": destination,
        "source_as": 0,
    }


def _audit(n: int) -> Record:
    who = f"user{n % 300}"
    at = f"10.{n % 60}.{n % 5 if n % 10 else 6}.{n % 300 % 200}"
    named = {"user_name": who, "user_domain": "AD", "user_id": f"AD\\{who}", "host_name": f"node-{n % 8}"}
    return {"event_created": RECEIVED_US, "log_source_ip": "10.0.0.2", "source_ip": at, **named}


def _log(n: int) -> Record:
    names = {
        "dns_question_name": f"www{n % 900}.site{n % 1000}.example",
        "host_name": "sensor-1",
        "dns_answers": [f"198.51.100.{n % 250}"],
    }
    return {**_flow(n), **names, "url_domain": f"site{n % 1000}.example", "url_original": f"/index{n % 1000}.html"}


KINDS: Final[dict[str, Callable[[int], Record]]] = {"network-flow": _flow, "file-audit": _audit, "network-log": _log}


def _microseconds(enrichment: Enrichment, dataset: str, make: Callable[[int], Record]) -> float:
    """CPU time per event in the best batch, as timeit counts it, after one round that fills the memory of answers."""
    batches = ADDRESSES // BATCH
    spent = []
    for turn in range(batches + ROUNDS):
        # Made anew, as a decoder does: the hash of a text is not known yet.
        records = [make(turn % batches * BATCH + n) for n in range(BATCH)]
        began = time.process_time()
        enrichment.apply({dataset: records})
        spent.append(time.process_time() - began)
    return min(spent[batches:]) / BATCH * 1e6


def main() -> int:
    """Print microseconds an event for each table alone and for all together, as JSON."""
    mmdb = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        each = _files(Path(name))
        if mmdb:
            each["geo and AS"] = f"enrich_mmdb_files={','.join(mmdb)}"
        found: dict[str, dict[str, float]] = {}
        for what, texts in [*((key, [text]) for key, text in each.items()), ("all together", list(each.values()))]:
            given = dict(text.split("=", 1) for text in texts)
            settings = ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9092", **given)  # type: ignore[arg-type]
            enrichment = Enrichment(table_steps(HotTables(settings), settings))
            found[what] = {dataset: round(_microseconds(enrichment, dataset, make), 2) for dataset, make in KINDS.items()}
    print(json.dumps({"microseconds_per_event": found}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
