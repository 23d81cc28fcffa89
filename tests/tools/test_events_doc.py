"""docs/events.md is what the code says, and what the code says is true of the samples."""

from __future__ import annotations

from pathlib import Path

import pytest

import weir.local
from weir.model.schemas import latest
from weir.model.topics import DATASETS
from weir.processors.plugins import WEIRS_OWN
from weir.tools.events_doc import ENRICHED, SAMPLES, events_markdown, filled_by

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
FOLDER = Path(weir.local.__path__[0]) / "samples"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, set[str]]]:
    return filled_by(FOLDER)


def rows(dataset: str) -> dict[str, list[str]]:
    """Cells of the page's table for a dataset, by field."""
    part = PAGE.read_text(encoding="utf-8").partition(f"\n## {dataset}\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row] for row in cells}


def test_the_page_is_what_the_command_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == events_markdown(FOLDER), "run: make docs"


def test_every_sample_is_used() -> None:
    assert set(SAMPLES) == {path.name for path in FOLDER.iterdir()} - {"README.md"}


def test_every_dataset_has_a_sample(found: dict[str, dict[str, set[str]]]) -> None:
    assert [dataset for dataset in DATASETS if not found[dataset][""]] == []


def test_samples_fill_fields_of_the_schema_alone(found: dict[str, dict[str, set[str]]]) -> None:
    for dataset in DATASETS:
        known = {field["name"] for field in latest(dataset).parsed["fields"]}
        assert set(found[dataset]) - {""} - known == set()


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_field_has_a_row_with_what_the_schema_says(dataset: str) -> None:
    shown = rows(dataset)
    fields = latest(dataset).parsed["fields"]
    assert list(shown) == [field["name"] for field in fields]
    for field in fields:
        row = shown[field["name"]]
        assert field["doc"] in row[2].replace("\\|", "|")
        assert field.get("ecs", "") in row[3]


def test_the_page_says_who_fills_a_field(found: dict[str, dict[str, set[str]]]) -> None:
    flows = rows("network-flow")
    assert flows["source_ip"][5] == "all"
    assert flows["event_id"][5] == "Weir"
    assert flows["source_geo_city_name"][5] == "enrichment"
    assert "netflow-v9" in flows["source_nat_ip"][5]
    assert "sflow" not in flows["event_start"][5]
    assert found["network-flow"]["source_nat_ip"] <= found["network-flow"][""]
    assert rows("file-audit")["file_path"][5] == "qumulo.audit"
    assert rows("network-flow")["source_ip"][4].startswith("SrcIpAddr")


def test_what_is_called_enriched_is_in_the_schemas_and_enough(found: dict[str, dict[str, set[str]]]) -> None:
    names = {field["name"] for dataset in DATASETS for field in latest(dataset).parsed["fields"]}
    enriched = {name for name in names if ENRICHED.fullmatch(name)}
    assert len(enriched) > 30
    assert not enriched & WEIRS_OWN
