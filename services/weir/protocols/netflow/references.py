"""Which interfaces, applications and VRFs the flows of a data set refer to, found without decoding them.

For templates of fixed length one compiled `struct` reads just these fields of all records; a batch then carries the names of
what occurs in it, and not the thousands that a router may have announced.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from weir.protocols.netflow.options import key_text
from weir.protocols.netflow.wire import FlowError, TemplateRecord, WireSet, layout, records_in

__all__ = ["referenced"]

_REFERRING = {
    (0, 10): "interface",  # ingressInterface
    (0, 14): "interface",  # egressInterface
    (0, 95): "application",  # applicationId
    (0, 234): "vrf",  # ingressVRFID
    (0, 235): "vrf",  # egressVRFID
}
_LONGEST_KEY = 16


class _Plan(NamedTuple):
    kinds: tuple[str, ...]
    numbers: tuple[int, ...]
    reader: Struct | None


def referenced(datagram: bytes, wire_set: WireSet, template: TemplateRecord) -> set[tuple[str, str]]:
    """(kind, key) of all that the records name by number, as `NameRecord` writes them; records behind damage are passed over."""
    if template.is_options:
        return set()
    plan = _plan(template)
    if not plan.kinds:
        return set()
    found: set[tuple[str, str]] = set()
    for row in set(_rows(plan, datagram, wire_set, template)):
        found.update((kind, key_text(kind, raw)) for kind, raw in zip(plan.kinds, row, strict=True) if raw)
    return found


def _rows(plan: _Plan, datagram: bytes, wire_set: WireSet, template: TemplateRecord) -> Iterator[tuple[bytes, ...]]:
    if plan.reader is not None:
        whole = (wire_set.end - wire_set.start) // plan.reader.size * plan.reader.size
        yield from plan.reader.iter_unpack(memoryview(datagram)[wire_set.start : wire_set.start + whole])
        return
    try:
        for bounds in records_in(datagram, wire_set, layout(template)):
            yield tuple(datagram[slice(*bounds[number])][:_LONGEST_KEY] for number in plan.numbers)
    except FlowError:
        return


@lru_cache(maxsize=1024)
def _plan(template: TemplateRecord) -> _Plan:
    try:
        shape = layout(template)
    except FlowError:
        return _Plan((), (), None)
    kinds: list[str] = []
    numbers: list[int] = []
    form = ">"
    for number, field in enumerate(shape.fields):
        kind = _REFERRING.get((field.enterprise, field.element_id))
        if kind is None or (shape.fixed and field.length > _LONGEST_KEY):
            form += f"{field.length}x"
            continue
        kinds.append(kind)
        numbers.append(number)
        form += f"{field.length}s"
    return _Plan(tuple(kinds), tuple(numbers), Struct(form) if shape.fixed and shape.minimum else None)
