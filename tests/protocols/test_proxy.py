import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.proxy import ProxyError, ProxyHeader, ProxyParser, ProxyPolicy, crc32c, split_datagram

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 40_000, 6514)
IPV6 = (
    bytes.fromhex("20010db8000000000000000000000007") + bytes.fromhex("20010db8000000000000000000000001") + struct.pack("!HH", 1, 2)
)


def version_2(addresses: bytes, *, command: int = 0x21, family: int = 0x11, tlvs: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) + len(tlvs)) + addresses + tlvs


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def checked(addresses: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """A header with a CRC32c among its TLVs."""
    blank = version_2(addresses, tlvs=before + tlv(3, bytes(4)) + behind)
    place = 16 + len(addresses) + len(before) + 3
    return blank[:place] + crc32c(blank).to_bytes(4, "big") + blank[place + 4 :]


def read(
    stream: bytes, *, step: int = 0, required: bool = True, forbidden: bool = False
) -> tuple[ProxyHeader | None, bytes | None]:
    """The header, and everything behind it."""
    parser = ProxyParser(required=required, forbidden=forbidden)
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)] if step else [stream]
    for number, piece in enumerate(pieces):
        rest = parser.feed(piece)
        if rest is not None:
            return parser.header, rest + b"".join(pieces[number + 1 :])
    return parser.header, None


