"""What an exporter has announced: its templates and its sampling, learned from datagrams as they pass.

The receiver's side of flow decoding. A `TemplateStore` belongs to one exporter address; it notices definitions cheaply,
tells what is new (to be published) and what a batch of datagrams needs (to be embedded), so that a `Decoder` elsewhere can
decode the batch from its content alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from weir.protocols.netflow.options import DEFAULT_SELECTOR, SYSTEM_INIT, NameRecord, OptionRecord, SamplingRecord, options_in
from weir.protocols.netflow.references import referenced
from weir.protocols.netflow.structured import nests
from weir.protocols.netflow.wire import (
    FIRST_DATA_SET,
    FIXED,
    NETFLOW_IPFIX,
    FlowError,
    Header,
    TemplateRecord,
    WireSet,
    layout,
    read_header,
    records_in,
    sets_of,
    templates_in,
)

__all__ = [
    "MAX_NAMES",
    "MAX_SAMPLINGS",
    "MAX_TEMPLATES",
    "MAX_TEMPLATE_BYTES",
    "Needs",
    "Scan",
    "TemplateStore",
    "scan",
]

MAX_TEMPLATES = 1024
"""Templates kept per exporter; the one announced longest ago goes first."""

MAX_TEMPLATE_BYTES = 128 * 1024
"""Bytes of template records kept per exporter, and so the most that `required` returns."""

MAX_SAMPLINGS = 1024
"""Sampling values kept per exporter; the one announced longest ago goes first."""

MAX_NAMES = 4_096
"""Names kept per exporter, each of at most 128 characters; the one announced longest ago goes first."""

MAX_NAMES_BYTES = 48 * 1024
"""Bytes of names that `needs` returns at most, a thousand of the usual ones."""

_NAME_OVERHEAD = 40

_TEMPLATE_SETS = {NETFLOW_IPFIX: (2, 3)}
_TEMPLATE_SETS_V9 = (0, 1)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a receiver wants to know of a datagram without decoding it.

    `export_time` is seconds UTC, `uptime` milliseconds since the exporter started (0 for IPFIX), `observation_domain` the v9
    source id, the IPFIX domain or for v5 `engine_type << 8 | engine_id`. `sequence` counts flows (v5, v7), datagrams (v9) or data
    records (IPFIX), `counted` is the header's own count of records (0 for IPFIX). `templates` holds definitions and, with an
    empty record, withdrawals; `data_sets` the template ids of the data sets in order, `data_bounds` where each begins and
    ends. `problem` says why the rest was not read, or is None.
    """

    version: int
    export_time: int
    observation_domain: int
    sequence: int
    templates: tuple[TemplateRecord, ...]
    data_sets: tuple[int, ...]
    problem: str | None
    uptime: int = 0
    counted: int = 0
    data_bounds: tuple[tuple[int, int], ...] = ()


class Needs(NamedTuple):
    """What decodes some datagrams: templates, sampling values and names; `lacking` are the places of those that name a template
    which is not known."""

    templates: list[TemplateRecord]
    samplings: list[SamplingRecord]
    names: list[NameRecord]
    lacking: list[int]


def scan(datagram: bytes) -> Scan:
    """Header, template records and needed template ids of a NetFlow or IPFIX datagram.

    Raises FlowError where the header cannot be read; damage behind it is told in `problem`.
    """
    header = read_header(datagram)
    templates: list[TemplateRecord] = []
    data_sets: list[int] = []
    bounds: list[tuple[int, int]] = []
    problem = None
    if header.version not in FIXED:
        kinds = _TEMPLATE_SETS.get(header.version, _TEMPLATE_SETS_V9)
        try:
            for wire_set in sets_of(datagram, header):
                if wire_set.set_id >= FIRST_DATA_SET:
                    data_sets.append(wire_set.set_id)
                    bounds.append((wire_set.start, wire_set.end))
                elif wire_set.set_id in kinds:
                    templates.extend(templates_in(datagram, header, wire_set))
        except FlowError as error:
            problem = error.reason
    seconds = header.export_us // 1_000_000
    return Scan(
        header.version,
        seconds,
        header.domain,
        header.sequence,
        tuple(templates),
        tuple(data_sets),
        problem,
        header.uptime,
        header.counted,
        tuple(bounds),
    )


def _fitting(names: Iterable[NameRecord]) -> list[NameRecord]:
    fitting: list[NameRecord] = []
    room = MAX_NAMES_BYTES
    for name in names:
        room -= len(name.name.encode()) + len(name.key) + _NAME_OVERHEAD
        if room < 0:
            break
        fitting.append(name)
    return fitting


