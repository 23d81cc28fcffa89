"""Compiled templates: one `struct` for the fields of a flow, one for its additional elements, and what is left to compute.

Compiling moves every decision that depends only on the template out of the loop over the records. Plans are kept by the
bytes of the definition, so the same template in another batch, domain or exporter costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from struct import Struct
from typing import Any, cast

from weir.protocols.netflow.details import Finish, Reference, finishers, references
from weir.protocols.netflow.elements import canonical, element
from weir.protocols.netflow.fields import (
    ALTERNATIVES,
    DELTAS,
    END_TIMES,
    START_TIMES,
    UPTIME,
    converter,
    read_value,
    struct_code,
    time_converter,
)
from weir.protocols.netflow.options import key_text
from weir.protocols.netflow.structured import LISTS
from weir.protocols.netflow.wire import (
    FIXED,
    Field,
    Layout,
    TemplateRecord,
    WireSet,
    layout,
    records_in,
)

__all__ = ["BIFLOW", "Plan", "plan_for"]

_START, _END = "event_start_us", "event_end_us"
_PADDING = (0, 210)
_APPLICATION = (0, 95)
_TARGETS: dict[tuple[int, int], tuple[str, int]] = {
    ((0, place) if isinstance(place, int) else place): (target, rank)
    for target, ids in ALTERNATIVES.items()
    for rank, place in enumerate(ids)
}
"""(enterprise, id) to the target field and the rank among those that can fill it."""
BIFLOW = {
    "initiatorOctets": "source_bytes",
    "responderOctets": "destination_bytes",
    "initiatorPackets": "source_packets",
    "responderPackets": "destination_packets",
    "reverseOctetDeltaCount": "destination_bytes",
    "reversePacketDeltaCount": "destination_packets",
    "reverseOctetTotalCount": "destination_bytes",
    "reversePacketTotalCount": "destination_packets",
    "ixiaRevOctetDeltaCount": "destination_bytes",
    "ixiaRevPacketDeltaCount": "destination_packets",
}
"""Additional elements that count one direction of a biflow (RFC 5103, Cisco ASA, Ixia)."""

Conversion = tuple[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to turn the records of one template into flows."""

    shape: Layout
    main: Struct | None
    extra: Struct | None
    readers: tuple[tuple[int, str, bool], ...]
    """For records of variable length: field number, struct code, whether it goes to the main fields."""
    keys: tuple[str, ...]
    conversions: tuple[Conversion, ...]
    extra_keys: tuple[str, ...]
    extra_conversions: tuple[Conversion, ...]
    alternatives: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Target, and the (temporary key, element name) of those that stand in where it is empty."""
    start_mode: int
    end_mode: int
    """0: absolute or absent; 158 or 159: microseconds before the export; 21 or 22: sysUpTime."""
    network_type: str | None
    duration: tuple[str, int] | None
    """Name of an additional element with the flow's duration, and its unit in microseconds."""
    biflow: bool
    icmp_in_port: bool
    structured: tuple[tuple[str, str], ...]
    """Additional elements that are lists, and their abstract types."""
    finish: tuple[Finish, ...]
    refers: tuple[Reference, ...]
    """Numbers that the exporter may have names for."""
    present: frozenset[str]

    def rows(self, datagram: bytes, wire_set: WireSet) -> Iterable[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """Values of the main and of the additional fields, for each record of a data set.

        Raises FlowError, after the records before it, for a record that is cut.
        """
        if self.main is not None:
            whole = (wire_set.end - wire_set.start) // self.main.size * self.main.size
            body = memoryview(datagram)[wire_set.start : wire_set.start + whole]
            main = self.main.iter_unpack(body)
            if self.extra is None:
                return ((values, ()) for values in main)
            return zip(main, self.extra.iter_unpack(body), strict=True)
        return self._variable_rows(datagram, wire_set)

    def _variable_rows(self, datagram: bytes, wire_set: WireSet) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        for bounds in records_in(datagram, wire_set, self.shape):
            main: list[Any] = []
            extra: list[Any] = []
            for number, code, is_main in self.readers:
                start, stop = bounds[number]
                (main if is_main else extra).append(read_value(code, datagram[start:stop]))
            yield tuple(main), tuple(extra)


def plan_for(template: TemplateRecord) -> Plan:
    """Compiled form of a data template. Raises FlowError where the record is no template."""
    return _plan(template.version, template.record)


@lru_cache(maxsize=1024)
def _plan(version: int, record: bytes) -> Plan:
    shape = layout(TemplateRecord(version, 0, int.from_bytes(record[:2], "big"), False, record))
    chosen = _choose(shape.fields)
    network_type = _network_type(shape.fields)
    main_format, extra_format = [">"], [">"]
    readers: list[tuple[int, str, bool]] = []
    keys: list[str] = []
    extra_keys: list[str] = []
    conversions: list[Conversion] = []
    extra_conversions: list[Conversion] = []
    structured: list[tuple[str, str]] = []
    modes = {_START: 0, _END: 0}
    seconds: dict[str, list[tuple[int, str, str]]] = {}
    for number, spec in enumerate(shape.fields):
        pad = f"{spec.length}x"
        if (spec.enterprise, spec.element_id) == _PADDING or (number in chosen and chosen[number] == "_version" and network_type):
            main_format.append(pad)
            extra_format.append(pad)
            continue
        name, abstract_type = element(spec.enterprise, spec.element_id)
        code = struct_code(abstract_type, spec.length)
        target = chosen.get(number)
        is_main = target is not None
        main_format.append(code if is_main else pad)
        extra_format.append(pad if is_main else code)
        readers.append((number, code, is_main))
        if target is None:
            key = name if name not in extra_keys else f"{name}#{number}"
            extra_keys.append(key)
            convert = converter(None, abstract_type, spec.length)
            if (spec.enterprise, spec.element_id) == _APPLICATION:
                convert = partial(key_text, "application") if code.endswith("s") else str
            if abstract_type in LISTS:
                structured.append((key, abstract_type))
            elif convert is not None:
                extra_conversions.append((key, convert))
            continue
        if target in modes:
            keys.append(target)
            if spec.element_id in UPTIME | DELTAS:
                modes[target] = spec.element_id
            else:
                conversions.append((target, cast("Callable[..., Any]", time_converter(spec.element_id, spec.length))))
            continue
        best = _best(target, chosen, shape.fields)
        key = target if number == best else f"~{number}"
        keys.append(key)
        convert = converter(target, abstract_type, spec.length)
        if convert is not None:
            conversions.append((key, convert))
        if number != best:
            seconds.setdefault(target, []).append((_rank(spec), key, name))
    durations = (("flowDurationMilliseconds", 1000), ("flowDurationMicroseconds", 1))
    return Plan(
        shape=shape,
        main=Struct("".join(main_format)) if shape.fixed else None,
        extra=Struct("".join(extra_format)) if shape.fixed and extra_keys else None,
        readers=tuple(readers),
        keys=tuple(keys),
        conversions=tuple(conversions),
        extra_keys=tuple(extra_keys),
        extra_conversions=tuple(extra_conversions),
        alternatives=tuple((target, tuple((key, name) for _, key, name in sorted(found))) for target, found in seconds.items()),
        start_mode=modes[_START],
        end_mode=modes[_END],
        network_type=network_type,
        duration=next((pair for pair in durations if pair[0] in extra_keys), None),
        biflow=not BIFLOW.keys().isdisjoint(extra_keys),
        icmp_in_port=version in FIXED,
        structured=tuple(structured),
        finish=finishers(keys, extra_keys),
        refers=references(keys, extra_keys),
        present=frozenset(keys),
    )


def _choose(fields: tuple[Field, ...]) -> dict[int, str]:
    """Field number to target, for the first field of each element that has one, and for the best of the times."""
    numbers: dict[tuple[int, int], int] = {}
    for number, spec in enumerate(fields):
        numbers.setdefault(canonical(spec.enterprise, spec.element_id), number)
    chosen = {number: _TARGETS[place][0] for place, number in numbers.items() if place in _TARGETS}
    for target, ids in ((_START, START_TIMES), (_END, END_TIMES)):
        for element_id in ids:
            number = numbers.get((0, element_id), -1)
            if number < 0:
                continue
            length = fields[number].length
            relative = element_id in UPTIME | DELTAS
            if (length == 4) if relative else time_converter(element_id, length) is not None:
                chosen[number] = target
                break
    return chosen


def _rank(spec: Field) -> int:
    return _TARGETS[canonical(spec.enterprise, spec.element_id)][1]


def _best(target: str, chosen: dict[int, str], fields: tuple[Field, ...]) -> int:
    return min((number for number, name in chosen.items() if name == target), key=lambda number: _rank(fields[number]))


def _network_type(fields: tuple[Field, ...]) -> str | None:
    ids = {spec.element_id for spec in fields if spec.enterprise == 0}
    four, six = not ids.isdisjoint({8, 12}), not ids.isdisjoint({27, 28})
    if four == six:
        return None
    return "ipv4" if four else "ipv6"
