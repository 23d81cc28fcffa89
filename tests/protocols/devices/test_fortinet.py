import pytest

from weir.protocols.devices.fortinet import event_time_us, read_fortinet


def test_pairs() -> None:
    assert read_fortinet('date=2024-05-01 time=10:00:00 devname="f w" logid="1" type="traffic" msg="a \\"b\\""') == {
        "date": "2024-05-01", "time": "10:00:00", "devname": "f w", "logid": "1", "type": "traffic", "msg": 'a "b"',
    }  # fmt: skip


@pytest.mark.parametrize("text", ["date=2024-05-01 time=10:00:00 type=x user=y", "a=1 b=2", "", "no pairs at all"])
def test_others_are_none(text: str) -> None:
    assert read_fortinet(text) is None


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1587226668", 1_587_226_668_000_000),
        ("1587226668123", 1_587_226_668_123_000),
        ("1587226668123456789", 1_587_226_668_123_456),
        ("12", None),
        ("x", None),
    ],
)
def test_the_digits_of_eventtime_tell_its_unit(text: str, micros: int | None) -> None:
    assert event_time_us(text) == micros
