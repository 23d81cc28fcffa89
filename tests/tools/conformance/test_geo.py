"""MaxMind's own test databases say what the rows say that they were built from, and the broken ones are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.enrich.mmdb import write_mmdb
from weir.tools.conformance.geo import INNER, cases

CORPUS = Path(os.environ.get("WEIR_CORPUS") or Path(__file__).resolve().parents[3].parent / "shared" / "corpus")


def test_no_difference_in_the_corpus_is_without_a_reason() -> None:
    if not (CORPUS / "geo").is_dir():
        pytest.skip(f"no corpus at {CORPUS}")
    found = list(cases(CORPUS))
    assert [case for case in found if case.difference is not None and case.reason is None] == []
    assert len(found) >= 7_000
    assert len({case.name for case in found}) == len(found)


def test_a_database_that_differs_from_its_rows_or_is_broken_and_taken_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "geo" / "maxmind"
    (folder / "source-data").mkdir(parents=True)
    country = {"country": {"iso_code": "GB"}}
    write_mmdb(folder / "A.mmdb", {"198.51.100.0/24": country, "10.0.0.0/8": country})
    (folder / "source-data" / "A.json").write_text(
        '[{"::198.51.100.0/120": {"country": {"iso_code": "FR"}}}, {"10.0.0.0/8": {"country": {"iso_code": "GB"}}}]'
    )
    write_mmdb(folder / "B-Broken-1.mmdb", {"198.51.100.0/24": country})
    (folder / "C.mmdb").write_text("broken without saying so")
    found = {case.name: case for case in cases(tmp_path)}
    first = found["A.mmdb: ::c633:6400/120 at 198.51.100.0"]
    assert first.difference == "source_geo_country_iso_code: 'GB', expected 'FR'"
    assert first.reason is None
    assert found["A.mmdb: 10.0.0.0/8 at 10.0.0.0"].reason == INNER
    assert found["B-Broken-1.mmdb"].difference == "a broken database was taken"
    assert str(found["C.mmdb"].difference).startswith("refused: ")
