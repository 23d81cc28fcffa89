"""The PROXY protocol, versions 1 and 2: who the sender is whose connection a balancer passes on.

Specification: `doc/proxy-protocol.txt` of HAProxy, sections 2.1 (text) and 2.2 (binary). The header stands before all else, also
before a TLS handshake; over UDP (version 2 only) it stands at the beginning of each datagram.

Whoever may send a header may claim any address. So it is read from balancers that are named, and refused from everyone else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

__all__ = ["MODES", "ProxyError", "ProxyHeader", "ProxyParser", "ProxyPolicy", "crc32c", "split_datagram"]

MODES: Final = ("off", "optional", "required")

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V1: Final = b"PROXY "
_V1_KINDS: Final = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN")
_V1_LONGEST: Final = 107
_V2_FIXED: Final = 16
_V2_LONGEST: Final = 16_384
"""Version 2 allows 65,551 bytes and means 536; certificates of clients passed on as TLVs may need some thousands."""

_CRC32C_TYPE: Final = 0x03
_ADDRESSES: Final = {1: (4, "!4s4sHH"), 2: (16, "!16s16sHH")}
_UNIX_BYTES: Final = 216


class ProxyError(ValueError):
    """Not a header that may be believed: close the connection. `reason` is one of a few short texts, fit for a metric."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class ProxyHeader(NamedTuple):
    """What a header says. Without addresses (LOCAL, UNKNOWN, AF_UNSPEC, AF_UNIX) the connection's own ones hold."""

    version: int
    source: str | None = None
    source_port: int | None = None
    destination: str | None = None
    destination_port: int | None = None


class ProxyParser:
    """Reads the header from the beginning of one connection, however its bytes come. Holds 16 KiB at most.

    Args:
        required: whether a connection without a header is an error; else it passes as it is.
        forbidden: whether a connection *with* a header is the error: its peer may not speak for others.
    """

    __slots__ = ("_held", "forbidden", "header", "required")

    def __init__(self, *, required: bool = False, forbidden: bool = False) -> None:
        self.required = required
        self.forbidden = forbidden
        self.header: ProxyHeader | None = None
        self._held = b""

    @property
    def waiting(self) -> bool:
        """Whether bytes have come that could still become a header."""
        return bool(self._held)

    def feed(self, data: bytes) -> bytes | None:
        """Take the next bytes; give those behind the header once it is whole (or there is none), until then None.

        Raises ProxyError where what comes is no valid header and must be one, or is one and must not be.
        """
        held = self._held + data
        if not held:
            return None
        if held[: len(_SIGNATURE)] == _SIGNATURE[: len(held)]:
            whole = self._binary(held)
        elif held[: len(_V1)] == _V1[: len(held)]:
            whole = self._text(held)
        else:
            whole = 0
            if self.required:
                raise ProxyError("proxy header missing", f"the connection begins with {held[:16]!r}")
        if whole is None:
            self._held = held
            return None
        self._held = b""
        return held[whole:]

    def _check_allowed(self) -> None:
        if self.forbidden:
            raise ProxyError("proxy header from an untrusted peer")

    def _binary(self, held: bytes) -> int | None:
        if len(held) < len(_SIGNATURE):
            return None
        self._check_allowed()
        if len(held) < _V2_FIXED:
            return None
        length = _V2_FIXED + int.from_bytes(held[14:16], "big")
        if length > _V2_LONGEST:
            raise ProxyError("proxy header invalid", f"version 2 header of {length} bytes, {_V2_LONGEST} are read")
        if len(held) < length:
            return None
        self.header = _version_2(held[:length])
        return length

    def _text(self, held: bytes) -> int | None:
        if not any(held[: len(kind)] == kind[: len(held)] for kind in _V1_KINDS):
            if self.required:
                raise ProxyError("proxy header invalid", f"{held[:16]!r} is no protocol of version 1")
            return 0  # a message that begins with this word
        if len(held) >= len(_V1_KINDS[0]):
            self._check_allowed()
        end = held.find(b"\r\n", 0, _V1_LONGEST)
        if held.find(b"\n", 0, _V1_LONGEST) >= 0 and held.find(b"\n") != end + 1:
            # "The receiver must not tolerate" it, section 2.1 says, and loggen sends it so.
            raise ProxyError("proxy header invalid", "its line ends in LF without CR")
        if end < 0:
            if len(held) >= _V1_LONGEST:
                raise ProxyError("proxy header invalid", f"no CRLF within {_V1_LONGEST} bytes")
            return None
        self.header = _version_1(held[:end])
        return end + 2


def split_datagram(data: bytes, *, required: bool = False) -> tuple[ProxyHeader | None, bytes]:
    """Header and payload of a datagram; only version 2 knows datagrams.

    Raises ProxyError where the header is invalid, or missing though `required`.
    """
    if not data.startswith(_SIGNATURE):
        if required:
            raise ProxyError("proxy header missing", f"the datagram begins with {data[:16]!r}")
        return None, data
    length = _V2_FIXED + int.from_bytes(data[14:16], "big")
    if len(data) < _V2_FIXED or len(data) < length:
        raise ProxyError("proxy header invalid", "the datagram ends within it")
    return _version_2(data[:length]), data[length:]


