"""From datagrams to samples: no state, since a datagram of sFlow explains itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final, NamedTuple

from weir.protocols import packet
from weir.protocols.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, Value, read_structure
from weir.protocols.sflow.wire import Header, SflowError, enterprise_format, read_header

__all__ = [
    "DISCARDED",
    "INTERNAL",
    "MAX_RECORDS",
    "MAX_SAMPLES",
    "MULTIPLE",
    "SINGLE",
    "CounterSample",
    "DecodeResult",
    "FlowSample",
    "Interface",
    "OtherSample",
    "Sample",
    "SampledHeader",
    "decode",
]

MAX_SAMPLES: Final = 1024
"""Samples read of one datagram at most; the largest UDP datagram holds some 800 flow samples with the smallest header."""

MAX_RECORDS: Final = 256
"""Records read of one sample at most."""

_MAX_ERRORS: Final = 16

SINGLE, DISCARDED, MULTIPLE = 0, 1, 2
"""What the value of an interface is: an ifIndex, the reason why the packet was discarded, or the number of interfaces."""

INTERNAL: Final = 0x3FFF_FFFF
"""Instead of an ifIndex: the device itself sent or took the packet."""

_PAIR: Final = Struct(">II")
_COUNTER: Final = Struct(">3I")
_HEADER: Final = Struct(">4I")

# Enum header_protocol of the sampled header: the link layers that can be read.
_LINKS: Final = {1: packet.ethernet, 7: packet.ppp, 11: packet.ip, 12: packet.ip, 13: packet.mpls, 14: packet.ppp}


class Interface(NamedTuple):
    """An interface as a sample gives it: the kind of value (SINGLE, DISCARDED, MULTIPLE) and the value."""

    kind: int
    value: int

    @property
    def if_index(self) -> int | None:
        """The ifIndex; None where it is unknown (0), none (INTERNAL), or not an index."""
        value = self.value
        return value if value and self.kind == SINGLE and value not in _NO_INDEX else None


_NO_INDEX: Final = frozenset({INTERNAL, 0xFFFF_FFFF})


class SampledHeader(NamedTuple):
    """The beginning of a packet. `frame_length` is its length on the wire in bytes, with the frame check sequence where there is
    one, and `stripped` counts those removed before the `header`. `packet` is None for a link layer that is not read."""

    protocol: int
    frame_length: int
    stripped: int
    header: bytes
    packet: packet.Packet | None


@dataclass(slots=True)
class FlowSample:
    """One packet, sampled (formats 1 and 3) or discarded (format 5, which has a `reason` and no `rate` nor `pool`).

    `position` is the sample's number among all of the datagram, from 0; `source` the class and index of its data source; `rate`
    says that one in so many packets is taken; `pool` how many could have been; `drops` samples lost for lack of resources.
    `header` is the first sampled header, `records` the other structures by name (`name#2` for a second one of a kind).
    """

    position: int
    sequence: int
    source: tuple[int, int]
    rate: int | None
    pool: int | None
    drops: int
    input: Interface
    output: Interface
    reason: int | None = None
    header: SampledHeader | None = None
    records: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class CounterSample:
    """Counters of one data source, by the name of the structure that holds them."""

    position: int
    sequence: int
    source: tuple[int, int]
    records: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class OtherSample:
    """A sample of a format that is not known, such as a vendor's: its bytes, as `enterprise.format`."""

    position: int
    format: str
    data: bytes


Sample = FlowSample | CounterSample | OtherSample


