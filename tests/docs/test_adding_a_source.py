"""The example of docs/adding-a-source.md is what the page shows, installs, and does what the page says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "weir-door-controller"
WEIR = str(Path(sys.executable).with_name("weir"))
GRANTED = '<13>1 - - doors - - - DOOR 2024-03-01 12:00:00 north-gate badge=R0451 holder="Petra Example" granted'
DENIED = '<13>1 - - doors - - - DOOR 2024-03-01 12:00:09 north-gate badge=B0007 denied reason="out of hours"'


def install(folder: Path) -> Path:
    """What `pip install` leaves in a folder of packages: the module, and the metadata that pyproject.toml declares."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(EXAMPLE / f"{module}.py", folder)
    name, version = project["project"]["name"], project["project"]["version"]
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    groups = project["project"]["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "\n".join(f"[{group}]\n" + "\n".join(f"{key} = {value}" for key, value in points.items()) for group, points in groups),
        encoding="utf-8",
    )
    return folder


def run(folder: Path, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    path = os.pathsep.join([str(folder), str(ROOT / "services")])
    return subprocess.run(
        command,
        env=environment | {"PYTHONPATH": path},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )


def test_the_page_shows_the_files_as_they_are() -> None:
    page = (ROOT / "docs" / "adding-a-source.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"```(python|toml)\n(.*?)```\n", page, re.DOTALL))
    assert shown["python"] == (EXAMPLE / "weir_door_controller.py").read_text(encoding="utf-8")
    assert shown["toml"] == (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


def test_its_own_tests_pass_where_it_is_installed(tmp_path: Path) -> None:
    install(tmp_path)
    shutil.copy(EXAMPLE / "test_door_controller.py", tmp_path)
    done = run(tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_door_controller.py")
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_named_it_reads_and_labels_door_lines_of_syslog(tmp_path: Path) -> None:
    install(tmp_path)
    given = f"{GRANTED}\n<13>1 - - app - - - other\n<13>1 - - doors - - - DOOR is stuck\n{DENIED}\n"
    done = run(tmp_path, WEIR, "decode", "syslog", "--plugins", "door-controller", "--time-zone", "Europe/Helsinki", given=given)
    granted, other, denied = map(json.loads, done.stdout.splitlines())
    assert granted["dataset"] == denied["dataset"] == "authentication"
    assert granted["timestamp"] == "2024-03-01T10:00:00.000000Z"
    assert (granted["user_name"], granted["labels"]) == ("Petra Example", {"badge_colour": "red"})
    assert (denied["event_outcome"], denied["event_reason"], denied["labels"]) == (
        "failure",
        "out of hours",
        {"badge_colour": "blue"},
    )
    assert other["dataset"] == "syslog"
    assert "standard input line 3: plug-in door-controller: begins with DOOR" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", [(), ("--plugins", "")])
def test_installed_and_not_named_it_is_not_loaded(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    install(tmp_path)
    # An import would fail, and be seen.
    (tmp_path / "weir_door_controller.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    done = run(tmp_path, WEIR, "decode", "syslog", *arguments, given=GRANTED)
    assert json.loads(done.stdout)["dataset"] == "syslog"
    assert done.returncode == 0


def test_a_processor_says_at_start_which_plug_ins_it_loads_and_stops_where_one_is_not_there(tmp_path: Path) -> None:
    install(tmp_path)
    code = "from weir.processors.plugins import activate; import sys; activate(sys.argv[1])"
    done = run(tmp_path, sys.executable, "-c", code, "door-controller")
    assert done.returncode == 0
    said = done.stdout + done.stderr
    assert said.count("plug-in loaded") == 2
    assert "weir-door-controller" in said
    left = run(tmp_path, sys.executable, "-c", code, "")
    assert "not loaded" in left.stdout + left.stderr
    wrong = run(tmp_path, sys.executable, "-c", code, "door-contoller")
    assert "no plug-in 'door-contoller' is installed; there are: door-controller" in wrong.stderr


def test_its_package_can_be_built(tmp_path: Path) -> None:
    """pyproject.toml is what setuptools takes; only the metadata is made, which needs no network."""
    pytest.importorskip("setuptools", minversion="77")
    shutil.copytree(EXAMPLE, tmp_path / "package")
    code = "import setuptools.build_meta as b; print(b.prepare_metadata_for_build_wheel('.'))"
    done = run(tmp_path / "package", sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    made = next((tmp_path / "package").glob("*.dist-info"))
    assert "door-controller = weir_door_controller:reader" in (made / "entry_points.txt").read_text(encoding="utf-8")
