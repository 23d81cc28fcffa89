"""The pipeline's own records, made of the ledger, so that rules can speak of them as of any dataset: `service: pipeline`.

The ledger tells what each service did with a range of offsets. An entry becomes flat records, one for each thing that a rule may
ask about: what a receiver took in, what a processor made of it, what it wrote for whom, what a sink delivered, what an exporter
lost. Their time is the receive minute of the data they count, so a backlog counts where it belongs.

**Nothing counts twice.** A range done again after a crash is entered again, under the same first offset and perhaps up to another
last one; the sum of a ledger takes the later entry. A stream of signals cannot take back, so of a range that comes again only that
is handed on which was not counted before (`_Counted`). The next range is entered only when this one is committed, so one entry for
each partition is all there is to remember.

**What is due.** A processor writes to a topic whatever sinks there are. So for every sink that has delivered from that topic within
a day before, there is a record of what is due to it; a sink that delivers nothing while something is due has stalled. Who has
never delivered is not waited for.

**Loss** of an exporter is what all ranges of its sequence numbers together say (`weir.model.sequences`). The ranges of a minute
come from several receivers, some of them late: a minute is told of when the ledger is three minutes further. What comes later
still, from a receiver's disk after an outage of Kafka, is in `weir sources` and not here.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from weir.model.ids import event_id, stable_id
from weir.model.ledger import MINUTE_US, LedgerCounts, LedgerEntry, SequenceRange, minute_of
from weir.model.sequences import merge
from weir.model.topics import TopicNames

__all__ = ["HEARD_MINUTES", "PIPELINE", "PIPELINE_FIELDS", "Coordinates", "Pipeline", "dead_letter_records"]

PIPELINE: Final = "pipeline"
"""The name under which rules speak of these records; there is no topic of them."""


class Field(NamedTuple):
    """What a field of these records holds: a type as Avro names it, and its meaning."""

    type: str
    meaning: str


PIPELINE_FIELDS: Final[Mapping[str, Field]] = {
    "event_id": Field("string", "Hash of where the ledger entry lies, and the record's number in it."),
    "timestamp": Field("timestamp-micros", "Receive minute of the data, its start."),
    "event_created": Field("timestamp-micros", "When the entry was written."),
    "event_action": Field(
        "string",
        "units_received, units_processed, events_written, events_due, events_delivered, units_lost, records_expired or "
        "template_missing.",
    ),
    "event_reason": Field("string", "Of template_missing: why the units were dead-lettered."),
    "site": Field("string", "Site of the service."),
    "raw_topic": Field("string", "Topic that the entry lies in: the ledger's, or a dead-letter topic."),
    "raw_partition": Field("long", "Its partition."),
    "raw_offset": Field("long", "Its offset."),
    "service_name": Field("string", "Service that the record speaks of, such as receive.syslog, process.syslog, sink.adx."),
    "service_type": Field("string", "receiver, processor or sink."),
    "service_node_name": Field("string", "Instance of the service."),
    "ledger_topic": Field("string", "Topic read or written, by its short name such as raw.syslog."),
    "ledger_minute": Field("long", "Receive minute of the data, counted since 1970; to count distinct minutes."),
    "log_source_ip": Field("string", "Address of the sender; `others` where a receiver had too many to tell apart."),
    "log_source_name": Field("string", "Name that the catalogue of sources gives the sender, where a processor has seen it."),
    "ledger_units": Field("long", "Units received or processed."),
    "ledger_bytes": Field("long", "Their bytes."),
    "ledger_minutes_heard": Field(
        "long", "Of units_received: in how many of the 180 minutes up to this one the sender was heard in this topic."
    ),
    "ledger_dropped": Field("long", "Units a receiver lost before it could publish them."),
    "ledger_dead": Field("long", "Units that a processor, or events that a sink, dead-lettered."),
    "ledger_dead_percent": Field("double", "Of the units or events of this record, how many of a hundred."),
    "ledger_events": Field("long", "Events written, due or read."),
    "ledger_delivered": Field("long", "Events that the destination took."),
    "ledger_records": Field("long", "Records that expired before they were read."),
    "ledger_delay_seconds": Field("long", "From the end of the receive minute to the entry: how far behind the service is."),
    "ledger_expected": Field("long", "Units that an exporter says it has sent in this minute."),
    "ledger_missing": Field("long", "Of those, how many did not come; less than 0 where some of the minute before came late."),
    "ledger_missing_percent": Field("double", "The same, of a hundred."),
    "flow_protocol": Field("string", "Of units_lost: netflow-v5, netflow-v9, ipfix or sflow."),
    "flow_observation_domain": Field("long", "Of units_lost and template_missing: source id, observation domain or sub-agent."),
    "flow_template_id": Field("long", "Of template_missing: the template."),
}
"""The fields of the records and what they hold; times are microseconds UTC."""

SINK_REMEMBERED_US: Final = 24 * 60 * MINUTE_US
"""So long after it last delivered from a topic a sink is still waited for."""

LOSS_AFTER_US: Final = 3 * MINUTE_US
"""So long after the end of a minute its sequence ranges are taken to be there: receivers write every ten seconds or so."""

LOSS_KEPT_US: Final = 15 * MINUTE_US
"""So long ranges are kept, for those of later minutes to be measured against. A stream that pauses longer begins anew."""

MAX_RANGES: Final = 200_000
"""Sequence ranges kept, some 30 MB; beyond them new ones are left out, and what they would have said of loss is not told."""

MAX_STREAMS: Final = 10_000
"""Partitions whose last range is remembered; beyond them that of the one silent longest is forgotten: redone, it counts twice."""

HEARD_MINUTES: Final = 180
"""Minutes in which it is remembered whether a sender was heard, so that a rule can tell regular senders from others."""

MAX_SENDERS: Final = 200_000
"""Senders for which that is remembered, some 100 bytes each; a further one counts as heard in this minute alone."""

MAX_KEYS: Final = 20_000
"""Receivers' entries remembered, to know one that a producer sent twice."""

