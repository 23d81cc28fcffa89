"""What is fuzzed: each decoder and framer that reads bytes from the network, with what must hold for any bytes at all.

A target raises whatever it must not raise. What it documents to raise, it swallows. Imports are inside the targets, so that a
coverage tool can instrument them first.
"""

from __future__ import annotations

import functools
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


def _devices(data: bytes) -> None:
    """Not by way of the processor, which would take a ValueError for a dead line: no line is dead for what its maker writes."""
    from weir.processors.fields import Context
    from weir.processors.fields.syslog import message_fields
    from weir.protocols import syslog

    for unit in data.split(b"\n")[:50]:
        message = syslog.parse(unit, received_us=NOW_US)
        fields = message_fields(message, Context(NOW_US, lambda local: local))
        repr(fields).encode()


def _device_seeds() -> list[bytes]:
    """What makers of devices put behind a header, in forms of their own."""
    return [
        b"<189>29: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured from console by admin on vty0 (192.0.2.1)",
        b"<166>Jul 06 2024 08:52:35 fw : %ASA-6-302013: Built outbound TCP connection 7 for out:192.0.2.1/1 (192.0.2.1/1) to "
        b"in:10.0.0.1/2 (203.0.113.9/2) (u)",
        b"<113>%FTD-1-430003: AccessControlRuleAction: Block, SrcIP: 192.0.2.1, URL: http://x/a, b",
        b'<189>date=2024-05-11 time=10:14:15 devname="fw" devid="FG1" logid="1" type="traffic" tz="-0500" srcip=192.0.2.1',
        b'<14>May 11 10:14:16 fw 1,2024/05/11 10:14:16,1,THREAT,url,1,2024/05/11 10:14:15,192.0.2.1,192.0.2.2,,,"r, s",AD\\u',
        b"<14>May 11 10:14:16 srx RT_FLOW: RT_FLOW_SESSION_DENY: session denied 192.0.2.1/1->192.0.2.2/2 None 6(0) p in out",
        b'<14>1 2024-05-11T10:14:16Z srx RT_FLOW - RT_FLOW_SESSION_CLOSE [junos@2636.1.1.1.2.40 source-address="192.0.2.1"] x',
        b"May 11 10:14:16 h sshd[7]: Failed password for invalid user u from 192.0.2.1 port 22 ssh2",
        b"May 11 10:14:16 h sudo:    u : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls ; x",
    ]


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


_ODD = (
    None,
    True,
    -1,
    0,
    2**63,
    1.5,
    "",
    "-",
    "0x",
    "::1",
    "999",
    [],
    {},
    ["a", 5, None],
    {"a": {"b": []}},
    "\ud7ff\U0010ffff" * 3,
)


@functools.cache
def _encoder(dataset: str) -> Callable[[dict[str, object]], bytes]:
    from weir.bus.codec import Encoder

    return Encoder(dataset)


def _documents(data: bytes) -> None:
    """Documents whose values are exchanged for odd ones, and for each other's: three bytes an exchange."""
    import copy
    import json
    from typing import Any

    from weir.model.batch import RawBatch
    from weir.model.schemas import latest
    from weir.processors.beats import process
    from weir.processors.outcome import RawCoordinates

    if not data:
        return
    document = copy.deepcopy(_DOCUMENTS[data[0] % len(_DOCUMENTS)])
    for at in range(1, min(len(data), 100) - 2, 3):
        places: list[tuple[Any, Any]] = []
        rest: list[Any] = [document]
        while rest and len(places) < 256:
            node = rest.pop()
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                places.append((node, key))
                if isinstance(value, dict | list):
                    rest.append(value)
        if not places:
            break
        (node, key), (other, name) = places[data[at] % len(places)], places[data[at + 1] % len(places)]
        node[key] = copy.deepcopy(_ODD[data[at + 2] % len(_ODD)] if data[at + 2] < 200 else other[name])
        if len(str(document)) > 10_000:
            break
    unit = json.dumps(document).encode()  # which writes also what is nested deeper than orjson can
    outcome = process(RawBatch(bytes(16), "s", "r", "lumberjack", "192.0.2.1", 5044, NOW_US, [unit]), RawCoordinates("raw", 0, 0))
    assert sum(map(len, outcome.events.values())) + len(outcome.dead) == 1, "a document left no trace, or two"
    for dataset, records in outcome.events.items():
        columns = {field["name"] for field in latest(dataset).parsed["fields"]}
        assert records[0].keys() <= columns, records[0].keys() - columns
        _encoder(dataset)(records[0])


