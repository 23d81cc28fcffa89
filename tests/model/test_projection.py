"""Times and typed texts: what a row may hold, for any number and any text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.model import projection
from weir.model.projection import fit_text, iso_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59, 999_999)))  # noqa: DTZ001
@settings(max_examples=200)
def test_a_time_reads_back_as_the_same_microsecond(moment: datetime) -> None:
    text = iso_time((moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1))
    assert text is not None
    assert len(text) == 27
    assert datetime.fromisoformat(text) == moment.replace(tzinfo=UTC)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_long_is_a_time_or_none(micros: int) -> None:
    text = iso_time(micros)
    assert text is None or (len(text) == 27 and text.endswith("Z"))


def test_a_clock_that_runs_wild_does_not_fill_the_memory() -> None:
    for second in range(25_000):
        iso_time(second * 1_000_000)
    assert len(projection._SECONDS) <= projection._MAX_REMEMBERED
    assert len(projection._TIMES) <= projection._MAX_REMEMBERED


@given(st.sampled_from(["string", "int", "long", "real", "datetime"]), st.text())
@settings(max_examples=300)
def test_any_text_fits_or_does_not_without_an_error(kind: str, text: str) -> None:
    fit_text(kind, text)


def test_times_as_cef_writes_them() -> None:
    assert fit_text("datetime", "1700000000123") == "2023-11-14T22:13:20.123000Z"
    assert fit_text("datetime", "1700000000") == "2023-11-14T22:13:20.000000Z"
    assert fit_text("datetime", "170000000") is None
    assert fit_text("datetime", "Nov  4 2023 22:13:20") == "2023-11-04T22:13:20.000000Z"
    assert fit_text("datetime", "Nov 14 2023 22:13:20.5") is None
    assert fit_text("datetime", "Nov 14 2023 22:13:20.500 UTC") == "2023-11-14T22:13:20.500000Z"
    assert fit_text("datetime", "Feb 31 2023 00:00:00") is None
    assert fit_text("datetime", "Nov 14 22:13:20") is None


def test_numbers_outside_the_column_do_not_fit() -> None:
    assert fit_text("int", str(2**31)) is None
    assert fit_text("int", "-5") == -5
    assert fit_text("long", str(2**63)) is None
    assert fit_text("real", "inf") is None
    assert fit_text("int", "٣") is None
