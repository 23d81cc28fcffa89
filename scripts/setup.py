#!/usr/bin/env python3
"""Make the virtual environment from the lock file. Needs nothing but Python itself; `make install` calls it.

    python3 scripts/setup.py --venv .venv --requirements requirements/dev.txt

What is there and unchanged is not done again. pip's whole output is kept in `<venv>/setup.log`.
"""

# ruff: noqa: E402, S603, T201 - the version is checked before the imports; it prints and runs pip, that is all it is for

import sys

OLDEST, NEWEST = (3, 11), (3, 13)

if not OLDEST <= sys.version_info[:2] <= NEWEST:  # before anything that an older Python could not even import
    sys.exit(
        "Weir needs Python 3.11, 3.12 or 3.13; {} is {}.{}.{}\n"
        "  way out: install one of them and name it: `make PYTHON=python3.13 install`".format(sys.executable, *sys.version_info[:3])
    )

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPACE_MB = 1200  # 700 installed, the rest while pip downloads and unpacks

# What pip says, and what to do about it. The first that is found counts.
CAUSES = (
    (
        r"No space left on device|Errno 28|Disk quota exceeded",
        "the disk is full",
        f"free {SPACE_MB} MB for the environment; pip unpacks in TMPDIR, which may be on another disk",
    ),
    (
        r"DO NOT MATCH THE HASHES|hash(es)? .*mismatch",
        "a package is not the one the lock file names",
        "find out what the index or the proxy in between serves; PIP_INDEX_URL names another index",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "the package index's certificate is not trusted",
        "name your certificate authority's file in PIP_CERT",
    ),
    (
        r"NewConnectionError|Failed to establish a new connection|ConnectTimeout|ReadTimeout|ProxyError|Name or service not known"
        r"|Temporary failure in name resolution|Connection refused|Network is unreachable|Connection reset|Could not fetch URL",
        "no package index was reached",
        "check the network; behind a proxy set HTTPS_PROXY, for an index of your own PIP_INDEX_URL "
        "(or PIP_FIND_LINKS with a folder of wheels) and PIP_CERT",
    ),
    (
        r"from versions: none",  # pip's only trace of a failed connection when it is told not to retry
        "no package index was reached, or it lacks a package altogether",
        "check the network and PIP_INDEX_URL; behind a proxy set HTTPS_PROXY, with an own certificate authority PIP_CERT",
    ),
    (
        r"Could not find a version|No matching distribution",
        "the package index does not have one of the pinned versions",
        "check PIP_INDEX_URL and PIP_NO_INDEX, and that this platform and Python have wheels of it",
    ),
)


class SetupError(Exception):
    """Something is missing; the message names it and the way out."""


def failure(what: str, way_out: str) -> SetupError:
    return SetupError(f"{what}\n  way out: {way_out}")


class Step:
    """One line: what is done, and the seconds it took."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.result = "done"

    def __enter__(self) -> "Step":
        self.begun = time.monotonic()
        if sys.stdout.isatty():
            print(f"{self.what:<34}…", end="", flush=True)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        result, colour = (self.result, 32) if kind is None else ("failed", 31)
        start, shown = "", result
        if sys.stdout.isatty():
            start = "\r\x1b[K"
            shown = result if os.environ.get("NO_COLOR") else f"\x1b[{colour}m{result}\x1b[0m"
        print(f"{start}{self.what:<34}{shown}  {time.monotonic() - self.begun:.1f} s", flush=True)


def make_environment(venv: Path) -> None:
    """Make `venv` if it is missing, or made by a Python that is gone or of another minor version than the one that runs this."""
    name = f"Python {sys.version_info[0]}.{sys.version_info[1]} environment"
    with Step(name) as step:
        if works(venv):
            step.result = "already there"
            return
        if missing := [module for module in ("venv", "ensurepip") if importlib.util.find_spec(module) is None]:
            raise failure(
                f"this Python cannot make virtual environments: it has no {' and no '.join(missing)}",
                f"on Debian and Ubuntu: apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv",
            )
        check_space(venv)
        done = subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise explain(f"the virtual environment {venv} cannot be made", done.stdout + done.stderr)


def works(venv: Path) -> bool:
    """Whether the environment's Python runs, is of our own minor version, and has pip."""
    python = venv / "bin" / "python"
    if not python.exists():
        return False
    if read_stamp(venv).get("python") == list(sys.version_info[:3]):
        return True
    program = "import sys, pip; print(*sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.split() == [str(part) for part in sys.version_info[:2]]


def check_space(venv: Path) -> None:
    """Say that the disk is too full before a minute has gone into finding out."""
    free = shutil.disk_usage(next(path for path in (venv, *venv.parents) if path.exists())).free >> 20
    if free < SPACE_MB:
        raise failure(
            f"no disk space: {venv} needs {SPACE_MB} MB, {free} MB are free",
            "free some, or put the environment on another disk: `make VENV=/path/to/it install`",
        )


def pip(venv: Path, what: str, arguments: "list[str]") -> None:
    """Run pip with its output appended to the log; on failure show the end of it and what to do."""
    log = venv / "setup.log"
    with log.open("a+", encoding="utf-8", errors="replace") as output:
        output.write(f"== pip {' '.join(arguments)}\n")
        output.flush()
        begin = output.tell()
        done = subprocess.run(
            [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output.seek(begin)
        said = output.read()
    if done.returncode != 0:
        raise explain(f"{what} cannot be installed", said, log)


def explain(what: str, said: str, log: "Path | None" = None) -> SetupError:
    """An error with its cause named if it is one of the known ones."""
    lines = "\n".join("    " + line for line in said.strip().splitlines()[-12:])
    where = f"\n  (all of it: {log})" if log else ""
    for pattern, cause, way_out in CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return failure(f"{what}: {cause}\n{lines}{where}", way_out)
    return failure(f"{what}:\n{lines}{where}", "read the lines above")


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def read_stamp(venv: Path) -> "dict[str, object]":
    try:
        value = json.loads((venv / ".installed").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def set_up(venv: Path, requirements: Path) -> None:
    make_environment(venv)
    installed = venv / ".installed"
    before = read_stamp(venv)
    now = {
        "python": list(sys.version_info[:3]),
        "project_folder": str(ROOT),
        "requirements": digest(requirements),
        "project": digest(ROOT / "pyproject.toml"),
    }
    with Step(f"packages of {requirements.name}") as step:
        if before.get("requirements") == now["requirements"]:
            step.result = "already there"
        else:
            check_space(venv)
            (venv / "setup.log").unlink(missing_ok=True)
            # Ahead of pip: an installation broken off half-way must not be taken for a finished one.
            installed.unlink(missing_ok=True)
            pip(venv, f"what {requirements} lists", ["install", "--require-hashes", "-r", str(requirements)])
    with Step("the project itself") as step:
        if before == now:
            step.result = "already there"
        else:
            pip(venv, "the project", ["install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    installed.write_text(json.dumps(now), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the virtual environment from the lock file.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--requirements", type=Path, default=ROOT / "requirements" / "dev.txt")
    options = parser.parse_args()
    try:
        set_up(options.venv.absolute(), options.requirements.absolute())
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(explain("the virtual environment cannot be made", str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
