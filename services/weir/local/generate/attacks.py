"""The attack mix: what rules must find amid the background, each attack with the rule that finds it and the entities it names.

Each attack is the least that its rule asks for, with some to spare, by people, machines and addresses that nothing else in the
traffic has. What was long before, such as days of habit or beats of an hour, stands in the events' own times: all is sent within
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import orjson

from weir.local.generate.beats import EVE_SAMPLES, around_eve
from weir.local.generate.syslog import Source, qumulo_head
from weir.local.generate.units import Dice, Unit, iso_second
from weir.protocols import qumulo

__all__ = ["ATTACKS", "EXPORTER", "Attack", "AttackUnits", "Sender", "Step"]

Sender = Literal["syslog", "netflow", "beats"]

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR

EXPORTER: Final = "127.0.1.9"
"""The loopback address of the router that exports the attacks' flows."""
_CLUSTER: Final = Source("127.0.0.14", "qumulo-5", "counted", "qumulo-5424", 0)
_BALANCER: Final = Source("127.0.0.15", "lm-3", "counted", "kemp-3339", 0)
_DOMAIN: Final = 9
_FLOWS_OF_A_DATAGRAM: Final = 14


class Flow(NamedTuple):
    """One flow of an attack; `ago` is when it began, before now, and `lasts` how long, both in microseconds."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    ago: int
    protocol: int = 6
    packets: int = 6
    octets: int = 600
    flags: int = 0x1B
    lasts: int = SECOND


class Step(NamedTuple):
    """One thing to send: by which protocol, from which address, and the unit."""

    sender: Sender
    source: str
    unit: Unit


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        name: what it is.
        family: of the rules: qumulo, kemp, flows, ids, across or pipeline.
        rules: ids of the rules that must raise an alert each.
        entities: what one of the alerts must name, by the alert's entity or group-by.
        lines: what is sent by syslog or Beats, as of a time in microseconds UTC.
        flows: what the router exports.
    """

    name: str
    family: str
    rules: tuple[str, ...]
    entities: Mapping[str, str]
    lines: Callable[[int], list[Step]] = field(default=lambda now_us: [])
    flows: tuple[Flow, ...] = ()


def _audit(now_us: int, ago: int, client: str, user: str, operation: str, path: str, second: str = "", result: str = "ok") -> Step:
    file_id = str(int.from_bytes(path.encode()[-6:], "big")) if path else ""
    body = qumulo.format_line(qumulo.QumuloAudit(client, None, user, "smb", operation, result, file_id, path, second))
    return Step(
        "syslog", _CLUSTER.address, Unit(f"{qumulo_head(_CLUSTER.host, '5424', now_us - ago)}{body}".encode(), "file-audit")
    )


def _kemp(now_us: int, ago: int, class_id: int, name: str, rest: str, severity: int = 6) -> Step:
    head = f"<134>{iso_second((now_us - ago) // SECOND)}+00:00 {_BALANCER.host} CEF:0|Kemp|LM|1.0|{class_id}|{name}|{severity}|"
    return Step("syslog", _BALANCER.address, Unit(f"{head}vs=10.30.0.15:443 event={name} {rest}".encode(), "cef"))


def _eve(now_us: int, ago: int, number: int, **changes: object) -> Step:
    sample = next(record for record in EVE_SAMPLES if record["event_type"] == "alert")
    at = now_us - ago
    record = sample | {"timestamp": f"{iso_second(at // SECOND)}.{at % SECOND:06d}+0000", "flow_id": number} | changes
    document = around_eve(Dice(0, "attack", number), number, at)
    document["event"] = {"module": "suricata", "dataset": "suricata.eve"}
    document["message"] = orjson.dumps(record).decode()
    return Step("beats", "127.0.0.1", Unit(orjson.dumps(document), "ids-alert"))


ATTACKS: tuple[Attack, ...] = ()


class AttackUnits:
    """The attacks of one round; each round is by other people from other addresses."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def steps(self, now_us: int) -> list[Step]:
        """All that is sent, as of a time in microseconds UTC."""
        return [step for attack in ATTACKS for step in attack.lines(now_us)]