def test_the_crc_is_castagnolis() -> None:
    """The check value that catalogues of CRCs give for CRC-32/ISCSI."""
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("step", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 6514\r\n", ProxyHeader(1, "192.0.2.7", 40_000, "198.51.100.1", 6514)),
        (b"PROXY TCP6 2001:db8::7 2001:DB8::1 1 65535\r\n", ProxyHeader(1, "2001:db8::7", 1, "2001:db8::1", 65_535)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", ProxyHeader(1, "192.0.2.7", 1, "::1", 2)),
        (b"PROXY UNKNOWN\r\n", ProxyHeader(1)),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", ProxyHeader(1)),
        (version_2(IPV4), ProxyHeader(2, "192.0.2.7", 40_000, "198.51.100.1", 6514)),
        (version_2(IPV4, family=0x12), ProxyHeader(2, "192.0.2.7", 40_000, "198.51.100.1", 6514)),
        (version_2(IPV6, family=0x21), ProxyHeader(2, "2001:db8::7", 1, "2001:db8::1", 2)),
        (version_2(IPV4, tlvs=tlv(4, b"padding") + tlv(0xE1, b"")), ProxyHeader(2, "192.0.2.7", 40_000, "198.51.100.1", 6514)),
        (checked(IPV4, tlv(4, b"x"), tlv(5, b"id")), ProxyHeader(2, "192.0.2.7", 40_000, "198.51.100.1", 6514)),
        (version_2(b"", command=0x20, family=0), ProxyHeader(2)),
        (version_2(IPV4, command=0x20), ProxyHeader(2)),
        (version_2(b"anything", family=0), ProxyHeader(2)),
        (version_2(bytes(216), family=0x31), ProxyHeader(2)),
    ],
)
def test_headers_of_both_versions_are_read_and_what_follows_is_left(header: bytes, expected: ProxyHeader, step: int) -> None:
    assert read(header + b"\x16\x03rest", step=step) == (expected, b"\x16\x03rest")


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"<13>no header", id="missing"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 6514\n", id="LF alone"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 6514\n\r\n", id="LF first"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * 100, id="107 bytes are the most"),
        pytest.param(b"PROXY TCP4 192.0.2.07 198.51.100.1 40000 6514\r\n", id="leading zero"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 040000 6514\r\n", id="leading zero in a port"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 6514\r\n", id="port"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 6514\r\n", id="signed port"),
        pytest.param(b"PROXY TCP4 2001:db8::7 198.51.100.1 1 6514\r\n", id="other family"),
        pytest.param(b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n", id="two spaces"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", id="port missing"),
        pytest.param(b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", id="version 1 knows TCP only"),
        pytest.param(SIGNATURE + b"\x31\x11\0\x0c" + IPV4, id="version 3"),
        pytest.param(version_2(IPV4, command=0x22), id="command 2"),
        pytest.param(version_2(IPV4, family=0x41), id="family 4"),
        pytest.param(version_2(IPV4, family=0x13), id="protocol 3"),
        pytest.param(version_2(IPV4[:-1]), id="too short for addresses"),
        pytest.param(version_2(IPV4, tlvs=b"\x04\0\x09x"), id="TLV beyond the end"),
        pytest.param(version_2(IPV4, tlvs=b"\x04\0"), id="half a TLV"),
        pytest.param(version_2(IPV4, tlvs=tlv(3, b"\1\2\3\4")), id="checksum"),
        pytest.param(SIGNATURE + b"\x21\x11\xff\xff", id="65,551 bytes"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_no_valid_header_is_an_error(bad: bytes, step: int) -> None:
    with pytest.raises(ProxyError):
        read(bad, step=step)


def test_one_bit_of_a_checked_header_is_noticed() -> None:
    header = bytearray(checked(IPV4))
    header[19] ^= 1
    with pytest.raises(ProxyError, match="checksum"):
        read(bytes(header))


@pytest.mark.parametrize("step", [0, 1])
def test_where_a_header_is_optional_other_beginnings_pass_untouched(step: int) -> None:
    for stream in (b"<13>PROXY\n", b"PROXYING\n", b"PROXY TCP is what we speak\n", b"\r\n<13>x\n", b"\r\n\r\n\x00x"):
        assert read(stream, step=step, required=False) == (None, stream)
    assert read(version_2(IPV4) + b"x", step=step, required=False)[1] == b"x"


@pytest.mark.parametrize("header", [version_2(IPV4), b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n", b"PROXY UNKNOWN\r\n"])
def test_a_header_that_must_not_be_is_an_error(header: bytes) -> None:
    with pytest.raises(ProxyError, match="untrusted"):
        read(header + b"<13>x\n", required=False, forbidden=True)
    assert read(b"<13>x\n", required=False, forbidden=True) == (None, b"<13>x\n")


class TestDatagrams:
    def test_header_and_payload_share_the_datagram(self) -> None:
        header, payload = split_datagram(version_2(IPV4, family=0x12) + b"<13>x")
        assert (header and header.source, payload) == ("192.0.2.7", b"<13>x")
        assert split_datagram(b"<13>x") == (None, b"<13>x")

    @pytest.mark.parametrize("bad", [version_2(IPV4)[:20], SIGNATURE, SIGNATURE + b"\x21"])
    def test_a_header_cut_short_is_an_error(self, bad: bytes) -> None:
        with pytest.raises(ProxyError):
            split_datagram(bad)
        with pytest.raises(ProxyError):
            split_datagram(b"<13>x", required=True)


class TestPolicy:
    def test_headers_are_believed_from_balancers_only(self) -> None:
        policy = ProxyPolicy("required", ["10.0.0.0/8", "2001:db8::/32"])
        assert policy.trusts("10.1.2.3")
        assert policy.trusts("2001:db8::9")
        assert not policy.trusts("192.0.2.1")
        assert not policy.trusts("no address")
        parser = policy.parser("10.1.2.3")
        assert parser is not None
        assert parser.required
        with pytest.raises(ProxyError, match="not a trusted balancer"):
            policy.parser("192.0.2.1")
        with pytest.raises(ProxyError, match="not a trusted balancer"):
            policy.datagram("192.0.2.1", b"<13>x")

    def test_optional_lets_others_in_but_not_their_headers(self) -> None:
        policy = ProxyPolicy("optional", ["10.0.0.0/8"])
        stranger, balancer = policy.parser("192.0.2.1"), policy.parser("10.0.0.1")
        assert stranger is not None
        assert balancer is not None
        assert (stranger.forbidden, balancer.forbidden, balancer.required) == (True, False, False)
        assert policy.datagram("192.0.2.1", b"<13>x") == (None, b"<13>x")
        with pytest.raises(ProxyError, match="untrusted"):
            policy.datagram("192.0.2.1", version_2(IPV4))
        assert policy.datagram("10.0.0.1", version_2(IPV4) + b"x")[1] == b"x"

    def test_off_looks_for_nothing(self) -> None:
        assert ProxyPolicy().parser("10.0.0.1") is None
        assert ProxyPolicy().datagram("10.0.0.1", version_2(IPV4)) == (None, version_2(IPV4))

    @pytest.mark.parametrize(("mode", "balancers"), [("maybe", ["10.0.0.0/8"]), ("optional", []), ("required", ["10.0.0.0/33"])])
    def test_a_policy_that_cannot_be_is_refused(self, mode: str, balancers: list[str]) -> None:
        with pytest.raises(ValueError, match=r"maybe|balancer|10\.0\.0\.0/33"):
            ProxyPolicy(mode, balancers)


BEGINNINGS = st.sampled_from(
    [b"", SIGNATURE, SIGNATURE[:7], b"PROXY ", b"PROXY TCP4 1.2.3.4 ", version_2(IPV4), checked(IPV4), b"<13>"]
)


@settings(max_examples=300)
@given(
    beginning=BEGINNINGS, garbage=st.binary(max_size=300), places=st.lists(st.integers(0, 400), max_size=10), required=st.booleans()
)
def test_any_bytes_give_the_same_however_they_are_split(
    beginning: bytes, garbage: bytes, places: list[int], required: bool
) -> None:
    """Header, rest or error; what is held stays bounded."""
    stream = beginning + garbage
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})

    def outcome(pieces: list[bytes]) -> tuple[ProxyHeader | None, bytes | None] | str:
        parser = ProxyParser(required=required)
        try:
            for number, piece in enumerate(pieces):
                if (rest := parser.feed(piece)) is not None:
                    return parser.header, rest + b"".join(pieces[number + 1 :])
                assert len(parser._held) <= 16_384
        except ProxyError as error:
            return error.reason
        return None, None

    assert outcome([stream[start:end] for start, end in itertools.pairwise(edges)]) == outcome([stream])


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_datagram_is_split_or_refused(data: bytes) -> None:
    for datagram in (data, SIGNATURE + data, SIGNATURE + b"\x21\x11" + data):
        try:
            _, payload = split_datagram(datagram)
        except ProxyError:
            continue
        assert datagram.endswith(payload)
