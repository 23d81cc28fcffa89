"""Places and AS numbers out of MaxMind DB files of every shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.enrich.mmdb import write_mmdb
from weir.enrich.addresses import parse_address
from weir.enrich.geo import GeoDatabase, Place, place_of
from weir.enrich.rows import TableError

OXFORD = {
    "city": {"names": {"de": "Oxford (de)", "en": "Oxford"}},
    "country": {"iso_code": "GB"},
    "location": {"latitude": 51.75, "longitude": -1.25},
    "subdivisions": [{"iso_code": "ENG"}, {"iso_code": "OXF"}],
}


def find(database: GeoDatabase, text: str) -> Place | None:
    address = parse_address(text)
    assert address is not None
    return database.find(address)


def test_a_city_file_says_country_region_city_and_place(tmp_path: Path) -> None:
    database = GeoDatabase(
        write_mmdb(tmp_path / "city.mmdb", {"198.51.100.0/24": OXFORD, "2001:db8::/32": {"country": {"iso_code": "DE"}}})
    )
    assert find(database, "198.51.100.9") == Place("GB", "GB-ENG", "Oxford", "51.75,-1.25")
    assert find(database, "2001:db8::1") == Place("DE")
    assert find(database, "198.51.101.9") is None
    assert database.failures == 0


@pytest.mark.parametrize(
    "record",
    [
        {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"},
        {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net", "isp": "x", "organization": "y"},
        {"traits": {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net", "isp": "x"}},
    ],
    ids=["ASN", "ISP", "Enterprise"],
)
def test_the_as_is_found_in_every_shape(tmp_path: Path, record: dict[str, Any]) -> None:
    database = GeoDatabase(write_mmdb(tmp_path / "as.mmdb", {"198.51.100.0/24": record}, ip_version=4))
    assert find(database, "198.51.100.1") == Place(as_number=64500, as_organization="Example Net")
    assert find(database, "2001:db8::1") is None  # a file of IPv4 alone


def test_two_files_fill_each_other_but_halves_are_not_mixed() -> None:
    city, system = Place("GB", None, None, None), Place("FR", "FR-IDF", "Paris", "48.9,2.3", 64500, "Net")
    assert city.filled_by(system) == Place("GB", None, None, None, 64500, "Net")
    assert Place().filled_by(system) == system


@pytest.mark.parametrize("content", [b"", b"no database", b"\xab\xcd\xefMaxMind.com\xe0"], ids=["empty", "text", "no metadata"])
def test_what_is_no_database_is_refused_by_its_own_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mmdb"
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"broken\.mmdb: not a usable MaxMind DB") as raised:
        GeoDatabase(path)
    assert "weir-" not in str(raised.value)  # the private copy's name


def test_a_file_with_a_broken_record_is_refused(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"198.51.100.0/24": OXFORD})
    content = path.read_bytes()
    at = content.index(b"latitude") + len(b"latitude")
    path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    with pytest.raises(TableError, match=r"city\.mmdb"):
        GeoDatabase(path)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none\.mmdb"):
        GeoDatabase(tmp_path / "none.mmdb")


def test_a_file_overwritten_in_place_does_not_disturb_who_has_it_open(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "city.mmdb", {"198.51.100.0/24": OXFORD})
    database = GeoDatabase(path)
    path.write_bytes(b"")
    place = find(database, "198.51.100.1")
    assert place is not None
    assert place.city_name == "Oxford"


TEXT = st.text("aé\u4e00\x00", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "country",
        "city",
        "location",
        "subdivisions",
        "traits",
        "iso_code",
        "names",
        "latitude",
        "longitude",
        "autonomous_system_number",
    ]
)


@settings(max_examples=100)
@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=4), max_size=6))
def test_a_record_of_any_shape_is_read_without_an_error(record: dict[str, Any]) -> None:
    place = place_of(record)
    for part in place or ():
        assert part is None or isinstance(part, (str, int))
