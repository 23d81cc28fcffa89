"""What `weir generate` can send: for each kind its transports, its formats, and a maker of units.

A maker gives the unit that holds the events `first` to `first + count - 1` of a source. Lines and documents hold one event each,
flow datagrams as many as fit. Adding a kind is one entry in KINDS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count as endless
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol

import orjson

from weir.local.generate import beats, sflow, stamp, syslog
from weir.local.generate.netflow import IPFIX_V4, V9_FLOW, V9_FLOWS
from weir.local.generate.pools import DESTINATION, DESTINATION_PORT, HOST, NUMBER, SOURCE, SOURCE_PORT, STAMP, THEN_US, Pool, chance
from weir.local.generate.units import NAMES, Dice
from weir.protocols.netflow.encode import DataSet, Message, V5Datagram, encode, encode_v5, encode_v7

__all__ = ["KINDS", "Kind", "Maker", "host_name"]

_PREPARED: Final = 2048
"""Units prepared of each kind; some 50 ms of work and a megabyte."""

_JSON_PREPARED: Final = 1024


class Maker(Protocol):
    """Makes the units of one run."""

    per_unit: int
    """Events of a unit at most."""

    def unit(self, source: int, first: int, count: int, now_us: int) -> bytes:
        """The unit that holds these events of a source as of `now_us` (microseconds UTC). Each source's in order."""

    def connected(self, source: int) -> None:
        """The source has a new connection: what a receiver must know first goes out again."""


Make = Callable[[int, int, str, bool], Maker]
"""Run, seed, format, and whether it goes over connections, to the maker."""


class Kind(NamedTuple):
    """One kind of traffic: ports and formats (the first is the default), and where it ends up.

    `ports` has the transports it fits, the default first, each with its receiver's port.
    """

    ports: dict[str, int]
    formats: tuple[str, ...]
    make: Make
    raw_topic: str
    datasets: tuple[str, ...]


def host_name(source: int) -> str:
    """What a source calls itself."""
    return f"gen-{source:04d}.example.test"


class _Lines:
    """Lines and documents: one event each."""

    per_unit = 1

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def unit(self, source: int, first: int, count: int, now_us: int) -> bytes:
        return self._pool.unit(source, first, now_us)

    def connected(self, source: int) -> None:
        """Nothing: each line speaks for itself."""


def _prepared(kind: str, seed: int, amount: int, one: Callable[[Dice], str | bytes | None]) -> list[bytes]:
    """So many units; a throw of the dice that gives None is thrown again."""

    def throws() -> Iterator[bytes]:
        for number in endless():
            if (unit := one(Dice(seed, f"pool-{kind}", number))) is not None:
                yield unit.encode() if isinstance(unit, str) else unit

    return [unit for unit, _ in zip(throws(), range(amount), strict=False)]


def _syslog(run: int, seed: int, form: str, _stream: bool) -> Maker:
    def line(dice: Dice) -> str:
        if form == "3164":
            head, body = syslog.plain_line(dice, STAMP, form, THEN_US)
            priority, _, rest = head.partition(">")
            return f"{priority}>{rest[:16]}{HOST} {rest[16:].partition(' ')[2]}{body}"
        head, body = syslog.plain_line(dice, "", form, THEN_US)
        priority, time, _, rest = head.split(" ", 3)
        message_id, rest_of_body = body.rstrip().split(" ", 1)
        # RFC 5424 section 6.3: SD-ELEMENTs follow each other, "-" stands for none; 32473 is the number for examples (RFC 5612).
        elements = rest_of_body[1:] if rest_of_body.startswith("-") else rest_of_body
        return f'{priority} {time} {HOST} {rest}{message_id} [stamp@32473 event="{STAMP}"]{elements}'

    return _Lines(Pool(_prepared(f"syslog-{form}", seed, _PREPARED, line), run, seed, host_name))


def _cef(run: int, seed: int, form: str, _stream: bool) -> Maker:
    def line(dice: Dice) -> str:
        name = f"t{dice.below(100_000)}"
        body = syslog.kemp_body(dice, name) if dice.below(2) else syslog.vendor_body(dice, name, THEN_US)
        head = f"<134>Feb  3 04:05:06 {HOST} " if form == "3164" else f"<134>1 2001-02-03T04:05:06.789012Z {HOST} cef - - - "
        return f"{head}{body} cs6Label=weirStamp cs6={STAMP}"

    return _Lines(Pool(_prepared(f"cef-{form}", seed, _PREPARED, line), run, seed, host_name))


def _qumulo(run: int, seed: int, form: str, _stream: bool) -> Maker:
    def line(dice: Dice) -> str | None:
        body = syslog.qumulo_body(dice, STAMP, 5000)
        # Some operations have no path to put it in.
        return syslog.qumulo_head(HOST, form, THEN_US) + body if STAMP in body else None

    return _Lines(Pool(_prepared(f"qumulo-{form}", seed, _PREPARED, line), run, seed, host_name))