_AUDIT = "Microsoft-Windows-Security-Auditing"
_DOCUMENTS: list[dict[str, object]] = [
    {
        "@timestamp": "2024-03-01T12:00:00Z", "message": "m", "tags": ["t"],
        "winlog": {
            "event_id": 4625, "channel": "Security", "provider_name": _AUDIT, "keywords": ["Audit Failure"],
            "event_data": {
                "TargetUserName": "a@R", "IpAddress": "::ffff:192.0.2.1", "IpPort": "5", "LogonType": "3", "Status": "0xc000006d",
                "SubStatus": "0x0", "ProcessName": "C:\\x\\y.exe", "WorkstationName": "W",
            },
        },
    },
    {
        "Event": {
            "System": {
                "EventID": {"#text": "4648"}, "Channel": "Security", "TimeCreated": {"@SystemTime": "2024-03-01T12:00:00Z"},
            },
            "EventData": {"Data": [{"@Name": "TargetUserName", "#text": "x"}, {"@Name": "SubjectUserName", "#text": "y"}]},
        }
    },
    {"EventID": 4776, "Channel": "Security", "Keywords": -9218868437227405312, "EventTime": "2024-03-01 12:00:00", "Status": "0x0"},
    {
        "netflow": {
            "type": "netflow_flow", "source_ipv4_address": "192.0.2.1", "octet_delta_count": 5, "flow_start_sys_up_time": 3,
            "exporter": {"address": "192.0.2.1:5", "version": 9, "uptime_millis": 9, "timestamp": "2024-03-01T12:00:00Z"},
            "flow_id": 1, "icmp_type_code_ipv4": 2048, "responder_octets": 7, "sampling_interval": 10,
        },
        "event": {"start": "2024-03-01T12:00:00Z"},
    },
    {
        "source_sensor": "s", "source_instrument": "i", "uuid": "u", "type": "t", "timestamp": 1.5,
        "data": {
            "timestamp": "2024-03-01T12:00:00Z", "flow_id": 1, "event_type": "alert", "direction": "to_client",
            "alert": {"signature_id": 1, "metadata": {"mitre_technique_id": ["T1059_001"]}}, "files": [{"filename": "/a/b"}],
            "flow": {"bytes_toserver": 1, "start": "2024-03-01T12:00:00Z"}, "dns": {"answers": [{"rdata": "a"}]},
        },
    },
    {
        "suricata": {"eve": {"event_type": "dns", "flow_id": 1, "dns": {"type": "query"}}}, "@timestamp": "2024-03-01T12:00:00Z",
        "source": {"address": "192.0.2.1", "port": 1}, "zeek": {"session_id": "C1", "connection": {"state": "SF"}},
        "event": {"original": "x"},
    },
    {
        "log": {"file": {"path": "/x"}, "offset": 1, "syslog": {"priority": 13}}, "source.ip": "192.0.2.1", "labels": {"a": 1},
        "event": {"module": "system", "category": ["a"], "timezone": "+02:00"}, "host": {"name": "h"},
        "message": "Mar  1 12:00:02 db02 sshd[811]: Accepted",
    },
]  # fmt: skip


def _document_fuzz_seeds() -> list[bytes]:
    return [bytes([number]) + bytes(range(number, number + 60)) for number in range(len(_DOCUMENTS))]


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


def _leef(data: bytes) -> None:
    from weir.protocols.leef import LeefError, parse

    text = "LEEF:" + data.decode("utf-8", "replace")
    try:
        event = parse(text)
    except LeefError:
        return
    assert all(key in text for key in event.attributes), "a key that was not sent"