class TemplateStore:
    """Templates, sampling and names of one exporter address or of one connection, over all its versions and domains; bounded,
    oldest dropped first. A definition under a known id replaces the one before it.
    """

    __slots__ = ("_bytes", "_domains", "_names", "_samplings", "_templates", "_withdrawals")

    def __init__(
        self,
        templates: Iterable[TemplateRecord] = (),
        samplings: Iterable[SamplingRecord] = (),
        names: Iterable[NameRecord] = (),
        *,
        withdrawals: bool = True,
    ) -> None:
        """A store that begins with what is given, such as what a compacted topic held.

        `withdrawals` is False for what comes over UDP, where they must be ignored (RFC 7011 section 8.4).
        """
        self._withdrawals = withdrawals
        self._names: dict[tuple[int, int, str, str], NameRecord] = {}
        self._templates: dict[tuple[int, int, int], TemplateRecord] = {}
        self._samplings: dict[tuple[int, int, int], SamplingRecord] = {}
        self._domains: Counter[tuple[int, int]] = Counter()
        self._bytes = 0
        for template in templates:
            self.put(template)
        for sampling in samplings:
            self.put_sampling(sampling)
        for name in names:
            self.put_name(name)

    def __len__(self) -> int:
        return len(self._templates)

    def template(self, version: int, domain: int, template_id: int) -> TemplateRecord | None:
        """The template in force under this id, or None."""
        return self._templates.get((version, domain, template_id))

    def sampling(self, version: int, domain: int, selector_id: int = DEFAULT_SELECTOR) -> float | None:
        """The value in force for this selector, or None where none was announced."""
        found = self._samplings.get((version, domain, selector_id))
        return None if found is None else found.interval

    def samplings(self, version: int, domain: int) -> dict[int, float]:
        """All values in force of one domain by selector id."""
        return {key[2]: value.interval for key, value in self._samplings.items() if key[:2] == (version, domain)}

    def name(self, version: int, domain: int, kind: str, key: str) -> str | None:
        """The name in force, or None."""
        found = self._names.get((version, domain, kind, key))
        return None if found is None else found.name

    @property
    def names(self) -> int:
        """How many names are kept."""
        return len(self._names)

    def forget_names(self) -> None:
        """Drop all names; they come again when they are announced again."""
        self._names.clear()

    def put(self, template: TemplateRecord) -> bool:
        """Take a definition, or with an empty record a withdrawal; True where that changed anything."""
        key = template[:3]
        if not template.record:
            return self._withdraw(template) if self._withdrawals else False
        before = self._templates.get(key)
        if before is not None:
            self._forget(key)
        self._templates[key] = template
        self._domains[key[:2]] += 1
        self._bytes += len(template.record)
        while len(self._templates) > MAX_TEMPLATES or self._bytes > MAX_TEMPLATE_BYTES:
            self._forget(next(iter(self._templates)))
        return before != template

    def put_sampling(self, sampling: SamplingRecord) -> bool:
        """Take a value; True where it is new or differs from the one before."""
        if not isfinite(sampling.interval):
            return False
        key = sampling[:3]
        before = self._samplings.pop(key, None)
        self._samplings[key] = sampling
        if len(self._samplings) > MAX_SAMPLINGS:
            del self._samplings[next(iter(self._samplings))]
        return before != sampling

    def put_name(self, name: NameRecord) -> bool:
        """Take a name; True where it is new or differs from the one before."""
        key = name[:4]
        before = self._names.pop(key, None)
        self._names[key] = name
        if len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]
        return before != name

    def remove(self, item: TemplateRecord | SamplingRecord | NameRecord) -> bool:
        """Forget one definition, value or name, by what identifies it; True where it was known."""
        if isinstance(item, TemplateRecord):
            known = item[:3] in self._templates
            if known:
                self._forget(item[:3])
            return known
        if isinstance(item, SamplingRecord):
            return self._samplings.pop(item[:3], None) is not None
        return self._names.pop(item[:4], None) is not None

    def restarted(self, version: int, domain: int, void: Callable[[TemplateRecord], bool]) -> list[TemplateRecord]:
        """Forget the templates of a domain that `void` says belong to the exporter's life before; returns them.

        The start of its clock goes too. Sampling values and names stay until they are announced anew: without them data would
        decode to wrong counts without a trace, and configurations outlive restarts.
        """
        gone = [t for key, t in self._templates.items() if key[:2] == (version, domain) and void(t)]
        for template in gone:
            self._forget(template[:3])
        self._samplings.pop((version, domain, SYSTEM_INIT), None)
        return gone

    def data_records(self, datagram: bytes, found: Scan) -> tuple[int, bool]:
        """Data records of an IPFIX message, those of options included, as its sequence number counts them; then whether that is
        all of them: False where a template is unknown or the message is damaged. Call it after `learn`."""
        count, whole = 0, found.problem is None
        for set_id, (start, end) in zip(found.data_sets, found.data_bounds, strict=True):
            template = self._templates.get((found.version, found.observation_domain, set_id))
            if template is None:
                whole = False
                continue
            try:
                shape = layout(template)
                if not shape.minimum:
                    whole = False
                elif shape.fixed:
                    count += (end - start) // shape.minimum
                else:
                    for _ in records_in(datagram, WireSet(set_id, start - 4, start, end), shape):
                        count += 1
            except FlowError:
                whole = False
        return count, whole

    def learn(self, datagram: bytes) -> list[TemplateRecord | SamplingRecord | NameRecord]:
        """Take over what the datagram announces; returns what is new or changed, in order (withdrawals have no record).

        What is damaged is passed over: that is for the decoder to report.
        """
        return [item for item, changed in self.announced(datagram) if changed]

    def announced(self, datagram: bytes) -> list[tuple[TemplateRecord | SamplingRecord | NameRecord, bool]]:
        """As `learn`, but returns all that is announced, each with whether it is new or changed."""
        found: list[tuple[TemplateRecord | SamplingRecord | NameRecord, bool]] = []
        try:
            header = read_header(datagram)
            if header.version not in FIXED:
                for wire_set in sets_of(datagram, header):
                    try:
                        for item in self._learn_set(datagram, header, wire_set):
                            found.append(item)  # noqa: PERF402 - what comes before the damage counts
                    except FlowError:
                        continue
        except FlowError:
            pass
        return found

    def missing(self, datagram: bytes) -> set[tuple[int, int]]:
        """(domain, template id) of each data set that cannot be decoded with what is known and what comes before it in
        the datagram itself. Call it after `learn`; empty for v5, v7 and for what is not a flow datagram at all."""
        try:
            header = read_header(datagram)
        except FlowError:
            return set()
        if header.version in FIXED:
            return set()
        absent: set[tuple[int, int]] = set()
        defined: set[int] = set()
        kinds = _TEMPLATE_SETS.get(header.version, _TEMPLATE_SETS_V9)
        try:
            for wire_set in sets_of(datagram, header):
                if wire_set.set_id in kinds:
                    defined.update(t.template_id for t in templates_in(datagram, header, wire_set) if t.record)
                elif wire_set.set_id >= FIRST_DATA_SET:
                    key = (header.version, header.domain, wire_set.set_id)
                    if wire_set.set_id not in defined and key not in self._templates:
                        absent.add((header.domain, wire_set.set_id))
        except FlowError:
            pass
        return absent

    def replaces(self, datagram: bytes) -> bool:
        """True where learning this datagram would change or withdraw a definition or value that earlier datagrams of an
        open batch may rest on. A receiver then closes the batch, with its `required`, before it learns the datagram."""
        try:
            found = scan(datagram)
        except FlowError:
            return False
        for template in found.templates:
            if template.record:
                if self._templates.get(template[:3], template) != template:
                    return True
            elif self._withdrawals and self._withdrawn_by(template):
                return True
        options = any(self._is_options(found.version, found.observation_domain, key) for key in found.data_sets)
        defined = any(template.is_options for template in found.templates)
        if not (options or (defined and found.data_sets)):
            return False
        trial = TemplateStore(self._templates.values())
        return any(self._differs(item) for item in trial.learn(datagram))

    def _differs(self, item: TemplateRecord | SamplingRecord | NameRecord) -> bool:
        """Whether a value or name is another one than what is known; what is merely new changes nothing that came before."""
        if isinstance(item, SamplingRecord):
            return self._samplings.get(item[:3], item) != item
        return isinstance(item, NameRecord) and self._names.get(item[:4], item) != item

    def outlives(self, datagram: bytes) -> bool:
        """True where a datagram holds data and, behind it, another definition or a withdrawal of its template: what decodes that
        data is what is known before the datagram is learned. A receiver publishes it before it learns it, in a batch of its own.
        """
        try:
            header = read_header(datagram)
        except FlowError:
            return False
        if header.version in FIXED:
            return False
        kinds = _TEMPLATE_SETS.get(header.version, _TEMPLATE_SETS_V9)
        used: set[tuple[int, int, int]] = set()
        try:
            for wire_set in sets_of(datagram, header):
                if wire_set.set_id >= FIRST_DATA_SET:
                    key = (header.version, header.domain, wire_set.set_id)
                    if key in self._templates:
                        used.add(key)
                elif used and wire_set.set_id in kinds:
                    for template in templates_in(datagram, header, wire_set):
                        if template.record:
                            if template[:3] in used and self._templates[template[:3]] != template:
                                return True
                        elif self._withdrawals and not used.isdisjoint(self._withdrawn_by(template)):
                            return True
        except FlowError:
            pass
        return False

    def needs(self, datagrams: Iterable[bytes]) -> Needs:
        """What decodes these datagrams: the known templates that their data sets name, all sampling values of their domains, and
        the names of what their flows refer to. Where records hold lists of records (RFC 6313), whose templates they name
        inside, all templates of the domain are needed.

        At most MAX_TEMPLATES records of MAX_TEMPLATE_BYTES in all, MAX_SAMPLINGS values and MAX_NAMES_BYTES of names, whatever
        the datagrams say.
        """
        keys: dict[tuple[int, int, int], None] = {}
        domains: set[tuple[int, int]] = set()
        named = {key[:2] for key in self._names}
        names: dict[tuple[int, int, str, str], NameRecord] = {}
        lacking: list[int] = []
        for place, datagram in enumerate(datagrams):
            known = True
            try:
                header = read_header(datagram)
                if header.version in FIXED:
                    continue
                for wire_set in sets_of(datagram, header):
                    if wire_set.set_id >= FIRST_DATA_SET:
                        key = (header.version, header.domain, wire_set.set_id)
                        keys[key] = None
                        domains.add(key[:2])
                        template = self._templates.get(key)
                        if template is None:
                            known = False
                        elif key[:2] in named and len(names) < MAX_NAMES:
                            self._name_all(datagram, wire_set, template, names)
            except FlowError:
                pass
            if not known:
                lacking.append(place)
        templates = [self._templates[key] for key in keys if key in self._templates]
        if nesting := {template[:2] for template in templates if nests(template)}:
            templates += [value for key, value in self._templates.items() if key[:2] in nesting and key not in keys]
        samplings = [value for key, value in self._samplings.items() if key[:2] in domains] if domains else []
        return Needs(templates, samplings, _fitting(names.values()), lacking)

    def _name_all(
        self, datagram: bytes, wire_set: WireSet, template: TemplateRecord, names: dict[tuple[int, int, str, str], NameRecord]
    ) -> None:
        for kind, number in referenced(datagram, wire_set, template):
            place = (template.version, template.domain, kind, number)
            if place not in names and (name := self._names.get(place)) is not None:
                names[place] = name
            if kind == "interface":
                place = (template.version, template.domain, "interface-description", number)
                if place not in names and (name := self._names.get(place)) is not None:
                    names[place] = name

    def options(self, datagram: bytes, header: Header, wire_set: WireSet, template: TemplateRecord) -> Iterator[list[OptionRecord]]:
        """Take over the values and names that an options data set announces, record by record; yields what is new or changed.

        Raises FlowError, after the records before it, for a record that is cut.
        """
        for found in options_in(datagram, header, wire_set, template):
            yield [item for item in found if self._put_option(item)]

    def _put_option(self, item: OptionRecord) -> bool:
        return self.put_name(item) if isinstance(item, NameRecord) else self.put_sampling(item)

    def _is_options(self, version: int, domain: int, template_id: int) -> bool:
        template = self._templates.get((version, domain, template_id))
        return template is not None and template.is_options

    def _forget(self, key: tuple[int, int, int]) -> None:
        self._bytes -= len(self._templates.pop(key).record)
        self._domains[key[:2]] -= 1
        if not self._domains[key[:2]]:
            del self._domains[key[:2]]

    def _withdrawn_by(self, template: TemplateRecord) -> list[tuple[int, int, int]]:
        if template.template_id >= FIRST_DATA_SET:
            return [template[:3]] if template[:3] in self._templates else []
        if template[:2] not in self._domains:
            return []
        # The id of the template set itself withdraws all of that kind in the domain (RFC 7011 section 8.1).
        return [
            key for key, value in self._templates.items() if key[:2] == template[:2] and value.is_options == template.is_options
        ]

    def _withdraw(self, template: TemplateRecord) -> bool:
        gone = self._withdrawn_by(template)
        for key in gone:
            self._forget(key)
        return bool(gone)

    def _learn_set(
        self, datagram: bytes, header: Header, wire_set: WireSet
    ) -> Iterator[tuple[TemplateRecord | SamplingRecord | NameRecord, bool]]:
        if wire_set.set_id >= FIRST_DATA_SET:
            template = self._templates.get((header.version, header.domain, wire_set.set_id))
            if template is not None and template.is_options:
                for found in options_in(datagram, header, wire_set, template):
                    for option in found:
                        yield option, self._put_option(option)
        elif wire_set.set_id in _TEMPLATE_SETS.get(header.version, _TEMPLATE_SETS_V9):
            for item in templates_in(datagram, header, wire_set):
                yield item, self.put(item)
