"""The catalogue of sources: what matches, what wins, and what is wrong with a file."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.model.sources import Catalogue, CatalogueError, KnownSource, duration_seconds, load_catalogue, network_of, read_catalogue

FULL = """
sources:
  - name: lb-1
    address: [192.0.2.10, "2001:db8::/64"]
    port: 5514
    transport: udp
    vendor: Kemp
    site: hki
    time_zone: Europe/Helsinki
    tenant: acme
    expected_silence: 5m
    copies: true
  - name: forwarder
    certificate_subject: ["CN=fw-*,O=Example", "CN=fw-main,O=Example"]
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(text, "s.yaml")
    return caught.value.mistakes


def name_of(found: KnownSource | None) -> str | None:
    return None if found is None else found.name


def test_an_entry_is_read_whole() -> None:
    first, second = read_catalogue(FULL).sources
    assert first == KnownSource(
        "lb-1",
        (ipaddress.ip_network("192.0.2.10/32"), ipaddress.ip_network("2001:db8::/64")),
        (5514,),
        ("udp",),
        (),
        "Kemp",
        "hki",
        "Europe/Helsinki",
        "acme",
        300,
        True,
        3,
    )
    assert second.subjects == ("CN=fw-*,O=Example", "CN=fw-main,O=Example")


def test_all_that_an_entry_names_must_match() -> None:
    catalogue = read_catalogue(FULL)
    assert name_of(catalogue.find("192.0.2.10", "udp", 5514)) == "lb-1"
    assert name_of(catalogue.find("2001:db8::7", "udp", 5514)) == "lb-1"
    assert name_of(catalogue.find("::ffff:192.0.2.10", "udp", 5514)) == "lb-1"
    assert catalogue.find("192.0.2.10", "tcp", 5514) is None
    assert catalogue.find("192.0.2.10", "udp", 514) is None
    assert catalogue.find("192.0.2.11", "udp", 5514) is None
    assert name_of(catalogue.find("192.0.2.10", None, None)) == "lb-1", "what is not known is not held against it"


def test_a_subject_matches_in_full_or_by_pattern_however_its_attributes_are_written() -> None:
    catalogue = read_catalogue(FULL)
    for subject in ("CN=fw-7,O=Example", "commonName=fw-7,organizationName=Example", "cn=FW-7,o=example"):
        assert name_of(catalogue.find("203.0.113.1", "tls", 6514, subject)) == "forwarder"
    assert catalogue.find("203.0.113.1", "tls", 6514, "CN=other,O=Example") is None
    assert catalogue.find("203.0.113.1", "tls", 6514) is None


def test_the_most_specific_entry_wins() -> None:
    catalogue = read_catalogue("""
sources:
  - {name: all, address: 10.0.0.0/8}
  - {name: net, address: 10.1.0.0/16}
  - {name: host, address: 10.1.2.3}
  - {name: by-port, address: 10.1.0.0/16, port: 6514}
  - {name: by-transport, address: 10.1.0.0/16, transport: tcp}
  - {name: by-pattern, address: 10.1.0.0/16, certificate_subject: "CN=*"}
  - {name: by-longer-pattern, address: 10.1.0.0/16, certificate_subject: "CN=a*"}
  - {name: by-subject, address: 10.1.0.0/16, certificate_subject: "CN=abc"}
  - {name: anywhere, port: 6514}
""")
    found = [
        name_of(catalogue.find(*sender))
        for sender in [
            ("10.9.9.9", "udp", 514, None),
            ("10.1.9.9", "udp", 514, None),
            ("10.1.2.3", "tls", 6514, "CN=abc"),
            ("10.1.9.9", "tcp", 6514, None),
            ("10.1.9.9", "tcp", 514, None),
            ("10.1.9.9", "tls", 6514, "CN=b"),
            ("10.1.9.9", "tls", 6514, "CN=ab"),
            ("10.1.9.9", "tls", 6514, "CN=abc"),
            ("203.0.113.1", "udp", 6514, None),
            ("not an address", "udp", 6514, None),
        ]
    ]
    assert found == [
        "all", "net", "host", "by-port", "by-transport", "by-pattern", "by-longer-pattern", "by-subject", "anywhere", "anywhere",
    ]  # fmt: skip


