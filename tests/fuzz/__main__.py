"""Fuzz one target: `python -m tests.fuzz framing --seconds 300 [--coverage]`.

Without --coverage the seeds are changed at random, which needs nothing but this project. With it, coverage of the decoders steers
the changes; that needs `atheris` from PyPI, which is no dependency of this project: `pip install atheris`.
Exit status 1: an input broke the target; it is written to a file that is named.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(name for name, target in TARGETS.items() if target.there))
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", action="store_true", help="steer by coverage, with atheris")
    options = parser.parse_args()
    if options.coverage:
        return steered(options.target, options.seconds, options.seed)
    return run(options.target, options.seconds, options.seed)


def changed(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The input after one to six changes of the kinds that break parsers."""
    value = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(value) + 1)
        kind = rng.randrange(7)
        if kind == 0 and value:
            value[at % len(value)] ^= 1 << rng.randrange(8)
        elif kind == 1 and value:
            value[at % len(value)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x20, 0x30))
        elif kind == 2:
            value[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            del value[at : at + rng.randint(1, 16)]
        elif kind == 4:
            value[at:at] = value[at : at + rng.randint(1, 64)]
        elif kind == 5:
            start = rng.randrange(len(other) + 1)
            value[at:] = other[start : start + 2_000]
        else:
            value[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"))
    return bytes(value[:65_536])


def run(name: str, seconds: float, seed: int) -> int:
    """Random changes for so many seconds; prints what was done."""
    target = TARGETS[name]
    rng = random.Random(seed)
    seeds = target.seeds()
    for data in seeds:  # imports and caches are no part of what is measured
        target.run(data)
    slowest, slowest_size, runs = 0.0, 0, 0
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = changed(rng.choice(seeds), rng.choice(seeds), rng)
        begun = time.thread_time()
        try:
            target.run(data)
        except Exception as error:
            path = Path(tempfile.gettempdir()) / f"weir-fuzz-{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"{name}: {error!r} for the input in {path} (run {runs}, seed {seed})", file=sys.stderr)
            return 1
        taken = time.thread_time() - begun
        if taken > slowest:
            slowest, slowest_size = taken, len(data)
        if rng.random() < 0.01:
            seeds.append(data)
            if len(seeds) > 2_000:
                del seeds[rng.randrange(len(seeds))]
        runs += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began) // 1024
    print(f"{name}: {runs:,} inputs, none broke it; slowest {slowest * 1000:.1f} ms ({slowest_size} bytes), {grown} MiB more")
    return 0


def steered(name: str, seconds: int, seed: int) -> int:
    """The same, steered by coverage."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("--coverage needs atheris: pip install atheris (CPython 3.11 to 3.13 on Linux)", file=sys.stderr)
        return 3
    target = TARGETS[name]
    with atheris.instrument_imports(include=["weir.protocols", "weir.processors"]):
        importlib.import_module(target.module)
        target.run(b"\x01warm up")
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(target.seeds()):
            (Path(folder) / str(number)).write_bytes(data)
        limits = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-max_len=16384",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *limits, folder], target.run)
        atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
