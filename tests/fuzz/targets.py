"""What is fuzzed: each decoder and framer that reads bytes from the network, with what must hold for any bytes at all.

A target raises whatever it must not raise. What it documents to raise, it swallows. Imports are inside the targets, so that a
coverage tool can instrument them first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["TARGETS", "Target"]

NOW_US = 1_790_000_000_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """`run` takes any bytes; `seeds` are inputs worth changing; `module` is what has to be there."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    module: str

    @property
    def there(self) -> bool:
        """Whether its module exists."""
        return importlib.util.find_spec(self.module) is not None


def pieces(data: bytes) -> tuple[list[bytes], bytes]:
    """A split of the input that the input itself decides: its first byte gives the length of the pieces."""
    if not data:
        return [], b""
    step, rest = data[0] % 37 + 1, data[1:]
    return [rest[i : i + step] for i in range(0, len(rest), step)], rest


def _framing(data: bytes) -> None:
    from weir.protocols.framing import Frame, FramingError, SyslogFramer

    def all_of(parts: list[bytes]) -> tuple[list[Frame], bool]:
        framer = SyslogFramer(64)
        frames: list[Frame] = []
        for part in parts:
            try:
                frames += framer.feed(part)
            except FramingError as error:
                return frames + error.frames, True
        return frames + framer.finish(), False

    parts, whole = pieces(data)
    split, at_once = all_of(parts), all_of([whole])
    assert split == at_once, "what comes out depends on how the stream was split"
    # What lost its framing is kept by its own, larger limit.
    assert all(len(frame.data) <= 1024 and frame.original_length >= len(frame.data) for frame in split[0])


def _lumberjack(data: bytes) -> None:
    from weir.protocols.lumberjack import LumberjackError, LumberjackParser

    def all_of(parts: list[bytes]) -> tuple[list[object], bool]:
        parser = LumberjackParser(100, 65_536, 1_048_576)
        frames: list[object] = []
        try:
            for part in parts:
                frames += parser.feed(part)
                assert parser.buffered <= 2 * 1_048_576
        except LumberjackError:
            return frames, True
        return frames, False

    parts, whole = pieces(data)
    split, at_once = all_of(parts), all_of([whole])
    assert split[1] == at_once[1], "whether it is an error depends on how the stream was split"
    if not split[1]:
        assert split[0] == at_once[0], "what comes out depends on how the stream was split"


def _netflow(data: bytes) -> None:
    from weir.protocols.netflow import Decoder, FlowError, TemplateStore, scan

    store = TemplateStore()
    # Several datagrams in one input, so that templates, data and changes of templates meet.
    for datagram in data.split(b"\xff\xfe\xfd\xfc"):
        try:
            scan(datagram)
            store.learn(datagram)
            store.missing(datagram)
        except FlowError:
            continue
    needs = store.needs(data.split(b"\xff\xfe\xfd\xfc"))
    decoder = Decoder(needs.templates, needs.samplings, needs.names)
    for datagram in data.split(b"\xff\xfe\xfd\xfc"):
        try:
            decoder.decode(datagram)
        except FlowError:
            continue


def _yaf(data: bytes) -> None:
    from weir.processors.fields import Context, yaf

    yaf.line(data.decode("utf-8", "replace"), Context(NOW_US, lambda local: local))


def _syslog(data: bytes) -> None:
    from weir.model.batch import RawBatch
    from weir.processors.outcome import RawCoordinates
    from weir.processors.syslog import make_process

    units = data.split(b"\n")[:50]
    batch = RawBatch(bytes(16), "s", "r", "udp", "192.0.2.1", 5514, NOW_US, units)
    outcome = make_process()(batch, RawCoordinates("raw", 0, 0))
    events = sum(map(len, outcome.events.values()))
    assert events + outcome.units_empty + len({dead.unit_index for dead in outcome.dead}) >= len(units), "a unit left no trace"


def _beats(data: bytes) -> None:
    from weir.model.batch import RawBatch
    from weir.processors.beats import process
    from weir.processors.outcome import RawCoordinates

    units = data.split(b"\n")[:50]
    batch = RawBatch(bytes(16), "s", "r", "lumberjack", "192.0.2.1", 5044, NOW_US, units)
    outcome = process(batch, RawCoordinates("raw", 0, 0))
    events = sum(map(len, outcome.events.values()))
    assert events + outcome.units_empty + len({dead.unit_index for dead in outcome.dead}) >= len(units), "a unit left no trace"


