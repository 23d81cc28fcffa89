"""Whatever is sent to the stand-ins, they answer or refuse; they never fall over, and what they keep can be read back."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weir.local.standins.dcr import Fitter, parse_rules
from weir.local.standins.kusto_commands import Catalogue
from weir.local.standins.kusto_ingest import IngestionError, Loader
from weir.local.standins.kusto_query import run_query
from weir.local.standins.kusto_wire import KustoError
from weir.local.standins.store import Store, parse_path

KINDS = ("string", "int", "long", "real", "boolean", "datetime", "dynamic")
RULES = {"dcrs": {"r": {"streams": {"Custom-X": {"columns": [{"name": f"c_{kind}", "type": kind} for kind in KINDS]}}}}}
RULES["dcrs"]["r"]["streams"]["Custom-X"]["columns"].append({"name": "TimeGenerated", "type": "datetime"})

NAMES = st.sampled_from([*(f"c_{kind}" for kind in KINDS), "TimeGenerated", "other"])
ZONES = [None, UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))]
TIMES = st.datetimes(timezones=st.sampled_from(ZONES)).map(datetime.isoformat)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | TIMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.dictionaries(NAMES, VALUES)


@given(st.lists(ROWS, max_size=5))
@settings(max_examples=80, deadline=None)
def test_any_row_is_fitted_to_its_declaration_and_every_loss_is_counted(rows: list[dict[str, object]]) -> None:
    fitter = Fitter(parse_rules(RULES)["r"]["Custom-X"])
    for row in orjson.loads(json.dumps(rows)):
        stored = orjson.loads(orjson.dumps(fitter.fit(row, datetime.now(UTC))))
        assert "other" not in stored
        assert stored["TimeGenerated"]
        lost = [name for name, value in row.items() if value is not None and stored.get(name) is None]
        assert set(lost) <= {*fitter.losses.misfits, *fitter.losses.dropped}
    assert fitter.losses.dropped["other"] == sum("other" in row for row in rows)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    made = Store()
    Catalogue(made, ["D"]).execute("D", ".create table T (EventId:string, n:long, d:dynamic)")
    yield made
    made.close()


WORDS = ["T", "|", "count", "take", "3", "project", "n", ",", "distinct", "top", "by", "//", ";", "="]
WORDS += ["summarize", "count()", "dcount(n)"]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=12).map(" ".join))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_is_answered_or_refused(store: Store, text: str) -> None:
    with contextlib.suppress(KustoError):
        run_query(store, "D", text)


COMMANDS = [".create", ".create-merge", ".alter", ".show", "table", "tables", "T", "t", "(a:string)", "(A:long,a:int)"]
COMMANDS += ["policy", "'x'", "```[]```", "<|", "details", "\n", "'[{}]'", "['x y']", ".execute database script"]
COMMANDS += [".create-or-alter table T ingestion json mapping 'm'"]
NUMBERS = itertools.count()


@given(st.lists(st.sampled_from(COMMANDS) | st.text(max_size=5), max_size=10).map(" ".join))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_command_is_run_or_refused(store: Store, text: str) -> None:
    database = f"N{next(NUMBERS)}"
    catalogue = Catalogue(store, [database])
    catalogue.execute(database, ".create table T (a:string)")
    with contextlib.suppress(KustoError):
        catalogue.execute(database, text)


@given(st.binary(max_size=200) | st.lists(VALUES, max_size=4).map(lambda rows: json.dumps(rows).encode()))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_blob_is_loaded_or_refused(store: Store, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "blob"
    path.write_bytes(content)
    catalogue = Catalogue(store, ["D"])
    with contextlib.suppress(IngestionError):
        assert Loader(store, catalogue).load("D", "T", path, "multijson", None) > 0
        assert store.rows("D", "T", 5)


def test_properties_that_differ_in_case_only_are_told_apart(store: Store, tmp_path: Path) -> None:
    catalogue = Catalogue(store, ["C"])
    catalogue.execute("C", ".create table T (a:string, b:string)")
    mapping = '[{"column":"a","path":"$.id"},{"column":"b","path":"$.ID"}]'
    catalogue.execute("C", f".create table T ingestion json mapping 'm' '{mapping}'")
    (tmp_path / "blob").write_text('{"id": "low", "ID": "high"}')
    Loader(store, catalogue).load("C", "T", tmp_path / "blob", "multijson", "m")
    assert store.rows("C", "T", 1) == [{"a": "low", "b": "high"}]


@pytest.mark.parametrize(
    ("path", "steps"),
    [("$", ()), ("$.a.b", ("a", "b")), ("$['a.b'][0].c", ("a.b", "0", "c")), ('$["it\'s"]', ("it's",))],
)
def test_json_paths_are_cut_into_steps(path: str, steps: tuple[str, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize("path", ["", "a.b", "$..a", "$.a[*]", "$.a[?(@.b)]", "$[-1]"])
def test_other_json_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="JSON path"):
        parse_path(path)
