"""Units out of pcap and pcapng files: UDP payloads, and what TCP connections of syslog and Lumberjack carried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from weir.protocols.capture import Carrier, Datagram, Segment
from weir.protocols.framing import SyslogFramer
from weir.protocols.lumberjack import Document, LumberjackError, LumberjackParser
from weir.protocols.pcap import PcapError, PcapParser
from weir.tools.decode.families import Family
from weir.tools.decode.sources import MAX_LINE_BYTES, Input
from weir.tools.decode.text import framed
from weir.tools.decode.units import DecodeError, Unit

__all__ = ["Capture"]

_PIECE = 65_536
_Ends = tuple[str, int, str, int]


@dataclass(slots=True)
class Capture:
    """One capture file, read for one family.

    `other` counts datagrams and connections that are not the family's, `passed_over` packets that carry neither, and
    `incomplete` what was given up because parts of it are not in the file.
    """

    family: Family
    ports: frozenset[int]
    other: int = 0
    _carrier: Carrier = field(default_factory=Carrier)
    _framers: dict[_Ends, SyslogFramer | LumberjackParser | None] = field(default_factory=dict)

    @property
    def passed_over(self) -> int:
        """Packets that are no UDP or TCP over IP."""
        return self._carrier.passed_over

    @property
    def incomplete(self) -> int:
        """Fragmented packets and gaps that were given up."""
        return self._carrier.incomplete

    def units(self, source: Input) -> Iterator[Unit]:
        """The units. Raises DecodeError for a family that is not spoken on a network."""
        if self.family.datagram is None and self.family.stream is None:
            raise DecodeError(f"{source.name} is a capture of packets; {self.family.name} is read from files of text")
        parser = PcapParser()
        number = 0
        try:
            for piece in source.pieces:
                for start in range(0, len(piece), _PIECE):
                    for packet in parser.feed(piece[start : start + _PIECE]):
                        number = packet.number
                        for carried in self._carrier.packet(packet):
                            yield from self._units(carried, source.name)
            parser.finish()
        except PcapError as error:
            yield Unit(b"", self.family.kind, f"{source.name} behind packet {number}", "udp", problem=str(error))
        for segment in self._carrier.finish():
            yield from self._units(segment, source.name)
        for ends in list(self._framers):
            yield from self._close(Segment(number, None, *ends, b"", last=True), source.name)

    def _units(self, carried: Datagram | Segment, name: str) -> Iterator[Unit]:
        if isinstance(carried, Segment):
            yield from self._stream(carried, name)
            return
        family = self.family
        if family.datagram is None or not self._wanted(carried.destination_port, family.datagram(carried.data)):
            self.other += 1
            return
        place = f"{name} packet {carried.number}"
        problem = f"cut by the capture: {carried.lost:,} bytes of the datagram are not in the file" if carried.lost else None
        yield Unit(carried.data, family.kind, place, "udp", carried.source_ip, carried.time_us, problem)

    def _wanted(self, port: int, looks: bool) -> bool:
        return port in self.ports if self.ports else looks or port in self.family.ports

    def _stream(self, segment: Segment, name: str) -> Iterator[Unit]:
        ends = segment[2:6]
        if segment.first or ends not in self._framers:
            yield from self._close(segment, name)
            self._framers[ends] = self._framer(segment) if segment.data else None
        framer = self._framers[ends]
        if framer is not None and segment.data:
            yield from self._fed(framer, segment, name)
        if segment.last:
            yield from self._close(segment, name)

    def _framer(self, segment: Segment) -> SyslogFramer | LumberjackParser | None:
        stream = self.family.stream
        if stream is None or not self._wanted(segment.destination_port, stream(segment.data)):
            self.other += 1
            return None
        return LumberjackParser() if self.family.form == "lumberjack" else SyslogFramer(MAX_LINE_BYTES)

    def _fed(self, framer: SyslogFramer | LumberjackParser, segment: Segment, name: str, *, end: bool = False) -> Iterator[Unit]:
        place = f"{name} packet {segment.number}"
        at = (segment.source_ip, segment.time_us)
        if isinstance(framer, SyslogFramer):
            for frame in framed(framer, None if end else segment.data):
                problem = "no message: the framing of the connection is broken here" if frame.lost else None
                if frame.original_length > len(frame.data):
                    problem = f"cut: {len(frame.data):,} of {frame.original_length:,} bytes"
                yield Unit(frame.data, "syslog", place, "tcp", *at, problem)
            return
        try:
            for document in framer.feed(segment.data):
                if isinstance(document, Document):
                    yield Unit(document.payload, "beats", place, "lumberjack", *at)
        except LumberjackError as error:
            self._framers[segment[2:6]] = None
            yield Unit(segment.data, "beats", place, "lumberjack-error", *at, str(error))

    def _close(self, segment: Segment, name: str) -> Iterator[Unit]:
        framer = self._framers.pop(segment[2:6], None)
        if isinstance(framer, SyslogFramer):
            yield from self._fed(framer, segment, name, end=True)
        elif framer is not None and framer.unfinished:
            reason = f"the connection ends within a frame: {framer.unfinished:,} bytes of it came"
            place = f"{name} packet {segment.number}"
            yield Unit(b"", "beats", place, "lumberjack-error", segment.source_ip, segment.time_us, reason)