def _cef(data: bytes) -> None:
    from weir.processors.fields import Context
    from weir.processors.fields.cef import line

    text = "CEF:" + data.decode("utf-8", "replace")
    try:
        found = line(text, Context(NOW_US, lambda local: local))
    except ValueError:
        return
    if found is not None:
        assert all(f"{key}=" in text for key in found[1]["cef_extensions"]), "a key that was not sent"


def _kemp_logs(data: bytes) -> None:
    from weir.protocols.kemp_logs import parse_layer7, parse_waf

    text = data.decode("utf-8", "replace")
    parse_layer7(text)
    parse_waf(text)


def _qumulo_json(data: bytes) -> None:
    from weir.protocols.qumulo import QumuloError, parse

    try:
        audit = parse("{" + data.decode("utf-8", "replace"))
    except QumuloError:
        return
    str(audit).encode()


def _device_times(data: bytes) -> None:
    from weir.protocols.devicetime import parse, parse_pattern

    text, _, pattern = data.decode("utf-8", "replace").partition("\n")
    parse(text, NOW_US)
    parse_pattern(text, pattern, NOW_US)


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


def _capture(data: bytes) -> None:
    from weir.protocols.capture import MAX_AHEAD_BYTES, Carrier
    from weir.protocols.pcap import CapturedPacket, PcapError, PcapParser

    def all_of(parts: list[bytes]) -> list[CapturedPacket]:
        parser, packets = PcapParser(), []
        try:
            for part in parts:
                packets += parser.feed(part)
            parser.finish()
        except PcapError:
            pass
        return packets

    parts, whole = pieces(data)
    at_once = all_of([whole])
    assert all_of(parts)[: len(at_once)] == at_once, "what comes out depends on how the file was split"
    carrier = Carrier()
    carried = [one for packet in at_once for one in carrier.packet(packet)] + [*carrier.finish()]
    assert sum(len(one.data) for one in carried) <= len(whole) + MAX_AHEAD_BYTES


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


def _leef_seeds() -> list[bytes]:
    return [
        b"1.0|Microsoft|MSExchange|4.0 SP1|15345|src=192.0.2.0\tdst=192.0.2.1\tsev=5 cn1=3\tcat=anomaly",
        b"2.0|Vendor|Product|1|41|x5E|src=192.0.2.0^usrName=joe^devTime=Sep 21 2026 14:13:20^msg=a=b",
        b"2.0|Vendor|Product|1|41|a=1#011b=2 c=3",
    ]


def _qumulo_json_seeds() -> list[bytes]:
    return [
        b'"user_id": {"sid": "S-1-5-2", "name": "AD\\alice"}, "user_ip": "192.0.2.1", "protocol": "api", "operation": "x", '
        b'"status": "ok"}',
        b'"ip_address": "192.0.2.1", "user": "n", "protocol": "smb", "operation": "x", "result": "ok", "object_id": '
        b"12345678901234567890}",
    ]


def _kemp_log_seeds() -> list[bytes]:
    return [
        b"L7: ffff88806f5ba040: SSL accept on 10.1.1.1:443 from 192.0.2.7:30339",
        b"10.1.1.1:443 (10.2.2.2:80) User nora requested GET https://m.example/ Mozilla/5.0",
        b'[client 192.0.2.9] ModSecurity: Access denied with code 403. [id "9"] [msg "a \\"b\\""] [tag "t"]',
    ]


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


def _capture_seeds() -> list[bytes]:
    from tests.protocols.capture_files import ethernet, fragments, ip, pcap, pcapng, tcp, udp

    packets = [ethernet(part) for part in fragments(udp(b"<13>one" * 40), 80)]
    packets += [ethernet(ip(tcp(data, at, flags=flags), 6)) for data, at, flags in ((b"", 0, 2), (b"two", 4, 16), (b"one", 1, 17))]
    return [b"\x24" + pcap(packets), b"\x11" + pcapng(packets, order=">", resolution=9)]


def _lines(*names: str) -> Callable[[], list[bytes]]:
    def read() -> list[bytes]:
        from importlib.resources import files

        folder = files("weir.local") / "samples"
        return [line for name in names for line in (folder / name).read_bytes().splitlines()[:40] if line]

    return read