def _proxy(data: bytes) -> None:
    from weir.protocols.proxy import ProxyError, ProxyHeader, ProxyParser

    def all_of(parts: list[bytes]) -> tuple[bytes, ProxyHeader | None, bool]:
        parser, rest, done = ProxyParser(), b"", False
        try:
            for part in parts:
                behind = part if done else parser.feed(part)
                if behind is not None:
                    done, rest = True, rest + behind
        except ProxyError:
            return b"", None, True
        return rest, parser.header, False

    parts, whole = pieces(data)
    assert all_of(parts) == all_of([whole]), "what comes out depends on how the stream was split"


def _ipfix_stream(data: bytes) -> None:
    from weir.protocols.netflow.stream import IpfixFramer, StreamError

    def all_of(parts: list[bytes]) -> tuple[list[bytes], bool]:
        framer = IpfixFramer()
        messages: list[bytes] = []
        for part in parts:
            try:
                messages += framer.feed(part)
            except StreamError as error:
                return messages + error.messages, True
            assert framer.held < 65_536
        return [*messages, framer.finish()], False

    parts, whole = pieces(data)
    assert all_of(parts) == all_of([whole]), "what comes out depends on how the stream was split"


def _sflow(data: bytes) -> None:
    from weir.protocols import sflow

    try:
        result = sflow.decode(data)
    except sflow.SflowError:
        return
    assert len(result.samples) <= sflow.MAX_SAMPLES


def _http_elements(data: bytes) -> None:
    import json

    from weir.protocols.elements import ElementError, cut_elements

    lines = bool(data[:1] < b"\x80")
    body = data[1:]
    try:
        elements = list(cut_elements(body, lines=lines, max_element_bytes=4_096))
    except ElementError:
        return
    assert all(isinstance(json.loads(element), dict) for element in elements)
    assert all(element in body for element in elements), "an element is not what was sent"


def _inflate(data: bytes) -> None:
    from weir.protocols.inflate import CODINGS, InflateError, Inflater

    parts, _ = pieces(data)
    for coding in CODINGS:
        inflater = Inflater(coding, 1_048_576)
        try:
            assert sum(len(piece) for part in parts for piece in inflater.feed(part)) <= 1_048_576
            inflater.end()
        except InflateError:
            continue


def _framing_seeds() -> list[bytes]:
    return [
        b"\x05<13>one\n<13>two\r\n<13>three\0",
        b"\x0311 <13>1 - - -7 <13>two",
        b"\x0970 <13>" + b"x" * 66 + b"5 <1>a",
        b"\x0111 <13>1 - - -\n7 <13>two\n",
    ]


def _lumberjack_seeds() -> list[bytes]:
    from weir.protocols.lumberjack import encode_batch

    documents = [b'{"message":"one"}', b'{"message":"two"}']
    return [b"\x11" + encode_batch(documents), b"\x03" + b"1W\0\0\0\1" + b"1D\0\0\0\1\0\0\0\1\0\0\0\1a\0\0\0\1b"]


def _netflow_seeds() -> list[bytes]:
    import struct

    v5 = struct.pack(">HHIIIIBBH", 5, 1, 1000, 1_700_000_000, 0, 1, 0, 0, 0) + bytes(range(48))
    template = struct.pack(">HHHH", 256, 3, 8, 4) + struct.pack(">HHHH", 12, 4, 1, 8)
    data = struct.pack(">HH", 256, 4 + 16) + bytes(16)
    v9 = struct.pack(">HHIIII", 9, 2, 1000, 1_700_000_000, 1, 7) + struct.pack(">HH", 0, 4 + len(template)) + template + data
    sets = struct.pack(">HH", 2, 4 + len(template)) + template + data
    ipfix = struct.pack(">HHIII", 10, 16 + len(sets), 1_700_000_000, 1, 7) + sets
    v7 = struct.pack(">HHIIIII", 7, 1, 1000, 1_700_000_000, 0, 1, 0) + bytes(range(52))
    # A list in a field (RFC 6313), a firewall's event, labels, an interface; and the name of that interface.
    specs = struct.pack(">14H", 258, 6, 291, 65535, 292, 65535, 233, 1, 70, 3, 10, 2, 351, 8)
    lists = b"\7\3\0\4\0\1\6\x11" + b"\6\4\1\0\0\0\1" + b"\3\0\0\x11\0\3" + bytes(8)
    names = struct.pack(">HHHHHHH", 259, 2, 1, 10, 2, 82, 4)
    sets = struct.pack(">HH", 2, 4 + len(specs)) + specs + struct.pack(">HH", 3, 4 + len(names)) + names
    sets += struct.pack(">HHH4s", 259, 10, 3, b"eth0") + struct.pack(">HH", 258, 4 + len(lists)) + lists
    rich = struct.pack(">HHIII", 10, 16 + len(sets), 1_700_000_000, 1, 7) + sets
    return [v5, v7, v9, ipfix, rich, v9 + b"\xff\xfe\xfd\xfc" + v9]