Record = dict[str, Any]
_Line = tuple[str, int, str]
_Lines = dict[_Line, "Counter[str]"]

_TYPES = {"receive": "receiver", "process": "processor", "sink": "sink"}
_OUT = "events_out:"
_SUMS = ("units_in", "units_dead", "units_dropped", "bytes_in", "events_in", "delivered", "dead")
_EXPIRED = "expired"


class Coordinates(NamedTuple):
    """Where a record lies in Kafka."""

    topic: str
    partition: int
    offset: int


class _Counted(NamedTuple):
    """What has been handed on of one partition of one service: the last entry, and all that counts from its first offset on."""

    first_offset: int
    lines: _Lines
    counted: _Lines


class Pipeline:
    """Makes records of ledger entries, which must come in the order of the ledger.

    Args:
        names: the topics.
    """

    def __init__(self, names: TopicNames) -> None:
        self._short = {full: names.short(full) for full, _ in names.items()}
        self._counted: OrderedDict[tuple[str, str, int], _Counted] = OrderedDict()
        self._keys: OrderedDict[str, None] = OrderedDict()
        # By topic and sink, when the sink last delivered.
        self._sinks: defaultdict[str, dict[str, int]] = defaultdict(dict)
        # By raw topic and sender, the last minute it was heard in, and a bit for each of the minutes up to that.
        self._heard: dict[tuple[str, str], tuple[int, int]] = {}
        self._ranges: list[SequenceRange] = []
        self._told_minute = 0

    def heard_of(self, key: str, time_us: int) -> None:
        """An entry with this key was written so long ago that no more of it matters than which sink wrote it."""
        service, _, topic, *_ = f"{key}|||".split("|")
        if service.startswith("sink."):
            self._delivers(service, topic, time_us)

    def learn(self, entry: LedgerEntry) -> None:
        """Take an entry in that has been handed on before, by a process that is no more."""
        for source, minute, _ in self._news(entry):
            if entry.partition < 0:
                self._minutes_heard((entry.topic, source), minute)
        if entry.service.startswith("sink.") and not entry.note:
            self._delivers(entry.service, entry.topic, entry.written_at)
        self._losses(entry)

    def records(self, entry: LedgerEntry, where: Coordinates) -> list[Record]:
        """The records of an entry; none where all of it has been counted before."""
        base = self._base(entry, where)
        kind = entry.service.partition(".")[0]
        found: list[Record] = []
        for (source, minute, _), numbers in self._news(entry).items():
            line = base | _time(minute, entry.written_at)
            if expired := numbers[_EXPIRED]:
                found.append(line | {"event_action": "records_expired", "ledger_records": expired})
            elif kind == "receive":
                found += _received(line, source, numbers, self._minutes_heard((entry.topic, source), minute))
            elif kind == "sink":
                self._delivers(entry.service, entry.topic, entry.written_at)
                found += _delivered(line, numbers)
            elif kind == "process":
                found += _processed(line, source, numbers, entry)
        found += self._written(base, entry, found) if kind == "process" else []
        found += [base | loss for loss in self._losses(entry)]
        return _named(found, where)

    def _base(self, entry: LedgerEntry, where: Coordinates) -> Record:
        return {
            "event_created": entry.written_at,
            "site": entry.site,
            "raw_topic": where.topic,
            "raw_partition": where.partition,
            "raw_offset": where.offset,
            "service_name": entry.service,
            "service_type": _TYPES.get(entry.service.partition(".")[0], ""),
            "service_node_name": entry.instance.partition("@")[0],
            "ledger_topic": self._short.get(entry.topic, entry.topic),
        }

    def _news(self, entry: LedgerEntry) -> _Lines:
        """What of an entry's numbers has not been counted before."""
        lines: _Lines = {key: _numbers(counts) for key, counts in entry.lines.items()}
        if entry.note == _EXPIRED:
            lines["", minute_of(entry.written_at), ""] = Counter({_EXPIRED: entry.last_offset - entry.first_offset + 1})
        if entry.partition < 0:
            if entry.key in self._keys:
                return {}
            self._keys[entry.key] = None
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
            return lines
        stream = (entry.service, entry.topic, entry.partition)
        before = self._counted.pop(stream, None)
        counted: _Lines = {}
        # A lower offset than the last one's: the topic was created anew, or an operator reads it again on purpose.
        if before is not None and entry.first_offset >= before.first_offset:
            again = entry.first_offset == before.first_offset
            counted = before.counted if again else _less(before.counted, before.lines)
        news = _less(lines, counted)
        self._counted[stream] = _Counted(
            entry.first_offset,
            lines,
            {key: counted.get(key, Counter()) | lines.get(key, Counter()) for key in {**counted, **lines}},
        )
        if len(self._counted) > MAX_STREAMS:
            self._counted.popitem(last=False)
        return news

    def _minutes_heard(self, sender: tuple[str, str], minute_us: int) -> int:
        """Note that a sender was heard in a topic; in how many of the last minutes that was so."""
        minute = minute_us // MINUTE_US
        last, bits = self._heard.get(sender, (minute, 0))
        if minute >= last:
            bits = (bits << min(minute - last, HEARD_MINUTES)) & ((1 << HEARD_MINUTES) - 1) | 1
            last = minute
        elif last - minute < HEARD_MINUTES:
            bits |= 1 << (last - minute)
        if sender not in self._heard and len(self._heard) >= MAX_SENDERS:
            self._heard = {key: known for key, known in self._heard.items() if minute - known[0] < HEARD_MINUTES}
            if len(self._heard) >= MAX_SENDERS:
                return 1
        self._heard[sender] = (last, bits)
        return bits.bit_count()

    def _delivers(self, service: str, topic: str, time_us: int) -> None:
        sinks = self._sinks[self._short.get(topic, topic)]
        sinks[service] = max(sinks.get(service, 0), time_us)

    def _written(self, base: Record, entry: LedgerEntry, lines: list[Record]) -> list[Record]:
        """What was written by topic and minute, and to which sinks it is due."""
        sums: Counter[tuple[str, int]] = Counter()
        for line in lines:
            for topic, events in line.pop("_out", {}).items():
                sums[topic, line["timestamp"]] += events
        found = []
        for (topic, minute), events in sums.items():
            told = base | _time(minute, entry.written_at) | {"ledger_topic": topic, "ledger_events": events}
            found.append(told | {"event_action": "events_written"})
            for service, last in self._sinks.get(topic, {}).items():
                if entry.written_at - last <= SINK_REMEMBERED_US:
                    due = {"event_action": "events_due", "service_name": service, "service_type": "sink", "service_node_name": ""}
                    found.append(told | due)
        # A record of the detector's own reading would be read by the detector, for ever; what it writes and spoils is news.
        if entry.service == "process.detector":
            lines[:] = [line for line in lines if line["event_action"] == "records_expired" or line.get("ledger_dead")]
        return found

    def _losses(self, entry: LedgerEntry) -> list[Record]:
        """Take in an entry's sequence ranges, and tell what was lost in the minutes that are complete with it."""
        self._ranges += entry.sequences[: max(0, MAX_RANGES - len(self._ranges))]
        complete = minute_of(entry.written_at - LOSS_AFTER_US) - MINUTE_US
        if complete <= self._told_minute:
            return []
        told, self._told_minute = self._told_minute, complete
        if not told:
            # Of what came before this process, and was not learnt, nothing is known; a part of a minute would look like loss.
            return []
        found = [
            _time(loss.minute, entry.written_at)
            | {
                "event_action": "units_lost",
                "log_source_ip": loss.source,
                "flow_protocol": loss.protocol,
                "flow_observation_domain": loss.observation_domain,
                "ledger_expected": loss.expected,
                "ledger_missing": loss.missing,
                "ledger_missing_percent": 100.0 * loss.missing / loss.expected,
            }
            for loss in merge(r for r in self._ranges if r.minute <= complete)
            if told < loss.minute and loss.expected > 0
        ]
        self._ranges = [r for r in self._ranges if r.minute > complete - LOSS_KEPT_US]
        return found


