"""Whether a change made the processors slower: `python -m bench.compare NAME=CHECKOUT …`, no Kafka.

Each checkout runs in a process of its own and is given the same units; they take turns, batch by batch, so that whatever else the
machine does meets all of them. The best round counts, as timeit has it: a raw batch to events, the steps of enrichment that are on
by default, and Avro.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["main"]

RECEIVED_US: Final = 1_790_000_000_000_000
EXPORTER: Final = "127.0.1.2"
ROUNDS: Final = 60
BATCHES: Final = 4

Units = tuple[str, list[list[bytes]]]
"""Which processor, and the units of each batch."""


def _worker(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Read batches, then for each index that is asked for answer CPU seconds and events of one round."""
    loads: dict[str, Units] = pickle.load(requests)
    run = _runner(loads)
    answers.write(b"ready\n")
    answers.flush()
    for line in requests:
        name, index = line.decode().split()
        answers.write(json.dumps(run(name, int(index))).encode() + b"\n")
        answers.flush()


def _runner(loads: dict[str, Units]) -> Callable[[str, int], tuple[float, int, int]]:
    # Imported here: only a worker has the checkout that it measures in its path.
    from weir.bus.codec import Encoder  # noqa: PLC0415
    from weir.model.batch import RawBatch  # noqa: PLC0415
    from weir.model.topics import DATASETS  # noqa: PLC0415
    from weir.processors import beats, netflow, syslog  # noqa: PLC0415
    from weir.processors.outcome import RawCoordinates  # noqa: PLC0415

    encoders = {dataset: Encoder(dataset) for dataset in DATASETS}
    process = {"syslog": syslog.make_process(), "beats": beats.process, "netflow": netflow.process}
    steps = _steps()
    where = RawCoordinates("bench.raw.v1", 0, 0)
    transports = {"syslog": "tcp", "beats": "lumberjack", "netflow": "udp"}

    def run(name: str, index: int) -> tuple[float, int, int]:
        kind, batches = loads[name]
        batch = RawBatch(bytes(16), "bench", "bench", transports[kind], EXPORTER, 5514, RECEIVED_US, batches[index])
        begun = time.process_time()
        outcome = process[kind](batch, where)
        for dataset, records in outcome.events.items():
            for step in steps.get(dataset, ()):
                step(records)
            encode = encoders[dataset]
            for record in records:
                encode(record)
        spent = time.process_time() - begun
        return spent, sum(map(len, outcome.events.values())), len(outcome.dead)

    return run


def _steps() -> dict[str, list[Callable[[list[dict[str, Any]]], None]]]:
    """The steps by default; none in a checkout that has no enrichment."""
    try:
        from weir.processors.derived import configured_steps  # noqa: PLC0415
        from weir.processors.faust_app import ProcessorSettings  # noqa: PLC0415
    except ImportError:
        return {}
    return configured_steps(ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9092"))


class _Checkout:
    """One checkout's worker."""

    def __init__(self, path: Path, loads: dict[str, Units]) -> None:
        environment = os.environ | {"PYTHONPATH": str(path / "services"), "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=path,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        pickle.dump(loads, self._requests)
        self._requests.flush()
        if self._answers.readline() != b"ready\n":
            raise SystemExit(f"{path}: its worker did not start")

    def round(self, name: str, index: int) -> tuple[float, int, int]:
        self._requests.write(f"{name} {index}\n".encode())
        self._requests.flush()
        seconds, events, dead = json.loads(self._answers.readline())
        return seconds, events, dead

    def close(self) -> None:
        self._requests.close()
        self._process.wait()


def _measure(checkouts: dict[str, _Checkout], load: str, batches: int, rounds: int) -> dict[str, tuple[float, int, int]]:
    """By checkout: microseconds an event, the sum of the best round of each batch over the batches' events; events; dead units."""
    best: dict[str, list[float]] = {name: [float("inf")] * batches for name in checkouts}
    found: dict[str, list[tuple[int, int]]] = {name: [(0, 0)] * batches for name in checkouts}
    for _ in range(rounds):
        for index in range(batches):
            for name, checkout in checkouts.items():
                seconds, events, dead = checkout.round(load, index)
                best[name][index] = min(best[name][index], seconds)
                found[name][index] = events, dead
    totals = {name: (sum(events for events, _ in each), sum(dead for _, dead in each)) for name, each in found.items()}
    return {name: (sum(best[name]) / (max(events, 1)) * 1e6, events, dead) for name, (events, dead) in totals.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.compare", description="CPU time per event of several checkouts, in turns.")
    parser.add_argument("checkouts", nargs="+", metavar="NAME=FOLDER", help="folders that have services/ in them")
    parser.add_argument("--only", nargs="+", metavar="LOAD", help="only these loads")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each batch (default %(default)s)")
    return parser.parse_args()


def main() -> int:
    """Print a table: microseconds of CPU per event."""
    from bench.compared import LOADS  # noqa: PLC0415 - a worker needs nothing of this

    arguments = _arguments()
    loads = {name: make(BATCHES) for name, make in LOADS.items() if not arguments.only or name in arguments.only}
    checkouts = {
        name: _Checkout(Path(folder).resolve(), loads) for name, _, folder in (text.partition("=") for text in arguments.checkouts)
    }
    print(f"{'µs of CPU per event':22}", *(f"{name:>10}" for name in checkouts), "  events", sep="")
    for load, (_, batches) in loads.items():
        found = _measure(checkouts, load, len(batches), arguments.rounds)
        counts = " ".join(dict.fromkeys(f"{events}" + (f" ({dead} dead)" if dead else "") for _, events, dead in found.values()))
        print(f"{load:22}", *(f"{spent:10.2f}" for spent, _, _ in found.values()), f"  {counts}", sep="", flush=True)
    for checkout in checkouts.values():
        checkout.close()
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        # The folder of this file is no package's: without it nothing but the checkout's own modules is found.
        sys.path.pop(0)
        _worker(sys.stdin.buffer, sys.stdout.buffer)
    else:
        sys.exit(main())
