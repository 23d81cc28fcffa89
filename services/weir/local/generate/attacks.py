"""The attack mix: what rules must find amid the background, each attack with the rule that finds it and the entities it names.

Each attack is the least that its rule asks for, with some to spare, by people, machines and addresses that nothing else in the
traffic has. What was long before, such as days of habit or beats of an hour, stands in the events' own times: all is sent within
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import orjson

from weir.local.generate.beats import EVE_SAMPLES, FLEET_SAMPLES, FLOW_ID_BASE, around_eve
from weir.local.generate.netflow import IPFIX_V4
from weir.local.generate.syslog import Source, qumulo_head
from weir.local.generate.units import MALFORMED, NAMES, Dice, Unit, iso_second
from weir.protocols import qumulo
from weir.protocols.netflow.encode import DataSet, Message, encode, ipv4

__all__ = ["DEAD_UNITS", "Attack", "AttackUnits", "Expected", "Sender", "Step", "attacks", "dead_letters"]

Sender = Literal["syslog", "netflow", "beats"]

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND

_CLUSTER: Final = Source("127.0.0.14", "qumulo-5", "counted", "qumulo-5424", 0)
_BALANCER: Final = Source("127.0.0.15", "lm-3", "counted", "kemp-3339", 0)
_BROKEN: Final = Source("127.0.0.16", "lm-4", "counted", "kemp-3339", 0)
_ROUTER: Final = Source("127.0.1.9", "edge-ipfix", "udp", "ipfix", 0)
_SENSORS: Final = Source("127.0.0.1", "", "counted", "beats", 0)
_DOMAIN: Final = 9
_FLOWS_OF_A_DATAGRAM: Final = 14
_BEATS: Final = 20
DEAD_UNITS: Final = 1_050
"""Lines of the sender whose format nobody can read."""


class Flow(NamedTuple):
    """One flow of an attack; `ago` is when it began, before now, and `lasts` how long, both in microseconds."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    ago: int
    packets: int = 6
    octets: int = 600
    flags: int = 0x1B
    lasts: int = SECOND


class Step(NamedTuple):
    """One thing to send: by which protocol, from which sender, and the unit."""

    sender: Sender
    source: Source
    unit: Unit


class Expected(NamedTuple):
    """An alert that an attack must raise once: the rule's name, and values that its group-by or entities must hold."""

    rule: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        name: what it is.
        family: of the rules: qumulo, kemp, flows, ids, across or pipeline.
        expected: the alerts it must raise.
        lines: what is sent by syslog or Beats, as of a time in microseconds UTC.
        flows: what the router exports.
    """

    name: str
    family: str
    expected: tuple[Expected, ...]
    lines: Callable[[int], list[Step]] = field(default=lambda now_us: [])
    flows: tuple[Flow, ...] = ()


def attacks(number: int = 0) -> tuple[Attack, ...]:
    """The mix; another number gives the same attacks by other people from other addresses.

    Raises:
        ValueError: a number without addresses of its own; there are 50.
    """
    if not 0 <= number < 50:
        raise ValueError(f"round {number} of the attack mix; there are addresses for 0 to 49")
    outside, inside, server = f"192.0.2.{200 + number}", f"10.99.{number}", f"10.98.{number}"
    return (
        _ransomware(f"EXAMPLE\\eve{number}", f"{inside}.11"),
        _snapshots(f"backup-admin{number}", f"{inside}.12"),
        _spraying(outside),
        _injection(f"192.0.2.{100 + number}"),
        _scan(f"{inside}.20", f"{server}.20"),
        _beacon(f"{inside}.21", outside),
        _exfiltration(f"{inside}.22", outside),
        _signature(number, outside, f"{server}.30"),
        _instrument(number),
        _guessed(number, f"EXAMPLE\\trent{number}", f"{inside}.15"),
    )


def dead_letters() -> Attack:
    """A sender whose format nobody can read: the pipeline's own rules tell of it."""

    def lines(now_us: int) -> list[Step]:
        head = f"<134>{iso_second(now_us // SECOND)}+00:00 {_BROKEN.host} CEF:0|Kemp|LM|1.0|11|Request"
        return [Step("syslog", _BROKEN, Unit(head.encode(), MALFORMED))] * DEAD_UNITS

    return Attack("unreadable sender", "pipeline", (Expected("pipeline_dead_letters_many", (_BROKEN.address,)),), lines)