def test_bytes_that_broke_a_beats_connection_are_of_the_same_source() -> None:
    catalogue = read_catalogue("sources: [{name: b, transport: lumberjack}]")
    assert name_of(catalogue.find("192.0.2.1", "lumberjack-error", 5044)) == "b"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(16, 32)), min_size=1, max_size=25),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20),
)
def test_the_longest_prefix_is_found_as_by_looking_at_them_all(nets: list[tuple[int, int]], hosts: list[int]) -> None:
    base = 0x0A000000
    networks = {ipaddress.IPv4Network((base + number, length), strict=False) for number, length in nets}
    catalogue = Catalogue([KnownSource(str(network), (network,)) for network in networks])
    for host in hosts:
        address = ipaddress.IPv4Address(base + host)
        best = max((n for n in networks if address in n), key=lambda n: n.prefixlen, default=None)
        assert name_of(catalogue.find(str(address), "udp", 1)) == (None if best is None else str(best))


def test_every_mistake_is_named_with_its_line_and_a_way_out() -> None:
    found = mistakes("""sources:
  - name: a
    adress: 192.0.2.1
    port: 70000
  - name: b
    address: [192.0.2.1/24, 300.1.1.1]
    time_zone: Europe/Helsinky
    expected_silence: soon
  - address: 192.0.2.7
    transport: ucp
  - name: c
  - name: d
    address: 192.0.2.8
    copies: "yes"
  - 7
source: []
""")
    expected = [
        ("s.yaml:3: ", "'adress' is not a key", "did you mean address?"),
        ("s.yaml:4: ", "source 'a': port", "less than or equal to 65535"),
        ("s.yaml:6: ", "'192.0.2.1/24' is no address or CIDR range", "host bits"),
        ("s.yaml:6: ", "'300.1.1.1'", ""),
        ("s.yaml:7: ", "'Europe/Helsinky' is no IANA time zone", "did you mean Europe/Helsinki?"),
        ("s.yaml:8: ", "'soon' is no duration", "5m"),
        ("s.yaml:9: ", "'name' is missing", ""),
        ("s.yaml:10: ", "'ucp' is no transport", "did you mean udp?"),
        ("s.yaml:11: ", "source 'c': nothing to match it by", ""),
        ("s.yaml:14: ", "copies", "boolean"),
        ("s.yaml:15: ", "a source is a mapping", ""),
        ("s.yaml:16: ", "'source' is not a key", "did you mean sources?"),
    ]
    assert len(found) == len(expected), found
    for text, words in zip(found, expected, strict=True):
        assert text.startswith(words[0]), found
        assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "s.yaml:1: must hold a list under the key 'sources'"),
        ("[]", "must hold a list under the key 'sources'"),
        ("sources: {a: b}", "must hold a list under the key 'sources'"),
        ("sources:\n  - {name: a", "s.yaml:3: not YAML"),
        ("sources:\n- name: a\n  name: b\n  port: 1", "s.yaml:3: 'name' stands twice; first in line 2"),
        ("sources: [{name: a, port: 1}, {name: a, port: 2}]", "stands in line 1 already"),
        ("sources:\n- {name: a, address: [10.0.0.1, 10.0.0.2]}\n- {name: b, address: 10.0.0.2/32}", "s.yaml:3: source 'b' matches"),
        ("sources:\n- {name: a, certificate_subject: CN=x}\n- {name: b, certificate_subject: commonName=X}", "matches the same"),
        ("sources: [{name: a, port: 1, copies: 1}]", "boolean"),
        ("sources: [{name: a, port: 1, expected_silence: 0s}]", "no duration"),
        ("sources: [{name: a, port: 1, time_zone: ../etc/passwd}]", "no IANA time zone"),
        ("sources: &s [{name: a, port: 1, x: *s}]", "'x' is not a key"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: str, words: str) -> None:
    assert any(words in found for found in mistakes(text)), mistakes(text)


def test_a_thousand_mistakes_do_not_fill_a_screen() -> None:
    found = mistakes("sources:\n" + "".join(f"- {{name: n{i}}}\n" for i in range(1000)))
    assert len(found) == 51
    assert found[-1] == "s.yaml: and 950 more mistakes"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="No such file"):
        load_catalogue(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogueError, match="not UTF-8"):
        load_catalogue(tmp_path / "binary.yaml")


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=120))
def test_any_text_is_a_catalogue_or_a_list_of_mistakes(text: str) -> None:
    for candidate in (text, f"sources: [{text}]", f"sources:\n- name: a\n  port: {text}\n"):
        try:
            read_catalogue(candidate)
        except CatalogueError:
            continue


def test_durations() -> None:
    assert [duration_seconds(text) for text in ("90s", "5m", "2h", "1d", 7)] == [90, 300, 7200, 86_400, 7]
    for text in ("", "5", "-1s", "5 weeks", "1h30m", 0, -3, True):
        with pytest.raises(ValueError, match="no duration"):
            duration_seconds(text)


def test_ipv4_within_ipv6_is_ipv4() -> None:
    assert network_of("::ffff:10.0.0.0/104") == ipaddress.ip_network("10.0.0.0/8")