def _intel(data: bytes) -> None:
    from weir.enrich.intel import IntelError, IntelList, Report, compile_intel, read_list
    from weir.enrich.intel.values import classify

    report = Report()
    try:
        found = list(read_list("list.csv" if data[:1] == b"i" else "list", data, report))
    except IntelError:
        return
    for one in found:
        assert classify(one.value) == (one.kind, one.value), "a value in its normal form has another one"
    compile_intel([IntelList("list", 0, found, report)], limit=10**9, max_age_days=1)


def _intel_seeds() -> list[bytes]:
    hashed = "a" * 64
    return [
        b"203.0.113.9 # note\n203.0.113.0/24 ; x\nhxxp://evil[.]example/a?b\n0.0.0.0 a.example\n",
        b'# "first_seen_utc","ioc_value","confidence_level"\n"2026-01-02 03:04:05", "203.0.113.9:443", "75"\n',
        b"indicator;expires\nevil.example;2026-01-02\n",
        b'{"Event":{"info":"x","Attribute":[{"type":"domain|ip","value":"a.example|203.0.113.9","to_ids":true}]}}',
        f'{{"type":"bundle","objects":[{{"type":"indicator","pattern":"[file:hashes.\'SHA-256\' = \'{hashed}\']"}}]}}'.encode(),
        b'{"objects":[{"type":"indicator","pattern":"([domain-name:value IN (\'a.example\',\'b.example\')] OR [url:value=\'http://a/\'])"}]}',
    ]


TARGETS: dict[str, Target] = {
    "capture": Target(_capture, _capture_seeds, "weir.protocols.capture"),
    "documents": Target(_documents, _document_fuzz_seeds, "weir.processors.beats"),
    "intel": Target(_intel, _intel_seeds, "weir.enrich.intel"),
    "proxy": Target(_proxy, _proxy_seeds, "weir.protocols.proxy"),
    "ipfix-stream": Target(_ipfix_stream, lambda: [b"\x05" + seed for seed in _netflow_seeds()], "weir.protocols.netflow.stream"),
    "sflow": Target(_sflow, _sflow_seeds, "weir.protocols.sflow"),
    "http-elements": Target(_http_elements, _elements_seeds, "weir.protocols.elements"),
    "inflate": Target(_inflate, _inflate_seeds, "weir.protocols.inflate"),
    "zeek": Target(_zeek, _zeek_seeds, "weir.protocols.zeek"),
    "snort": Target(_snort, _snort_seeds, "weir.protocols.snort"),
    "framing": Target(_framing, _framing_seeds, "weir.protocols.framing"),
    "lumberjack": Target(_lumberjack, _lumberjack_seeds, "weir.protocols.lumberjack"),
    "yaf": Target(_yaf, _yaf_seeds, "weir.protocols.yaf"),
    "netflow": Target(_netflow, _netflow_seeds, "weir.protocols.netflow"),
    "syslog": Target(
        _syslog, _lines("rfc5424.log", "rfc3164.log", "kemp-esp.cef", "vendor.cef", "qumulo-audit.csv"), "weir.protocols.syslog"
    ),
    "syslog-devices": Target(_devices, _device_seeds, "weir.processors.fields.devices"),
    "cef": Target(
        _cef,
        lambda: [line.removeprefix(b"CEF:") for line in _lines("vendor.cef", "kemp-esp.cef")()],
        "weir.processors.fields.cef",
    ),
    "leef": Target(_leef, _leef_seeds, "weir.protocols.leef"),
    "kemp-logs": Target(_kemp_logs, _kemp_log_seeds, "weir.protocols.kemp_logs"),
    "qumulo-json": Target(_qumulo_json, _qumulo_json_seeds, "weir.protocols.qumulo"),
    "device-times": Target(
        _device_times,
        lambda: [b"Sep 21 2026 14:13:20.123 EEST\nMMM dd yyyy HH:mm:ss.SSS z", b"2016-05-01T09:29:11Z\nyyyy-MM-dd'T'HH:mm:ssX"],
        "weir.protocols.devicetime",
    ),
    "beats": Target(_beats, _lines("suricata-eve.ndjson", "sensorfleet.ndjson", "filebeat-syslog.ndjson"), "weir.protocols.beats"),
}