class AttackUnits:
    """Everything that one round of the mix sends.

    Args:
        number: of the round.
        pipeline: with the sender whose lines cannot be read.
    """

    def __init__(self, number: int = 0, *, pipeline: bool = False) -> None:
        self.attacks = (*attacks(number), *((dead_letters(),) if pipeline else ()))

    def steps(self, now_us: int) -> list[Step]:
        """All that is sent, as of a time in microseconds UTC; of each sender in its order."""
        lines = [step for attack in self.attacks for step in attack.lines(now_us)]
        return lines + _exported([flow for attack in self.attacks for flow in attack.flows], now_us)

    def expected(self) -> list[Expected]:
        """The alerts that must come of it."""
        return [expected for attack in self.attacks for expected in attack.expected]


# Files

_DELETED: Final = 120
_RENAMED: Final = 120


def _audit(now_us: int, client: str, user: str, operation: str, path: str, *, second: str = "", ago: int = 0) -> Step:
    file_id = str(int.from_bytes(path.encode()[-6:], "big")) if path else ""
    body = qumulo.format_line(qumulo.QumuloAudit(client, None, user, "smb", operation, "ok", file_id, path, second))
    return Step("syslog", _CLUSTER, Unit(f"{qumulo_head(_CLUSTER.host, '5424', now_us - ago)}{body}".encode(), "file-audit"))


