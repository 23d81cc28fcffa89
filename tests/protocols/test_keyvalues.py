import pytest

from weir.protocols.keyvalues import address, hash_kind, integer, mac, port, transport, url_host


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", "192.0.2.1"), ("[2001:DB8:0::1]", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"), ("host", None), ("", None),
        ("192.0.2.256", None), ("1", None),
    ],
)  # fmt: skip
def test_addresses_are_canonical(text: str, found: str | None) -> None:
    assert address(text) == found


@pytest.mark.parametrize(("text", "found"), [("0", 0), ("65535", 65535), ("65536", None), ("-1", None), ("٤", None), ("", None)])
def test_ports(text: str, found: int | None) -> None:
    assert port(text) == found


def test_integers_fit_into_63_bits() -> None:
    assert integer("9223372036854775807") == 2**63 - 1
    assert integer("9223372036854775808") is None
    assert integer("1.5") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("00:50:56:f5:7f:47", "00-50-56-F5-7F-47"), ("0050.56f5.7f47", "00-50-56-F5-7F-47"), ("005056F57F47", "00-50-56-F5-7F-47"),
        ("00:50:56:f5:7f", None), ("00:50:56:f5:7f:zz", None),
    ],
)  # fmt: skip
def test_mac_addresses_have_hyphens_and_upper_case(text: str, found: str | None) -> None:
    assert mac(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("TCP", ("tcp", 6)), ("17", ("udp", 17)), ("ICMPv6", ("ipv6-icmp", 58)), ("250", ("250", 250)), ("256", None), ("HTTP", None)],
)
def test_transports_by_name_and_by_number(text: str, found: tuple[str, int] | None) -> None:
    assert transport(text) == found


def test_hashes_are_told_by_their_length() -> None:
    assert hash_kind("A" * 32) == ("md5", "a" * 32)
    assert hash_kind("0" * 40) == ("sha1", "0" * 40)
    assert hash_kind("f" * 64) == ("sha256", "f" * 64)
    assert hash_kind("g" * 32) is None
    assert hash_kind("a" * 31) is None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Mail.Example/owa?x=1", "mail.example"), ("http://u:p@[2001:db8::1]:80/", "2001:db8::1"), ("http://h:8080", "h"),
        ("//example/", None), ("example.com", None), ("http:///x", None), ("javascript:alert(1)//://x", None),
    ],
)  # fmt: skip
def test_host_of_a_url(url: str, host: str | None) -> None:
    assert url_host(url) == host
