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
    decoder = Decoder(needs.templates, needs.samplings)
    for datagram in data.split(b"\xff\xfe\xfd\xfc"):
        try:
            decoder.decode(datagram)
        except FlowError:
            continue


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


def _read(data: bytes, log_path: str | None) -> None:
    """Each line, or block of lines, as the readers take it; what becomes of it has to fit its schema."""
    from weir.bus.codec import Encoder
    from weir.processors.fields import NOTHING, Context
    from weir.processors.readers import read_text
    from weir.protocols import snort

    context = Context(NOW_US, lambda local: local, log_path=log_path)
    common = {"event_id": "i", "event_created": NOW_US, "site": "s", "log_source_ip": "192.0.2.1"}
    where = {"raw_topic": "t", "raw_partition": 0, "raw_offset": 0}
    text = data.decode("utf-8", "replace")
    for unit in text.split("\n") if log_path is not None else snort.blocks(text):
        try:
            found = read_text(unit, context)
        except ValueError:
            continue
        if found is not None and found is not NOTHING:
            dataset, fields = found
            Encoder(dataset)({**common, **where, **fields})


def _zeek(data: bytes) -> None:
    _read(data, "/x/conn.log")


def _snort(data: bytes) -> None:
    _read(data, None)


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
    return [v5, v9, ipfix, v9 + b"\xff\xfe\xfd\xfc" + v9]


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


def _zeek_seeds() -> list[bytes]:
    head = b"#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    columns = b"#fields\tts\tuid\tid.orig_h\tid.orig_p\tproto\tduration\tconn_state\torig_ip_bytes\ttunnel_parents\tvlan\n"
    types = b"#types\ttime\tstring\taddr\tport\tenum\tinterval\tstring\tcount\tset[string]\tint\n"
    line = b"1379288667.706265\tC1\t192.0.2.1\t1032\ttcp\t0.447460\tSF\t1489\tC2,\\x2c\t-\n"
    known = b"1.5\tC1\t192.0.2.1\t1\t2001:db8::2\t2\ticmp\t-\t1.5\t-\t-\tS0\tT\tF\t0\tS\t1\t40\t0\t0\t(empty)\n"
    connection = b'"ts":1.5,"uid":"C1","id.orig_h":"192.0.2.1","id.orig_p":1,"id.resp_h":"192.0.2.2","id.resp_p":2'
    documents = [
        b'{%s,"conn_state":"SF","proto":"udp","duration":1e3,"orig_pkts":4}' % connection,
        b'{"_path":"dns",%s,"query":"x","answers":["a",1,null],"qtype_name":"A"}' % connection,
        b'{"notice":{"ts":"2026-01-02T03:04:05Z","note":"A::B","src":"192.0.2.1","p":80,"actions":["x"]}}',
        b'{"_path":"files","ts":1.5,"tx_hosts":["192.0.2.1"],"md5":"%s","total_bytes":7}' % (b"0" * 32),
    ]
    return [head + columns + types + line, known, b"\n".join(documents)]


def _snort_seeds() -> list[bytes]:
    flow = b"[Classification: Misc] [Priority: 2] {TCP} 2001:db8::1:68 -> 198.51.100.2:67"
    return [
        b"12/31-23:59:58.917356  [**] [1:527:8] <eth0> x [**] " + flow,
        b"[1:1000017:2] x " + flow,
        b"[**] [1:6:0] x [**]\n[Priority: 3] \n12/31-21:53:15.301504 0:C:29:1:2:3 -> 0:C:29:1:2:4 type:0x800 len:0x62\n"
        b"192.0.2.1:5 -> 192.0.2.2:22 TCP TTL:127 TOS:0x10 ID:6 IpLen:20 DgmLen:40 DF\n"
        b"***A**** Seq: 0x68940D74  Ack: 0xBC811F16  Win: 0x80E  TcpLen: 20\n[Xref => http://x/]\n",
        b'12/31/25-21:45:37.5 ,1,6,4,"TCP ""x""",TCP,192.0.2.1,57263,192.0.2.2,22,00:25:90:3A:05:13,,0x72,***AP***,,,,,127,,,,,8,0',
        b"12/31-21:37:16.428952, 5, TCP, raw, 99, C2S, 192.0.2.1:5, 2001:db8::1:6, 116:414:1, drop",
        b'{"seconds":1608147213,"timestamp":"12/16-20:33:33.6","rule":"1:2:3","msg":"x","src_ap":"192.0.2.1:5","priority":1,"vlan":7}',
    ]


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
    "zeek": Target(_zeek, _zeek_seeds, "weir.protocols.zeek"),
    "snort": Target(_snort, _snort_seeds, "weir.protocols.snort"),
    "framing": Target(_framing, _framing_seeds, "weir.protocols.framing"),
    "lumberjack": Target(_lumberjack, _lumberjack_seeds, "weir.protocols.lumberjack"),
    "netflow": Target(_netflow, _netflow_seeds, "weir.protocols.netflow"),
    "syslog": Target(
        _syslog, _lines("rfc5424.log", "rfc3164.log", "kemp-esp.cef", "vendor.cef", "qumulo-audit.csv"), "weir.protocols.syslog"
    ),
    "beats": Target(_beats, _lines("suricata-eve.ndjson", "sensorfleet.ndjson", "filebeat-syslog.ndjson"), "weir.protocols.beats"),
}