def _beats(run: int, seed: int, _form: str, _stream: bool) -> Maker:
    def document(dice: Dice) -> bytes | None:
        number = dice.below(10**9)
        made, dataset = (beats.log_document if dice.below(3) else beats.sensorfleet_document)(dice, STAMP, number, THEN_US)
        if dataset != "sensor":
            return None  # a Suricata record in a sensor's envelope: the kind "suricata" has them
        if "log" in made:
            made["log"]["offset"] = NUMBER
        else:
            made["sensor_event_id"] = NUMBER
        return orjson.dumps(made | {"host": {"name": HOST}, "weir": {"stamp": STAMP}})

    return _Lines(Pool(_prepared("beats", seed, _JSON_PREPARED, document), run, seed, host_name))


def _suricata(run: int, seed: int, form: str, _stream: bool) -> Maker:
    def document(dice: Dice) -> bytes | None:
        number = dice.below(10**9)
        sample = dice.pick(beats.EVE_SAMPLES)
        address: str = sample.get("src_ip", "")
        is_flow = sample["event_type"] in {"flow", "netflow"}
        if is_flow and (":" in address or "src_port" not in sample):
            return None  # the event of a flow has no room for a stamp but its addresses and ports
        record: dict[str, Any] = beats.eve_record(sample, dice, number, THEN_US) | {"weir": {"stamp": STAMP}}
        if "src_port" in record and ":" not in address:
            record |= {"src_ip": SOURCE, "dest_ip": DESTINATION, "src_port": SOURCE_PORT, "dest_port": DESTINATION_PORT}
        around = beats.around_eve(dice, number, THEN_US)
        around["host"] = {"name": HOST}
        if form == "root" or (form == "both" and dice.below(2)):
            return orjson.dumps(around | record)
        around["event"] = {"module": "suricata", "dataset": "suricata.eve"}
        around["message"] = orjson.dumps(record).decode()
        return orjson.dumps(around)

    return _Lines(Pool(_prepared(f"suricata-{form}", seed, _JSON_PREPARED, document), run, seed, host_name, flows=True))


# Flows

_DAY_MS: Final = 86_400_000
_V5_RECORD: Final = Struct(">IIIHHIIIIHHxBBBHHBBxx")
_NEXT_HOP: Final = 10 << 24 | 20 << 16 | 255 << 8 | 254
_TEMPLATES_EVERY: Final = 20
"""Over UDP every so many datagrams bring the template again, since any of them may be lost (RFC 7011 section 8.4)."""

IPFIX_FLOWS: Final = 18  # as many as fit an Ethernet frame with the template before them


class _Flows:
    """What the exporters of one run share: for each source its datagrams and flows so far, and an uptime."""

    def __init__(self, run: int, seed: int) -> None:
        self._run, self._seed = run, seed
        self._datagrams: dict[int, int] = {}
        self._booted_ms: int | None = None

    def connected(self, source: int) -> None:
        self._datagrams.pop(source, None)

    def _number(self, source: int) -> int:
        number = self._datagrams.get(source, 0)
        self._datagrams[source] = number + 1
        return number

    def _uptime(self, now_us: int) -> int:
        if self._booted_ms is None:
            self._booted_ms = now_us // 1000 - _DAY_MS
        return now_us // 1000 - self._booted_ms

    def _flow(self, source: int, sequence: int) -> tuple[stamp.Conversation, int, int, int, int, int]:
        """Conversation, protocol, packets, octets, and the milliseconds since it began and ended."""
        bits = chance(self._seed, source, sequence)
        packets = 1 + (bits >> 50 & 1023)
        ended = bits >> 8 & 8191
        octets = packets * (40 + (bits >> 40 & 1023))
        return (
            stamp.as_conversation(self._run, source, sequence),
            6 if bits >> 63 else 17,
            packets,
            octets,
            ended + (bits >> 21 & 32767),
            ended,
        )


class _V5(_Flows):
    per_unit = 30  # as many as the format allows
    _head = staticmethod(encode_v5)
    _router = b""

    def unit(self, source: int, first: int, count: int, now_us: int) -> bytes:
        uptime = self._uptime(now_us)
        seconds, micros = divmod(now_us, 1_000_000)
        head = V5Datagram(
            (), seconds, micros * 1000, uptime, sequence=first & 0xFFFF_FFFF, engine_type=0, engine_id=source & 0xFF, count=count
        )
        records = []
        for number in range(first, first + count):
            talk, protocol, packets, octets, began, ended = self._flow(source, number)
            records.append(
                _V5_RECORD.pack(
                    talk.source, talk.destination, _NEXT_HOP, 1 + number % 4, 5 + number % 3, packets, octets, uptime - began,
                    uptime - ended, talk.source_port, talk.destination_port, 0x1B if protocol == 6 else 0, protocol, 0, 0, 0, 8, 8,
                )
                + self._router
            )  # fmt: skip
        return self._head(head) + b"".join(records)


