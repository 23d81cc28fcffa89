"""Rules about flows find what exporters really send: datagrams through processor and enrichment, alerts with their entities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final, NamedTuple

import pytest

from tests.detect.scenes import BEGIN, DAY, HOUR, MINUTE, RULE_IDS, Unit, audit, eve, rule_set, zeek
from weir.detect.offline import Offline
from weir.local.generate.netflow import NetflowUnits
from weir.local.generate.units import EMPTY
from weir.model.batch import RawBatch
from weir.processors import beats, netflow, syslog
from weir.processors.enrichment import Enrichment, load_enrichment
from weir.processors.outcome import RawCoordinates
from weir.processors.settings import ProcessorSettings
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, V5Datagram, V5Flow, encode, encode_v5

FAMILIES = ("flows/", "across/scan_", "across/reads_")
HOST, SERVER, OUTSIDE = "10.20.7.7", "10.30.4.7", "203.0.113.66"
ATTACKER = "198.51.100.66"
LISTED = "192.0.2.99"
ICMP, TCP, UDP = 1, 6, 17
SYN, USED = 0x02, 0x1B
FLOWS = 20


class Flow(NamedTuple):
    """One flow as a router exports it, at the time it ended (seconds since 1970)."""

    at: float
    source: str
    destination: str
    port: int
    protocol: int = TCP
    packets: int = 6
    octets: int = 600
    flags: int = USED
    source_port: int = 0
    back: int = -1  # octets of the way back; below 0 the exporter counts one way


def specs(*given: tuple[int, ...]) -> tuple[FieldSpec, ...]:
    return tuple(FieldSpec(*one) for one in given)


# IANA's elements: 8 and 12 addresses, 7 and 11 ports, 4 protocol, 6 flags, 2 packets, 1 octets, 152 and 153 begin and end;
# enterprise 29305 of RFC 5103 for the way back.
ONE_WAY: Final = Template(300, specs((8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 2), (2, 8), (1, 8), (152, 8), (153, 8)))
BOTH_WAYS: Final = Template(301, ONE_WAY.fields + specs((2, 8, 29305), (1, 8, 29305)))


def ipfix(flows: list[Flow]) -> bytes:
    """An IPFIX message of these, with its template."""
    template = BOTH_WAYS if flows[0].back >= 0 else ONE_WAY
    rows = []
    for number, f in enumerate(flows):
        ended = round(f.at * 1000)
        source_port = f.source_port or (0 if f.protocol == ICMP else 40000 + (round(f.at * 7) + number) % 20000)
        row = (
            int(IPv4Address(f.source)), int(IPv4Address(f.destination)), source_port, f.port, f.protocol, f.flags, f.packets,
            f.octets, ended - 500, ended,
        )  # fmt: skip
        rows.append(row if f.back < 0 else (*row, max(1, f.back // 1400), f.back))
    return encode(Message(10, round(flows[-1].at), (template, DataSet(template, rows)), domain=1, sequence=0))


def version_5(flows: list[Flow]) -> bytes:
    """The same as NetFlow v5."""
    uptime = 86_400_000
    made = [
        V5Flow(
            source=f.source, destination=f.destination, source_port=f.source_port or 40000 + number, destination_port=f.port,
            protocol=f.protocol, packets=f.packets, octets=f.octets, first=uptime - 500, last=uptime, tcp_flags=f.flags,
        )
        for number, f in enumerate(flows)
    ]  # fmt: skip
    return encode_v5(V5Datagram(flows=made, export_seconds=round(flows[-1].at), uptime=uptime, sequence=0))


@pytest.fixture(scope="module")
def enrichment(tmp_path_factory: pytest.TempPathFactory) -> Enrichment:
    listed = tmp_path_factory.mktemp("intel") / "listed.txt"
    listed.write_text(f"{LISTED}\n", encoding="ascii")
    settings = ProcessorSettings(kafka_bootstrap_servers="none:1", enrich_intel=f"blocklist={listed}", enrich_intel_max_age_days=0)
    return load_enrichment(settings)


_OTHERS = {"syslog": syslog.make_process(), "beats": beats.process}


def fired(
    flows: list[Flow], enrichment: Enrichment, others: Iterable[Unit] = (), datagram: Any = ipfix, exporter: str = "192.0.2.1"
) -> dict[str, list[dict[str, Any]]]:
    """The alerts of these families that flows and other units raise, each as it was told last, by name of the rule."""
    batches: list[tuple[float, str, str, list[bytes]]] = [(0.0, "", "", [])]
    part: list[Flow] = []
    for flow in [*sorted(flows), None]:
        # A datagram is sent when it is full, or when its oldest flow has waited for a minute.
        if part and (flow is None or len(part) == FLOWS or flow.at - part[0].at > MINUTE):
            batches.append((part[-1].at, "netflow", exporter, [datagram(part)]))
            part = []
        if flow is not None:
            part.append(flow)
    for unit in sorted(others):
        last = batches[-1]
        if last[1] == unit.way and len(last[3]) < FLOWS and unit.at - last[0] < MINUTE / FLOWS:
            batches[-1] = (unit.at, unit.way, last[2], [*last[3], unit.data])
        else:
            batches.append((unit.at, unit.way, "192.0.2.5", [unit.data]))
    detection = Offline(rule_set())
    for offset, (at, way, source, units) in enumerate(sorted(batches[1:])):
        received = round(at * 1e6) + 100_000
        raw = RawBatch(b"%016d" % offset, "here", "r", "udp", source, 2055, received, units)
        process = netflow.process if way == "netflow" else _OTHERS[way]
        outcome = process(raw, RawCoordinates(f"raw.{way}", 0, offset))
        assert not outcome.dead, outcome.dead
        enrichment.apply(outcome.events)
        detection.feed(outcome.events, received, f"raw.{way}", 0, offset)
        for topic in ("netflow", *_OTHERS):
            detection.tick(received, f"raw.{topic}")
    ours = {one.id for one in rule_set().correlations if one.announce and one.file.startswith(FAMILIES)}
    names = {identity: name for name, identity in RULE_IDS.items()}
    found: dict[str, list[dict[str, Any]]] = {}
    for alert in {alert["alert_id"]: alert for alert in detection.alerts}.values():
        if alert["rule_id"] in ours:
            found.setdefault(names[alert["rule_id"]], []).append(alert)
    return found


@dataclass(frozen=True)
class Scene:
    """What happens, and the alerts of these families that it raises, with some of their entities."""

    name: str
    flows: list[Flow]
    raises: dict[str, dict[str, str]]
    others: list[Unit] = field(default_factory=list)
    datagram: Any = ipfix


def times(seconds: float, count: int, after: float = 0.0) -> list[tuple[float, int]]:
    return [(BEGIN + after + number * seconds, number + 1) for number in range(count)]


PAIR = {"source_address": HOST, "destination_address": SERVER}
OUT = {"source_address": HOST, "destination_address": OUTSIDE}

SCENES = [
    Scene(
        "a host inside tries the ports of a server",
        [Flow(at, HOST, SERVER, n, packets=1, octets=44, flags=SYN) for at, n in times(0.1, 120)],
        {"flow_vertical_scan_inside": PAIR},
    ),
    Scene(
        "the same by NetFlow v5, with the refusals as flows of their own",
        [
            flow
            for at, n in times(0.1, 120)
            for flow in (
                Flow(at, HOST, SERVER, n, packets=1, octets=44, flags=SYN, source_port=40000 + n),
                Flow(at, SERVER, HOST, 40000 + n, packets=1, octets=40, flags=0x14, source_port=n),
            )
        ],
        {"flow_vertical_scan_inside": PAIR},
        datagram=version_5,
    ),
    Scene(
        "a worm looks for file servers",
        [Flow(at, HOST, f"10.30.{n % 4}.{n}", 445, packets=2, octets=96, flags=SYN) for at, n in times(0.5, 200)],
        {"flow_horizontal_scan_inside": {"source_address": HOST}},
    ),
    Scene(
        "the Internet tries the ports of a server, and attacks it",
        [Flow(at, ATTACKER, SERVER, n, packets=1, octets=44, flags=SYN) for at, n in times(0.1, 120)],
        {
            "flow_vertical_scan_outside": {"source_address": ATTACKER, "destination_address": SERVER},
            "scan_then_ids_alert": {"source_address": ATTACKER, "destination_address": SERVER},
        },
        [
            eve(
                BEGIN + 10 * MINUTE, "alert", src_ip=ATTACKER, dest_ip=SERVER,
                alert={"action": "allowed", "gid": 1, "signature_id": 9, "rev": 1, "signature": "EXPLOIT it", "severity": 1},
            )
        ],
    ),
    Scene(
        "the Internet looks for remote desktops",
        [Flow(at, ATTACKER, f"10.30.4.{n}", 3389, packets=1, octets=44, flags=SYN) for at, n in times(0.5, 200)],
        {"flow_horizontal_scan_outside": {"source_address": ATTACKER}},
    ),
    Scene(
        "passwords are guessed at SSH",
        [Flow(at, ATTACKER, SERVER, 22, packets=14, octets=2600) for at, _ in times(2, 120)],
        {"flow_login_brute_force": {"source_address": ATTACKER, "destination_address": SERVER}},
    ),
    Scene(
        "an implant asks for orders every five minutes",
        [Flow(at, HOST, OUTSIDE, 443, packets=9, octets=1800) for at, _ in times(300, 20)],
        {"flow_beaconing": OUT},
    ),
    Scene(
        "an implant asks every minute, while a long connection to elsewhere is reported every minute too",
        [Flow(at, HOST, OUTSIDE, 8443, packets=9, octets=1800) for at, _ in times(60, 40)]
        + [Flow(at + 7, HOST, "203.0.113.5", 443, flags=0x18, source_port=50000) for at, _ in times(60, 40)],
        {"flow_beaconing": OUT | {"destination_address": OUTSIDE}},
    ),
    Scene(
        "forty gigabytes leave, counted both ways",
        [Flow(at, SERVER, OUTSIDE, 443, packets=10_000_000, octets=10_000_000_000, back=90_000_000) for at, _ in times(420, 4)],
        {
            "flow_exfiltration_volume": {"source_address": SERVER, "destination_address": OUTSIDE},
            "flow_exfiltration_ratio": {"source_address": SERVER, "destination_address": OUTSIDE},
        },
    ),
    Scene(
        "a host that sent next to nothing for three weeks sends two gigabytes",
        [Flow(at, SERVER, "203.0.113.5", 443, packets=15_000, octets=15_000_000) for at, _ in times(HOUR, 21 * 24)]
        + [Flow(at, SERVER, OUTSIDE, 443, packets=200_000, octets=200_000_000) for at, _ in times(100, 10, 21 * DAY)],
        {"flow_exfiltration_unusual": {"source_address": SERVER}},
    ),
    Scene(
        "a tunnel through DNS",
        [Flow(at, HOST, OUTSIDE, 53, UDP, 6000, 1_200_000, source_port=50053) for at, _ in times(60, 30)],
        {"flow_dns_tunnel_long": OUT, "flow_dns_tunnel_volume": OUT},
    ),
    Scene(
        "a tunnel through ICMP",
        [Flow(at, HOST, OUTSIDE, 0x0800, ICMP, 600, 700_000, flags=0) for at, _ in times(60, 15)],
        {"flow_icmp_tunnel": OUT},
    ),
    Scene(
        "somebody configures a switch by Telnet",
        [Flow(BEGIN, HOST, "10.40.0.2", 23, packets=90, octets=9000)],
        {"flow_cleartext_protocol": {"source_address": HOST, "destination_address": "10.40.0.2"}},
    ),
    Scene(
        "a server listens on a port of its own after a week of HTTPS",
        [Flow(at, HOST, SERVER, 443) for at, _ in times(HOUR, 8 * 24)] + [Flow(BEGIN + 8 * DAY + 60, HOST, SERVER, 4444)],
        {"flow_new_service": {"destination_address": SERVER}},
    ),
    Scene(
        "a host talks to a listed address",
        [Flow(BEGIN, HOST, LISTED, 443)],
        {"intelligence_hit": {"source_address": HOST, "destination_address": LISTED}},
    ),
    Scene(
        "a name resolves to a listed address, which Zeek saw",
        [],
        {"intelligence_hit": {"source_address": HOST}},
        [
            zeek(
                BEGIN, "http", **{"id.orig_h": HOST, "id.orig_p": 5000, "id.resp_h": LISTED, "id.resp_p": 80}, method="GET",
                host="x.example.test", uri="/",
            )
        ],
    ),
    Scene(
        "a listed address knocks",
        [Flow(BEGIN, LISTED, SERVER, 443, packets=1, octets=44, flags=SYN)],
        {"intel_flow_inbound": {"source_address": LISTED}},
    ),
    Scene(
        "the projects are read, and sent away from the same address",
        [Flow(at, HOST, OUTSIDE, 443, packets=200_000, octets=200_000_000) for at, _ in times(60, 2, HOUR)],
        {"reads_then_exfiltration": {"source_address": HOST}},
        [audit(at, "fs_read_data", f"/projects/{n}.dwg", client=HOST) for at, n in times(1, 600)],
    ),
]  # fmt: skip


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_what_exporters_send_raises_these_alerts_and_no_others(scene: Scene, enrichment: Enrichment) -> None:
    found = fired(scene.flows, enrichment, scene.others, scene.datagram)
    assert set(found) == set(scene.raises)
    for name, entities in scene.raises.items():
        (told,) = found[name]
        assert entities.items() <= told["entities"].items(), name


def test_every_rule_of_these_families_that_alerts_has_a_scene() -> None:
    ours = {one.id for one in rule_set().correlations if one.announce and one.file.startswith(FAMILIES)}
    assert {name for name, identity in RULE_IDS.items() if identity in ours} == {name for scene in SCENES for name in scene.raises}


def test_an_alert_of_a_hit_shows_the_indicator_and_who_lists_it(enrichment: Enrichment) -> None:
    (told,) = fired([Flow(BEGIN, HOST, LISTED, 443)], enrichment)["intelligence_hit"]
    assert LISTED in str(told["values"])
    assert "blocklist" in str(told["values"])


def test_the_background_that_the_demo_sends_is_quiet(enrichment: Enrichment) -> None:
    """Half of the datagrams of the demo, as quickly: web, DNS, SMB and SSH of thousands of clients, sampled up to 1 in 512."""
    units = NetflowUnits(1, 300, specials=False)
    begin = round(BEGIN * 1e6)
    waiting: dict[str, list[bytes]] = {}
    announced: dict[str, list[bytes]] = {}
    detection = Offline(rule_set())
    events = 0
    for number, exporter in units.numbers():
        at = begin + number * 22_000
        unit = units.unit(number, at)
        if unit.makes == EMPTY:
            # Templates and sampling, which a receiver embeds in each batch.
            announced[exporter.address] = [unit.data]
            continue
        waiting.setdefault(exporter.address, []).append(unit.data)
        if len(waiting[exporter.address]) < 10:
            continue
        data = announced.get(exporter.address, []) + waiting.pop(exporter.address)
        raw = RawBatch(b"%016d" % number, "here", "r", "udp", exporter.address, 2055, at, data)
        outcome = netflow.process(raw, RawCoordinates("raw.netflow", 0, number))
        assert not outcome.dead
        enrichment.apply(outcome.events)
        events += sum(map(len, outcome.events.values()))
        detection.feed(outcome.events, at, "raw.netflow", 0, number)
        detection.tick(at, "raw.netflow")
    detection.tick(begin + 2 * 3_600_000_000, "raw.netflow")
    assert events > 6_000
    assert [alert["summary"] for alert in detection.alerts] == []