class ProxyPolicy:
    """Which peers send a header: "off" nobody (and nothing is looked for), "optional" balancers may, "required" all must.

    Args:
        mode: one of MODES.
        balancers: networks whose headers are believed, such as "10.0.0.0/8".

    Raises:
        ValueError: no such mode, no network, or a mode that needs balancers has none.
    """

    def __init__(self, mode: str = "off", balancers: Iterable[str] = ()) -> None:
        if mode not in MODES:
            raise ValueError(f"{mode!r} is none of {', '.join(MODES)}")
        self.mode = mode
        self.balancers: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(text, strict=False) for text in balancers)
        if mode != "off" and not self.balancers:
            raise ValueError(f"PROXY protocol {mode}, but no balancer is named whose header would be believed")
        self.trusts: Callable[[str], bool] = lru_cache(1_024)(self._trusts)
        """Whether a header of this address is believed. What is no IP address is not trusted."""

    def _trusts(self, peer: str) -> bool:
        if self.mode == "off":
            return False
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address.version == network.version and address in network for network in self.balancers)

    def datagram(self, peer: str, data: bytes) -> tuple[ProxyHeader | None, bytes]:
        """Header and payload of a datagram from this address. Raises ProxyError where it must not be taken."""
        if self.mode == "off":
            return None, data
        if self.trusts(peer):
            return split_datagram(data, required=self.mode == "required")
        if self.mode == "required":
            raise ProxyError("not a trusted balancer")
        if data.startswith(_SIGNATURE):
            raise ProxyError("proxy header from an untrusted peer")
        return None, data

    def parser(self, peer: str) -> ProxyParser | None:
        """What the beginning of a connection from this address goes through; None where nothing is looked for.

        Raises ProxyError where only balancers may connect and this is none.
        """
        if self.mode == "off":
            return None
        if self.trusts(peer):
            return ProxyParser(required=self.mode == "required")
        if self.mode == "required":
            raise ProxyError("not a trusted balancer")
        return ProxyParser(forbidden=True)


def _version_1(line: bytes) -> ProxyHeader:
    if line == _V1_KINDS[2] or line.startswith(_V1_KINDS[2] + b" "):
        return ProxyHeader(1)
    try:
        _, kind, *addresses, source_port, destination_port = line.decode("ascii").split(" ")
        make: type[IPv4Address | IPv6Address] = IPv4Address if kind == "TCP4" else IPv6Address
        # A zone means nothing here, and the specification knows none.
        source, destination = (_plain(make(address.partition("%")[0])) for address in addresses)
        return ProxyHeader(1, source, _port(source_port), destination, _port(destination_port))
    except ValueError as error:
        raise ProxyError("proxy header invalid", f"{line!r}: {error}") from error


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65_535 or (len(text) > 1 and text[0] == "0"):
        raise ValueError(f"{text!r} is no port")
    return int(text)


def _plain(address: IPv4Address | IPv6Address) -> str:
    """As text; an IPv4 address mapped into IPv6 as IPv4, as everywhere else a sender is named."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _version_2(header: bytes) -> ProxyHeader:
    version, command = header[12] >> 4, header[12] & 0x0F
    family, kind = header[13] >> 4, header[13] & 0x0F
    if version != 2 or command > 1:
        raise ProxyError("proxy header invalid", f"version {version}, command {command}")
    if command == 0:
        _check_tlvs(header, _V2_FIXED, lenient=True)
        return ProxyHeader(2)
    if family > 3 or kind > 2:
        raise ProxyError("proxy header invalid", f"address family {family}, protocol {kind}")
    if family not in _ADDRESSES or kind == 0:
        _check_tlvs(header, _V2_FIXED + (_UNIX_BYTES if family == 3 else 0), lenient=True)
        return ProxyHeader(2)
    size, form = _ADDRESSES[family]
    behind = _V2_FIXED + 2 * size + 4
    if len(header) < behind:
        raise ProxyError("proxy header invalid", f"{len(header)} bytes do not hold two addresses of family {family}")
    _check_tlvs(header, behind)
    source, destination, source_port, destination_port = struct.unpack_from(form, header, _V2_FIXED)
    return ProxyHeader(2, _plain(ip_address(source)), source_port, _plain(ip_address(destination)), destination_port)


def _check_tlvs(header: bytes, start: int, *, lenient: bool = False) -> None:
    """Walk the TLVs and compare the CRC32c where there is one. `lenient`: what is no TLV ends the walk, for headers whose
    addresses are not used and whose content is to be ignored (section 2.2)."""
    position = start
    while position < len(header):
        end = position + 3 + int.from_bytes(header[position + 1 : position + 3], "big")
        if position + 3 > len(header) or end > len(header):
            if lenient:
                return
            raise ProxyError("proxy header invalid", f"the TLV at byte {position} does not fit into the header")
        if header[position] == _CRC32C_TYPE and end - position == 7:
            wanted = int.from_bytes(header[position + 3 : end], "big")
            if crc32c(header[: position + 3] + bytes(4) + header[end:]) != wanted:
                raise ProxyError("proxy header checksum wrong")
            return
        position = end


@cache
def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901
        entries.append(value)
    return tuple(entries)


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC (RFC 9260, Appendix A)."""
    table = _table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
