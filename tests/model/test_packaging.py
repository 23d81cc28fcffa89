"""An installed Weir finds its schemas, mappings, rules and samples without the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
from pathlib import Path
import weir
from weir.detect.reading.loading import load_rules
from weir.model.mappings import projection
from weir.model.schemas import catalogue, schemas_dir
home = Path(weir.__file__).parent
assert schemas_dir() == home / "schemas", schemas_dir()
assert catalogue() and projection("sentinel", "events.cef").columns and load_rules().correlations
assert list((home / "local" / "samples").glob("*.ndjson"))
print("found", home)
"""


def test_the_wheel_holds_all_it_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("weir-*.whl")
    home = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    # Isolated from the checkout, which is installed in this environment in editable form: the copy comes first on the path.
    code = f"import sys; sys.path.insert(0, {str(home)!r})\n" + CODE
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"found {home}" in done.stdout