class _V7(_V5):
    per_unit = 27
    _head = staticmethod(encode_v7)
    _router = bytes((192, 0, 2, 7))


class _V9(_Flows):
    per_unit = V9_FLOWS - 2  # the template needs the room of two flows

    def unit(self, source: int, first: int, count: int, now_us: int) -> bytes:
        uptime = self._uptime(now_us)
        number = self._number(source)
        records = []
        for sequence in range(first, first + count):
            talk, protocol, packets, octets, began, ended = self._flow(source, sequence)
            records.append(
                (
                    talk.source, talk.destination, talk.source_port, talk.destination_port, protocol, 0x1B if protocol == 6 else 0,
                    packets, octets, uptime - began, uptime - ended, 1 + sequence % 4, 5 + sequence % 3, sequence,
                )
            )  # fmt: skip
        data = DataSet(V9_FLOW, records, padded=True)
        sets = (data,) if number % _TEMPLATES_EVERY else (V9_FLOW, data)
        return encode(Message(9, now_us // 1_000_000, sets, domain=source + 1, sequence=number & 0xFFFF_FFFF, uptime=uptime))


class _Ipfix(_Flows):
    per_unit = IPFIX_FLOWS

    def __init__(self, run: int, seed: int, stream: bool) -> None:
        super().__init__(run, seed)
        self._stream = stream
        self._first: dict[int, int] = {}

    def connected(self, source: int) -> None:
        super().connected(source)
        self._first.pop(source, None)

    def unit(self, source: int, first: int, count: int, now_us: int) -> bytes:
        number = self._number(source)
        # RFC 7011 section 10.3.2: a transport session begins its sequence anew, and over TCP sends a template once.
        sequence = first - self._first.setdefault(source, first)
        now_ms = now_us // 1000
        records = []
        for flow in range(first, first + count):
            talk, protocol, packets, octets, began, ended = self._flow(source, flow)
            records.append(
                (
                    talk.source, talk.destination, talk.source_port, talk.destination_port, protocol, 0x1B if protocol == 6 else 0,
                    packets, octets, now_ms - began, now_ms - ended, flow,
                    f"{NAMES[talk.source % len(NAMES)]}{talk.destination % 5000}".encode(),
                )
            )  # fmt: skip
        data = DataSet(IPFIX_V4, records)
        announced = number and (self._stream or number % _TEMPLATES_EVERY)
        sets = (data,) if announced else (IPFIX_V4, data)
        return encode(Message(10, now_us // 1_000_000, sets, domain=source + 1, sequence=sequence & 0xFFFF_FFFF))


def _netflow(run: int, seed: int, form: str, _stream: bool) -> Maker:
    if form == "v5":
        return _V5(run, seed)
    return _V7(run, seed) if form == "v7" else _V9(run, seed)


def _ipfix(run: int, seed: int, _form: str, stream: bool) -> Maker:
    return _Ipfix(run, seed, stream)


_SYSLOG_PORTS: Final = {"udp": 5514, "tcp": 5514, "tls": 6514}
_BEATS_PORTS: Final = {"lumberjack": 5044, "tls": 5044, "http": 8088, "https": 8088}

KINDS: Final = {
    "syslog": Kind(_SYSLOG_PORTS, ("5424", "3164"), _syslog, "raw.syslog", ("syslog",)),
    "cef": Kind(_SYSLOG_PORTS, ("3164", "5424"), _cef, "raw.syslog", ("cef",)),
    "qumulo": Kind(_SYSLOG_PORTS, ("5424", "3164"), _qumulo, "raw.syslog", ("file-audit",)),
    "beats": Kind(_BEATS_PORTS, ("documents",), _beats, "raw.beats", ("sensor",)),
    "suricata": Kind(
        _BEATS_PORTS, ("both", "message", "root"), _suricata, "raw.beats", ("ids-alert", "network-flow", "network-log")
    ),
    "netflow": Kind({"udp": 2055}, ("v9", "v5", "v7"), _netflow, "raw.netflow", ("network-flow",)),
    # RFC 7011 section 10.1 and IANA: 4739 in clear, 4740 (ipfixs) with TLS.
    "ipfix": Kind({"udp": 4739, "tcp": 4739, "tls": 4740}, ("v10",), _ipfix, "raw.netflow", ("network-flow",)),
    "sflow": Kind({"udp": 6343}, ("v5",), sflow.make, "raw.netflow", ("network-flow",)),
}
