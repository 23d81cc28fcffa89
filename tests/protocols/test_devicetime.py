import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.devicetime import parse, parse_pattern, zone_offset

RECEIVED = 1_790_000_000_000_000  # 2026-09-21 14:13:20


def micros(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("text", "moment", "zoned"),
    [
        ("1459517280", "2016-04-01 13:28:00", True),
        ("1459517280810", "2016-04-01 13:28:00.810", True),
        ("1459517280810123", "2016-04-01 13:28:00.810123", True),
        ("1459517280.5", "2016-04-01 13:28:00.500", True),
        ("Sep 01 2026 14:13:20", "2026-09-01 14:13:20", False),
        ("Sep 1 2026 14:13:20.123", "2026-09-01 14:13:20.123", False),
        ("Sep  1 2026 14:13:20", "2026-09-01 14:13:20", False),
        ("May 1 2016 09:29:11.356 -0400", "2016-05-01 13:29:11.356", True),
        ("Feb 09 2015 00:27:43 UTC", "2015-02-09 00:27:43", True),
        ("Feb 09 2015 00:27:43 EEST", "2015-02-08 21:27:43", True),
        ("Oct 12 2016 07:42:29 GMT+02:00", "2016-10-12 05:42:29", True),
        ("Feb 09 2015 00:27:43 IST", "2015-02-09 00:27:43", False),
        ("31 March 2016 13:04:55", "2016-03-31 13:04:55", False),
        ("Mon Sep 21 14:13:20 CEST 2026", "2026-09-21 12:13:20", True),
        ("2016-05-01T09:29:11.356-04:00", "2016-05-01 13:29:11.356", True),
        ("2016/05/01 09:29:11", "2016-05-01 09:29:11", False),
        # Without a year: the latest that is not more than 26 hours ahead.
        ("Sep 21 14:13:20", "2026-09-21 14:13:20", False),
        ("Sep 22 14:13:20", "2026-09-22 14:13:20", False),
        ("Sep 26 14:13:20.5", "2025-09-26 14:13:20.5", False),
        ("Feb 29 00:00:00", "2024-02-29 00:00:00", False),
    ],
)
def test_times_as_devices_write_them(text: str, moment: str, zoned: bool) -> None:
    assert parse(text, RECEIVED) == (micros(moment), zoned)


@pytest.mark.parametrize(
    "text", ["", "1", "14:13:20", "Feb 30 2015 00:00:00", "Foo 01 2015 00:00:00", "Jan 01 2015 25:00:00", "x" * 5000, "٠" * 13]
)
def test_anything_else_is_no_time(text: str) -> None:
    assert parse(text, RECEIVED) is None


@pytest.mark.parametrize(
    ("text", "pattern", "moment", "zoned"),
    [
        ("2016-05-01 09:29:11.356 UTC", "yyyy-MM-dd HH:mm:ss.SSS zzz", "2016-05-01 09:29:11.356", True),
        ("2016-05-01T09:29:11+0200", "yyyy-MM-dd'T'HH:mm:ssZ", "2016-05-01 07:29:11", True),
        ("2016-05-01T09:29:11Z", "yyyy-MM-dd'T'HH:mm:ssX", "2016-05-01 09:29:11", True),
        ("May 01 09:29:11.5", "MMM dd HH:mm:ss.SSS", "2026-05-01 09:29:11.005", False),
        ("01/05/16 9:29 PM", "dd/MM/yy h:mm a", "2016-05-01 21:29:00", False),
        ("12:05 AM 1 May 2016", "hh:mm a d MMMM yyyy", "2016-05-01 00:05:00", False),
        ("20160501092911", "yyyyMMddHHmmss", "2016-05-01 09:29:11", False),
        ("Sun, 1 May 2016 09:29:11 EST", "EEE, d MMM yyyy HH:mm:ss z", "2016-05-01 14:29:11", True),
        ("on 2016-05-01 at 9 o'clock", "'on 'yyyy-MM-dd' at 'H' o''clock'", "2016-05-01 09:00:00", False),
    ],
)
def test_patterns_of_java(text: str, pattern: str, moment: str, zoned: bool) -> None:
    assert parse_pattern(text, pattern, RECEIVED) == (micros(moment), zoned)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("2016-05-01", "MM/dd/yyyy"), ("2016", "yyyy-GG"), ("2016 2016", "yyyy yyyy"), ("x", "'"), ("", "y" * 65), ("x" * 65, "E"),
        ("2016-13-01", "yyyy-MM-dd"), ("Foo 2016", "MMM yyyy"),
    ],
)  # fmt: skip
def test_what_does_not_fit_its_pattern_or_cannot_be_read_is_none(text: str, pattern: str) -> None:
    assert parse_pattern(text, pattern, RECEIVED) is None


@pytest.mark.parametrize(
    ("text", "hours"), [("Z", 0), ("+02:00", 2), ("-0530", -5.5), ("GMT+2", 2), ("cest", 2), ("PST", -8), ("IST", None), ("", None)]
)
def test_zone_offset(text: str, hours: float | None) -> None:
    assert zone_offset(text) == (None if hours is None else hours * 3_600_000_000)


@settings(max_examples=150)
@given(
    st.text(st.sampled_from("Sep 21026-T:.+Z/'ahMdyES"), max_size=70), st.text(st.sampled_from("yMdHhmsSaEzZX' :-.u"), max_size=70)
)
def test_any_text_and_any_pattern_is_read_or_not(text: str, pattern: str) -> None:
    parse(text, RECEIVED)
    parse_pattern(text, pattern, RECEIVED)


def test_hostile_patterns_cost_little() -> None:
    began = time.perf_counter()
    for number in range(200):
        parse_pattern("1" * 64, f"yyMdHkms{'S' * (number % 8)}'{number}'", RECEIVED)
        parse_pattern("a" * 64, "E'a'" * 16, RECEIVED)
    assert time.perf_counter() - began < 2