def dead_letter_records(
    reason: str, time_us: int, where: Coordinates, origin: Coordinates, service: str, site: str
) -> list[Record]:
    """The records of a dead letter of flows: one for each template that lacked; none for other reasons, which the ledger counts.

    Args:
        reason: as the processor wrote it.
        time_us: when the dead letter was written, microseconds UTC.
        where: the dead letter lies.
        origin: the raw record it was made of; a dead letter written twice has the same.
    """
    found = []
    for exporter, domain, template in dict.fromkeys(_TEMPLATE.findall(reason)):
        found.append(
            _time(minute_of(time_us), time_us)
            | {
                "event_action": "template_missing",
                "event_reason": reason[:500],
                "event_created": time_us,
                "site": site,
                "raw_topic": where.topic,
                "raw_partition": where.partition,
                "raw_offset": where.offset,
                "service_name": service,
                "service_type": "processor",
                "ledger_topic": "raw.netflow",
                "log_source_ip": exporter,
                "flow_observation_domain": int(domain),
                "flow_template_id": int(template),
            }
        )
    return _named(found, origin)


_TEMPLATE = re.compile(r"template not known: exporter (\S+), domain (\d+), template (\d+)")


def _numbers(counts: LedgerCounts) -> Counter[str]:
    numbers = Counter({name: getattr(counts, name) for name in _SUMS if getattr(counts, name)})
    for topic, events in counts.events_out.items():
        numbers[_OUT + topic] = events
    return numbers