def _yaf_seeds() -> list[bytes]:
    times = b"2026-01-28 15:29:48.512|2026-01-28 15:29:49.012|   0.500|   0.012|  6|"
    return [times + b"192.0.2.10|51000|2001:db8::1|443|S|APF|AS|APF|22efa001|0000000a|00a|000|12|3400|9|9000|443|idle"]


def _proxy_seeds() -> list[bytes]:
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    return [
        b"\x05PROXY TCP4 192.0.2.1 198.51.100.1 40000 514\r\n<13>x\n",
        b"\x05PROXY TCP6 2001:db8::1 2001:db8::2 40000 514\r\n<13>x\n",
        b"\x05PROXY UNKNOWN\r\n<13>x\n",
        b"\x05" + signature + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 198, 51, 100, 1, 1, 2, 3, 4]) + b"<13>x\n",
        b"\x05" + signature + b"\x20\x00\x00\x00<13>x\n",
        b"\x05" + signature + b"\x21\x11\x00\x13" + bytes(12) + b"\x03\x00\x04\0\0\0\0<13>x\n",
    ]


def _sflow_seeds() -> list[bytes]:
    import struct

    packet = bytes(12) + b"\x08\x00" + struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 17, 0)
    packet += bytes([192, 0, 2, 1, 198, 51, 100, 1]) + struct.pack(">HHHH", 1, 9, 20, 0) + bytes(2)
    record = struct.pack(">IIIIII", 1, 16 + len(packet), 1, 64, 0, len(packet)) + packet
    sample = struct.pack(">IIIIIIII", 1, 1, 1, 1, 0, 1, 2, 1) + record
    header = struct.pack(">II", 5, 1) + bytes([192, 0, 2, 1]) + struct.pack(">III", 1, 1, 60_000)
    counters = struct.pack(">III", 1, 1, 1) + struct.pack(">II", 1, 88) + bytes(88)
    return [
        header + struct.pack(">III", 1, 1, len(sample)) + sample,
        header + struct.pack(">III", 1, 2, len(counters)) + counters,
    ]


def _elements_seeds() -> list[bytes]:
    return [b'\xf0[{"a":"\\"]}"},{"b":[1,{"c":null}]}]', b'\x00{"a":1}\n\n{"b":2}\r\n', b'\xf0 {"a":{"b":"\\u00e9"}} ']


def _inflate_seeds() -> list[bytes]:
    import gzip
    import zlib

    text = b'{"message":"' + b"x" * 200 + b'"}'
    return [b"\x07" + gzip.compress(text) * 2, b"\x07" + zlib.compress(text), b"\x07" + zlib.compress(text)[2:-4]]


def _lines(*names: str) -> Callable[[], list[bytes]]:
    def read() -> list[bytes]:
        from importlib.resources import files

        folder = files("weir.local") / "samples"
        return [line for name in names for line in (folder / name).read_bytes().splitlines()[:40] if line]

    return read


TARGETS: dict[str, Target] = {
    "proxy": Target(_proxy, _proxy_seeds, "weir.protocols.proxy"),
    "ipfix-stream": Target(_ipfix_stream, lambda: [b"\x05" + seed for seed in _netflow_seeds()], "weir.protocols.netflow.stream"),
    "sflow": Target(_sflow, _sflow_seeds, "weir.protocols.sflow"),
    "http-elements": Target(_http_elements, _elements_seeds, "weir.protocols.elements"),
    "inflate": Target(_inflate, _inflate_seeds, "weir.protocols.inflate"),
    "framing": Target(_framing, _framing_seeds, "weir.protocols.framing"),
    "lumberjack": Target(_lumberjack, _lumberjack_seeds, "weir.protocols.lumberjack"),
    "yaf": Target(_yaf, _yaf_seeds, "weir.protocols.yaf"),
    "netflow": Target(_netflow, _netflow_seeds, "weir.protocols.netflow"),
    "syslog": Target(
        _syslog, _lines("rfc5424.log", "rfc3164.log", "kemp-esp.cef", "vendor.cef", "qumulo-audit.csv"), "weir.protocols.syslog"
    ),
    "beats": Target(_beats, _lines("suricata-eve.ndjson", "sensorfleet.ndjson", "filebeat-syslog.ndjson"), "weir.protocols.beats"),
}