def _ransomware(user: str, client: str) -> Attack:
    def lines(now_us: int) -> list[Step]:
        paths = [f"/finance/{2000 + n % 20}/report-{n}.xlsx" for n in range(_RENAMED)]
        return [
            _audit(now_us, client, user, "fs_rename", path, second=f"{path}.lockbit", ago=(_RENAMED - n) * SECOND // 10)
            for n, path in enumerate(paths)
        ]

    expected = (Expected("qumulo_ransomware_extension", (user,)), Expected("qumulo_mass_rename", (user,)))
    return Attack("ransomware renames files", "qumulo", expected, lines)


def _snapshots(user: str, client: str) -> Attack:
    def lines(now_us: int) -> list[Step]:
        return [_audit(now_us, client, user, "snapshot_delete_snapshot", "", ago=n * SECOND) for n in (2, 1)]

    return Attack("snapshots removed", "qumulo", (Expected("qumulo_snapshot_deleted", (user,)),), lines)


# Web


def _kemp(now_us: int, class_id: int, name: str, rest: str, *, ago: int = 0) -> Step:
    head = f"<134>{iso_second((now_us - ago) // SECOND)}+00:00 {_BALANCER.host} CEF:0|Kemp|LM|1.0|{class_id}|{name}|6|"
    return Step("syslog", _BALANCER, Unit(f"{head}vs=10.30.0.15:443 event={name} {rest}".encode(), "cef"))


def _spraying(source: str) -> Attack:
    def lines(now_us: int) -> list[Step]:
        users = [f"{name}{number}" for name in NAMES for number in (1, 2)][:24]
        return [
            _kemp(now_us, 9, "Access Denied", f"srcip={source} user={user} msg=denied access", ago=(24 - n) * 20 * SECOND)
            for n, user in enumerate(users)
        ]

    return Attack("password spraying", "kemp", (Expected("kemp_password_spraying", (source,)),), lines)


def _injection(source: str) -> Attack:
    def lines(now_us: int) -> list[Step]:
        url = "https://shop.example.test/item?id={n}%27%20UNION%20SELECT%20name,pass%20FROM%20users--"
        return [
            _kemp(
                now_us,
                12,
                "Attempt",
                f"srcip={source} srcport={40_000 + n} method=GET url={url.format(n=n)}",
                ago=(15 - n) * SECOND,
            )
            for n in range(15)
        ]

    return Attack("SQL injection", "kemp", (Expected("web_sql_injection", (source,)),), lines)


# Flows


def _exported(flows: Sequence[Flow], now_us: int) -> list[Step]:
    """The router's datagrams, each with its template."""
    steps = []
    for first in range(0, len(flows), _FLOWS_OF_A_DATAGRAM):
        part = flows[first : first + _FLOWS_OF_A_DATAGRAM]
        records = [
            (
                ipv4(one.source), ipv4(one.destination), one.source_port, one.destination_port, 6, one.flags, one.packets,
                one.octets, (now_us - one.ago) // 1000, (now_us - one.ago + one.lasts) // 1000, first + index, b"",
            )
            for index, one in enumerate(part)
        ]  # fmt: skip
        message = Message(10, now_us // SECOND, (IPFIX_V4, DataSet(IPFIX_V4, records)), domain=_DOMAIN, sequence=first)
        steps.append(Step("netflow", _ROUTER, Unit(encode(message), "network-flow", len(part))))
    return steps


def _scan(source: str, target: str) -> Attack:
    flows = tuple(
        Flow(source, target, 51_000 + port, port, 90 * SECOND - port * SECOND // 2, 1, 60, 0x02) for port in range(1, 101)
    )
    return Attack("vertical scan inside", "flows", (Expected("flow_vertical_scan_inside", (source, target)),), flows=flows)


def _beacon(source: str, target: str) -> Attack:
    flows = tuple(Flow(source, target, 52_000 + n, 8443, (_BEATS - n) * MINUTE, 8, 900) for n in range(_BEATS))
    return Attack("beaconing", "flows", (Expected("flow_beaconing", (source, target)),), flows=flows)


def _exfiltration(source: str, target: str) -> Attack:
    flows = tuple(
        Flow(source, target, 53_000 + n, 443, (30 - n) * MINUTE, 400_000, 500_000_000, lasts=50 * SECOND) for n in range(26)
    )
    return Attack("exfiltration", "flows", (Expected("flow_exfiltration_volume", (source,)),), flows=flows)


# Sensors


def _document(number: int, now_us: int, record: Mapping[str, object]) -> dict[str, object]:
    document: dict[str, object] = around_eve(Dice(0, "attack", number), number, now_us)
    return document | {"event": {"module": "suricata", "dataset": "suricata.eve"}, "message": orjson.dumps(record).decode()}


def _signature(number: int, source: str, target: str) -> Attack:
    sample = next(record for record in EVE_SAMPLES if record.get("alert", {}).get("severity") == 1)

    def lines(now_us: int) -> list[Step]:
        time = f"{iso_second(now_us // SECOND)}.{now_us % SECOND:06d}+0000"
        record = sample | {"timestamp": time, "flow_id": FLOW_ID_BASE - 1 - number, "src_ip": source, "dest_ip": target}
        return [Step("beats", _SENSORS, Unit(orjson.dumps(_document(number, now_us, record)), "ids-alert")) for _ in range(3)]

    return Attack("signature of the highest severity", "ids", (Expected("ids_severe", (source, target)),), lines)


def _instrument(number: int) -> Attack:
    sensor = f"harbour-sensor-{10 + number}"
    sample = next(record for record in FLEET_SAMPLES if record.get("severity") == "error")

    def lines(now_us: int) -> list[Step]:
        instrument = f"{sample['source_instrument'].partition('@')[0]}@{sensor}"
        document = sample | {"source_sensor": sensor, "source_instrument": instrument, "timestamp": now_us / SECOND}
        return [Step("beats", _SENSORS, Unit(orjson.dumps(document), "sensor"))]

    return Attack("instrument error", "ids", (Expected("sensor_instrument_error", (sensor,)),), lines)


# Across sources


def _guessed(number: int, user: str, client: str) -> Attack:
    def lines(now_us: int) -> list[Step]:
        refused = [
            _kemp(
                now_us, 9, "Access Denied", f"srcip=198.51.100.{1 + n % 5 + 5 * number} user={user} msg=denied access",
                ago=40 * MINUTE - n * 10 * SECOND,
            )
            for n in range(30)
        ]  # fmt: skip
        deleted = [
            _audit(now_us, client, user, "fs_delete", f"/projects/{number}/{n}.dwg", ago=(_DELETED - n) * SECOND // 2)
            for n in range(_DELETED)
        ]
        return refused + deleted

    expected = tuple(
        Expected(rule, (user,)) for rule in ("kemp_brute_force_user", "qumulo_mass_delete", "login_failures_then_deletions")
    )
    return Attack("guessed password, deleted files", "across", expected, lines)