def _less(lines: _Lines, counted: _Lines) -> _Lines:
    """Lines without what is counted; those of which nothing is left are left out."""
    left = {key: numbers - counted[key] if key in counted else numbers for key, numbers in lines.items()}
    return {key: numbers for key, numbers in left.items() if numbers}


def _time(minute: int, written_at: int) -> Record:
    delay = max(0, written_at - minute - MINUTE_US) // 1_000_000
    return {"timestamp": minute, "ledger_minute": minute // MINUTE_US, "ledger_delay_seconds": delay}


def _named(records: Iterable[Record], where: Coordinates) -> list[Record]:
    origin = stable_id(where.topic, str(where.partition), str(where.offset))
    return [record | {"event_id": event_id(origin, 0, number)} for number, record in enumerate(records)]


def _received(line: Record, source: str, numbers: Counter[str], minutes: int) -> list[Record]:
    counts = {"ledger_units": numbers["units_in"], "ledger_bytes": numbers["bytes_in"], "ledger_dropped": numbers["units_dropped"]}
    return [line | counts | {"event_action": "units_received", "log_source_ip": source, "ledger_minutes_heard": minutes}]


def _delivered(line: Record, numbers: Counter[str]) -> list[Record]:
    events, dead = numbers["events_in"], numbers["dead"]
    counts = {"ledger_events": events, "ledger_delivered": numbers["delivered"], "ledger_dead": dead}
    return [line | counts | _percent(dead, events) | {"event_action": "events_delivered"}]


def _processed(line: Record, source: str, numbers: Counter[str], entry: LedgerEntry) -> list[Record]:
    units, dead = numbers["units_in"] or numbers["events_in"], numbers["units_dead"] or numbers["dead"]
    out = {name.removeprefix(_OUT): count for name, count in numbers.items() if name.startswith(_OUT)}
    if not units and not out:
        return []
    names = entry.lines[source, line["timestamp"], ""].names
    counts = {
        "ledger_units": units,
        "ledger_bytes": numbers["bytes_in"],
        "ledger_dead": dead,
        "ledger_events": sum(out.values()),
        "log_source_ip": source,
        "_out": out,
    }
    if names:
        counts["log_source_name"] = max(names, key=lambda name: (names[name], name))
    return [line | counts | _percent(dead, units) | {"event_action": "units_processed"}]


def _percent(dead: int, of: int) -> Record:
    return {"ledger_dead_percent": 100.0 * dead / of} if of else {}
