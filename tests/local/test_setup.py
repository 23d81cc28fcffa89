"""scripts/setup.py: runs on the standard library alone, and names what stopped it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

_SCRIPT = Path(__file__).parents[2] / "scripts" / "setup.py"


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weir_setup", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_imports_nothing_but_the_standard_library() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(_SCRIPT), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_python_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Version(tuple[int, ...]):
        __slots__ = ()

    monkeypatch.setattr(sys, "version_info", Version((3, 10, 13)))
    spec = importlib.util.spec_from_file_location("weir_setup", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(SystemExit, match=r"3\.11, 3\.12 or 3\.13; .* is 3\.10\.13\n.*make PYTHON="):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_python_without_ensurepip_names_the_package(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(setup.SetupError, match=r"no ensurepip\n.*apt install python3\.\d+-venv"):
        setup.make_environment(tmp_path / "venv")


@pytest.mark.parametrize(
    ("said", "cause", "way_out"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full", "1200 MB"),
        ("NewConnectionError('...: Failed to establish a new connection')", "no package index was reached", "PIP_INDEX_URL"),
        ("ERROR: No matching distribution found for x==1 (from versions: none)", "no package index was reached", "PIP_INDEX_URL"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate is not trusted", "PIP_CERT"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the one the lock file names", "PIP_"),
        ("something new", "something new", "read the lines above"),
    ],
)
def test_pips_failures_are_explained(setup: ModuleType, said: str, cause: str, way_out: str) -> None:
    what, _, way = str(setup.explain("x cannot be installed", said)).partition("way out:")
    assert cause in what
    assert way_out in way


def test_a_full_disk_is_found_before_pip_runs(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    with pytest.raises(setup.SetupError, match="needs 1200 MB, 5 MB are free"):
        setup.make_environment(tmp_path / "venv")


def test_what_is_there_and_unchanged_is_not_done_again(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv, requirements = tmp_path / "venv", tmp_path / "requirements.txt"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    requirements.write_text("x==1\n")
    calls: list[list[str]] = []
    monkeypatch.setattr(setup, "works", lambda _: True)
    monkeypatch.setattr(setup, "pip", lambda venv, what, arguments: calls.append(arguments))
    setup.set_up(venv, requirements)
    assert [call[1] for call in calls] == ["--require-hashes", "--no-deps"]
    assert json.loads((venv / ".installed").read_text())["python"] == list(sys.version_info[:3])
    calls.clear()
    setup.set_up(venv, requirements)
    assert calls == []
    requirements.write_text("x==2\n")
    setup.set_up(venv, requirements)
    assert calls[0][:2] == ["install", "--require-hashes"]
    assert capsys.readouterr().out.count("already there") >= 4
    assert "\x1b" not in capsys.readouterr().out