@dataclass(slots=True)
class DecodeResult:
    """What one datagram gave. `errors` says what could not be read, beside the samples that could."""

    header: Header
    samples: list[Sample] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Everything in the datagram was understood or kept."""
        return not self.errors

    @property
    def empty(self) -> bool:
        """Understood, and without a sample."""
        return not self.samples and not self.errors


def decode(datagram: bytes) -> DecodeResult:
    """Samples of one datagram (sFlow version 5), with the number of each among all of them.

    Raises SflowError only where the header cannot be read; any other damage is told in `errors` with its offset. A sample whose
    length leads out of the datagram ends it; one that is broken inside gives what it has where a record of it could be read,
    and those behind it are read all the same. Samples beyond the announced number are read as long as they look like ones;
    other bytes there (of a buffer that an agent used before) are passed over. At most MAX_SAMPLES samples of MAX_RECORDS records
    are read.
    """
    header = read_header(datagram)
    result = DecodeResult(header)
    errors, samples = result.errors, result.samples
    at, end = header.start, len(datagram)
    for position in range(MAX_SAMPLES):
        if position >= header.samples and not _looks_like_sample(datagram, at, end):
            return result
        if end - at < 8:
            errors.append(f"datagram ends at offset {end} after {position} of {header.samples} samples")
            return result
        tag, length = _PAIR.unpack_from(datagram, at)
        start, stop = at + 8, at + 8 + length
        if stop > end:
            errors.append(f"sample {position} at offset {at}: {length} bytes lead beyond the datagram's end at {end}")
            return result
        try:
            samples.append(_sample(datagram, tag, position, start, stop, errors))
        except SflowError as error:
            errors.append(f"sample {position} at offset {at}: {error}")
        if len(errors) >= _MAX_ERRORS:
            errors.append(f"nothing read after offset {stop}, for so many errors")
            return result
        at = _next(datagram, stop, end) if length & 3 else stop
    if at < end:
        errors.append(f"only the first {MAX_SAMPLES} samples are read, {end - at} bytes are left")
    return result


def _looks_like_sample(data: bytes, at: int, end: int) -> bool:
    """Whether a sample of a known format begins here and ends within the datagram."""
    if end - at < 8:
        return False
    tag, length = _PAIR.unpack_from(data, at)
    return bool(1 <= tag <= 5 and _COUNTER.size <= length <= end - at - 8)


def _next(data: bytes, stop: int, end: int) -> int:
    """Where the next structure begins behind one whose length is no multiple of four.

    XDR pads it, but some agents do not: whichever leaves room for the length that then stands there is taken, padding first.
    """
    for at in (stop + (-stop & 3), stop):
        if end - at >= 8 and _PAIR.unpack_from(data, at)[1] <= end - at - 8:
            return at
    return min(stop + (-stop & 3), end)


def _sample(data: bytes, tag: int, position: int, at: int, end: int, errors: list[str]) -> Sample:
    known = _SAMPLES.get(tag)
    if known is None:
        return OtherSample(position, enterprise_format(tag), data[at:end])
    layout, make, read = known
    if end - at < layout.size:
        raise SflowError(f"{end - at} bytes are too few for format {enterprise_format(tag)}, which has {layout.size} at least")
    *fields, count = layout.unpack_from(data, at)
    sample: Sample = make(position, *fields)
    read(sample, data, at + layout.size, end, count, errors)
    return sample


def _flow(position: int, sequence: int, source: int, rate: int, pool: int, drops: int, entry: int, leave: int) -> FlowSample:
    return FlowSample(
        position,
        sequence,
        (source >> 24, source & 0xFF_FFFF),
        rate,
        pool,
        drops,
        Interface(entry >> 30, entry & INTERNAL),
        Interface(leave >> 30, leave & INTERNAL),
    )


def _flow_expanded(
    position: int,
    sequence: int,
    source_type: int,
    source_index: int,
    rate: int,
    pool: int,
    drops: int,
    entry_kind: int,
    entry: int,
    leave_kind: int,
    leave: int,
) -> FlowSample:
    source = source_type, source_index
    return FlowSample(position, sequence, source, rate, pool, drops, Interface(entry_kind, entry), Interface(leave_kind, leave))


def _discarded(
    position: int, sequence: int, source_type: int, source_index: int, drops: int, entry: int, leave: int, reason: int
) -> FlowSample:
    source = source_type, source_index
    return FlowSample(position, sequence, source, None, None, drops, Interface(SINGLE, entry), Interface(SINGLE, leave), reason)


def _counter(position: int, sequence: int, source: int) -> CounterSample:
    return CounterSample(position, sequence, (source >> 24, source & 0xFF_FFFF))


def _counter_expanded(position: int, sequence: int, source_type: int, source_index: int) -> CounterSample:
    return CounterSample(position, sequence, (source_type, source_index))


def _flow_records(sample: FlowSample, data: bytes, at: int, end: int, count: int, errors: list[str]) -> None:
    records = sample.records
    for number, tag, start, stop in _records(sample.position, data, at, end, count, errors):
        if tag == 1 and stop - start >= 16 and sample.header is None:
            protocol, frame, stripped, size = _HEADER.unpack_from(data, start)
            # A length beyond the record is a known vice of agents: what is there is the header.
            header = data[start + 16 : min(start + 16 + size, stop)]
            read = _LINKS.get(protocol)
            sample.header = SampledHeader(protocol, frame, stripped, header, None if read is None else read(header))
        else:
            name, value = read_structure(FLOW_RECORDS, tag, data, start, stop)
            records[name if name not in records else f"{name}#{number + 1}"] = value


def _counter_records(sample: CounterSample, data: bytes, at: int, end: int, count: int, errors: list[str]) -> None:
    records = sample.records
    for number, tag, start, stop in _records(sample.position, data, at, end, count, errors):
        name, value = read_structure(COUNTER_RECORDS, tag, data, start, stop)
        records[name if name not in records else f"{name}#{number + 1}"] = value


def _records(position: int, data: bytes, at: int, end: int, count: int, errors: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Number, data format, and bounds of each record of a sample."""
    for number in range(min(count, MAX_RECORDS)):
        if end - at < 8:
            return _damaged(number > 0, errors, f"sample {position} ends at offset {end} after {number} of {count} records")
        tag, length = _PAIR.unpack_from(data, at)
        start = at + 8
        stop = start + length
        if stop > end:
            reason = f"sample {position}, record {number} at offset {at}: {length} bytes lead beyond its end at {end}"
            return _damaged(number > 0, errors, reason)
        yield number, tag, start, stop
        at = _next(data, stop, end) if length & 3 else stop
    if count > MAX_RECORDS:
        errors.append(f"sample {position}: {count} records announced, only the first {MAX_RECORDS} are read")


def _damaged(usable: bool, errors: list[str], reason: str) -> None:
    """Tell of damage inside a sample. Raises SflowError where no record before it was read, so that the sample gives nothing."""
    if not usable:
        raise SflowError(reason)
    errors.append(reason)


# Sample formats of enterprise 0: the layout of the fixed part, with the number of records last, and what makes and fills a sample.
_SAMPLES: Final[dict[int, tuple[Struct, Callable[..., Any], Callable[..., None]]]] = {
    1: (Struct(">8I"), _flow, _flow_records),
    2: (_COUNTER, _counter, _counter_records),
    3: (Struct(">11I"), _flow_expanded, _flow_records),
    4: (Struct(">4I"), _counter_expanded, _counter_records),
    5: (Struct(">8I"), _discarded, _flow_records),
}
