"""Generated units: the decoders make of each what it says it is, from the same seed always the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import orjson
import pytest

from weir.local.generate.beats import FLOW_ID_BASE, BeatsUnits
from weir.local.generate.netflow import EXPORTERS, NetflowUnits
from weir.local.generate.syslog import MASS_DELETE_CLIENT, SOURCES, SyslogUnits
from weir.local.generate.units import EMPTY, MALFORMED, Sent, Unit, mark, marks
from weir.protocols import beats, cef, eve, kemp, netflow, qumulo, sensorfleet, syslog

NOW = 1_795_225_306_013_456
STEP = 300
MADE_UP = [ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32")]


def units(made: SyslogUnits | BeatsUnits | NetflowUnits, start: int = NOW) -> list[Unit]:
    return [made.unit(number, start + number * STEP) for number in range(made.amount)]


def syslog_dataset(unit: bytes, now_us: int) -> str:
    """What the protocol modules make of a line; ValueError where they refuse it."""
    if not unit.strip():
        return EMPTY
    message = syslog.parse(unit, received_us=now_us)
    body = qumulo.recognise(message)
    if body is not None:
        qumulo.parse(body)
        return "file-audit"
    start = cef.find(message.message)
    if start >= 0:
        cef.parse(message.message[start:])
        return "cef"
    return "syslog"


@pytest.fixture(scope="module")
def made() -> SyslogUnits:
    return SyslogUnits(1, 3000, mass_deletes=200)


@pytest.fixture(scope="module")
def lines(made: SyslogUnits) -> list[Unit]:
    return units(made)


class TestSyslog:
    def test_every_line_is_read_as_what_it_is_meant_to_be(self, lines: list[Unit]) -> None:
        kinds = Counter(unit.makes for unit in lines)
        assert set(kinds) == {"file-audit", "cef", "syslog", EMPTY, MALFORMED}
        assert kinds[EMPTY] == kinds[MALFORMED] == 1
        for number, unit in enumerate(lines):
            if unit.makes != MALFORMED:
                assert syslog_dataset(unit.data, NOW + number * STEP) == unit.makes, unit.data

    def test_the_malformed_line_is_a_cef_header_that_breaks_off(self, lines: list[Unit]) -> None:
        (bad,) = [unit for unit in lines if unit.makes == MALFORMED]
        message = syslog.parse(bad.data, received_us=NOW)
        with pytest.raises(cef.CefError):
            cef.parse(message.message[cef.find(message.message) :])

    def test_no_line_holds_a_line_feed_that_would_end_it_early(self, lines: list[Unit]) -> None:
        assert not any(b"\n" in unit.data for unit in lines if unit.makes != EMPTY)

    def test_every_source_sends_in_its_own_form(self, made: SyslogUnits, lines: list[Unit]) -> None:
        seen = set()
        for number, unit in enumerate(lines):
            if unit.makes in {EMPTY, MALFORMED}:
                continue
            source = made.source(number)
            seen.add(source)
            message = syslog.parse(unit.data, received_us=NOW)
            assert message.format == ("rfc5424" if source.form.endswith("5424") else "rfc3164")
            if not source.form.startswith("plain"):
                assert message.hostname == source.host
        assert seen == set(SOURCES)
        assert len({source.address for source in SOURCES}) == len(SOURCES)

    def test_times_are_fresh(self, lines: list[Unit]) -> None:
        for number, unit in enumerate(lines):
            if unit.makes in {EMPTY, MALFORMED}:
                continue
            sent_at = NOW + number * STEP
            stamp = syslog.parse(unit.data, received_us=sent_at).timestamp_us
            # One sample has the nil value for its time; RFC 3164 has whole seconds.
            assert stamp is None or sent_at - 1_000_000 < stamp <= sent_at

    def test_a_vendors_receipt_time_is_fresh_in_either_form(self, lines: list[Unit]) -> None:
        times = set()
        for unit in lines:
            if unit.makes == "cef" and (found := re.search(rb" ?\brt=(.*?) [a-z]+=", unit.data)):
                times.add(found[1].decode())
        assert any(text.startswith("Nov 21 2026 ") and text.endswith(" UTC") for text in times)
        assert any(text.isdigit() and abs(int(text) - NOW // 1000) < 60_000 for text in times)

    def test_all_kemp_classes_and_the_qumulo_operations_of_an_ordinary_day_occur(self, lines: list[Unit]) -> None:
        classes, operations = set(), set()
        for unit in lines:
            message = syslog.parse(unit.data, received_us=NOW)
            if unit.makes == "cef":
                event = kemp.decode(cef.parse(message.message[cef.find(message.message) :]))
                if event is not None:
                    classes.add(event.class_id)
                    assert event.virtual_service_ip or event.virtual_service_index is not None
            elif unit.makes == "file-audit":
                operations.add(qumulo.parse(qumulo.recognise(message) or "").operation)
        refusals = {3, 5, 9, 10, 13, 15, 16, 17, 20}
        assert classes - refusals == set(range(18)) - refusals
        assert len(classes & refusals) > 4
        assert len(operations) > 20
        # What an administrator does may be an alert by itself: the background has none of it.
        assert not [name for name in operations if name.startswith(("audit_", "auth_", "cluster_"))]

    def test_the_running_number_is_in_nearly_every_line_and_is_the_right_one(self, lines: list[Unit]) -> None:
        found = 0
        for number, unit in enumerate(lines):
            for seed, kind, value in marks(unit.data.decode()):
                assert (seed, kind, value) == (1, "s", number)
                found += 1
        # Logins, sessions and a few Kemp classes have no free text.
        assert found > len(lines) * 0.75

    def test_a_kemp_user_keeps_its_unescaped_backslash(self, lines: list[Unit]) -> None:
        assert any(re.search(rb"event=Logged off user=EXAMPLE\\[a-z]+[0-9]+ srcip=", unit.data) for unit in lines)

    def test_values_vary(self, lines: list[Unit]) -> None:
        text = b"\n".join(unit.data for unit in lines).decode()
        assert len(set(re.findall(r"(?:srcip|src)=(\S+)", text))) > 200
        assert len(set(re.findall(r"(?:srcport|spt)=(\d+)", text))) > 500
        assert len(set(re.findall(r'"EXAMPLE\\(\w+)"', text))) > 200

    def test_addresses_are_nobodys(self, lines: list[Unit]) -> None:
        text = b"\n".join(unit.data for unit in lines).decode()
        for word in set(re.findall(r"\b(?:\d{1,3}\.){3}\d{1,3}\b", text)) - {"0.0.0.0", "122.0.0.0", "17.0.0.0"}:
            assert any(ip_address(word) in network for network in MADE_UP), word


@pytest.fixture(scope="module")
def deletes() -> list[tuple[int, str, qumulo.QumuloAudit]]:
    found: list[tuple[int, str, qumulo.QumuloAudit]] = []
    made = SyslogUnits(3, 40_000, mallory="AD\\trent")
    for number in range(40_000):
        source = made.source(number)
        if source.form.startswith("qumulo"):
            data = made.unit(number, NOW).data
            if b",fs_delete,ok," in data:
                body = qumulo.recognise(syslog.parse(data, received_us=NOW))
                found.append((number, source.transport, qumulo.parse(body or "")))
    return found


class TestMassDelete:
    """One user's deletes amid those of many."""

    def test_is_500_deletes_by_one_user_from_one_client_over_both_transports(
        self, deletes: list[tuple[int, str, qumulo.QumuloAudit]]
    ) -> None:
        mass = [(number, transport, audit) for number, transport, audit in deletes if audit.user_id == "AD\\trent"]
        assert len(mass) == 500
        assert {audit.client_ip for _, _, audit in mass} == {MASS_DELETE_CLIENT}
        assert len({audit.file_path for _, _, audit in mass}) == 500
        transports = Counter("udp" if transport == "udp" else "tcp" for _, transport, _ in mass)
        assert min(transports.values()) > 200
        # In 13 seconds for 40,000 lines, this is under two.
        assert mass[-1][0] - mass[0][0] < 40_000 / 7

    def test_stands_out_from_a_background_in_which_nobody_deletes_much(
        self, deletes: list[tuple[int, str, qumulo.QumuloAudit]]
    ) -> None:
        others = Counter(audit.user_id for _, _, audit in deletes if audit.user_id != "AD\\trent")
        assert sum(others.values()) > 800
        assert len(others) > 300
        assert max(others.values()) < 20

    def test_needs_room(self) -> None:
        with pytest.raises(ValueError, match="ask for 1004 or more"):
            SyslogUnits(1, 999)

    @pytest.mark.parametrize("deletes", range(6))
    def test_small_amounts_hold_all_that_is_asked_for(self, deletes: int) -> None:
        lines = units(SyslogUnits(1, 2 * deletes + 4, mass_deletes=deletes))
        assert sum(MASS_DELETE_CLIENT.encode() in unit.data for unit in lines) == deletes
        assert Counter(unit.makes for unit in lines if unit.makes in {EMPTY, MALFORMED}) == {EMPTY: 1, MALFORMED: 1}


def test_syslog_over_one_transport_only_keeps_the_amount() -> None:
    made = SyslogUnits(1, 300, transports=frozenset({"lines", "counted"}), mass_deletes=10)
    assert {made.source(number).transport for number in range(300)} == {"lines", "counted"}
    kinds = Counter(unit.makes for unit in units(made))
    assert kinds[EMPTY] == 0  # a stream cannot carry a blank line
    assert kinds[MALFORMED] == 1


@pytest.fixture(scope="module")
def documents() -> list[Unit]:
    return units(BeatsUnits(1, 2000))


class TestBeats:
    def test_every_document_is_what_it_is_meant_to_be(self, documents: list[Unit]) -> None:
        datasets = {"alert": "ids-alert", "flow": "network-flow", "netflow": "network-flow", "record": "network-log"}
        for unit in documents:
            if unit.makes == MALFORMED:
                continue
            document = beats.parse(unit.data)
            kind, record = beats.dispatch(document)
            if kind == "eve":
                assert record is not None
                view = eve.decode(record)
                assert view is not None
                assert datasets[view.kind] == unit.makes
            else:
                data = document.get("data")
                log = data.get("_path") if isinstance(data, dict) else None
                assert unit.makes == {None: "sensor", "conn": "network-flow"}.get(log, "network-log")
        assert {unit.makes for unit in documents} == {"ids-alert", "network-flow", "network-log", "sensor", MALFORMED}

    def test_eve_comes_in_a_message_at_the_root_and_in_an_envelope(self, documents: list[Unit]) -> None:
        ways: Counter[str] = Counter()
        for unit in documents:
            if unit.makes == MALFORMED:
                continue
            document = orjson.loads(unit.data)
            if sensorfleet.recognise(document):
                ways["envelope with eve" if "event_type" in document["data"] else "envelope"] += 1
            elif "event_type" in document:
                ways["root"] += 1
            else:
                ways["message" if document["message"].startswith('{"timestamp"') else "log line"] += 1
        assert set(ways) == {"envelope with eve", "envelope", "root", "message", "log line"}
        assert min(ways.values()) > 40

    def test_exactly_one_document_is_not_json(self, documents: list[Unit]) -> None:
        (bad,) = [unit for unit in documents if unit.makes == MALFORMED]
        with pytest.raises(beats.BeatsError):
            beats.parse(bad.data)

    def test_filebeats_documents_say_who_shipped_them_and_when(self, documents: list[Unit]) -> None:
        for number, unit in enumerate(documents):
            if unit.makes == MALFORMED:
                continue
            document = beats.parse(unit.data)
            shipped = beats.shipping(document)
            assert shipped.timestamp == (NOW + number * STEP) // 1000 * 1000
            if not sensorfleet.recognise(document):
                assert shipped.agent_type == "filebeat"
                assert None not in {shipped.host_name, shipped.log_file_path, shipped.log_offset}

    def test_records_have_fresh_times_and_a_flow_ends_after_it_began(self, documents: list[Unit]) -> None:
        flows = 0
        for number, unit in enumerate(documents):
            record = None if unit.makes == MALFORMED else beats.extract_eve(beats.parse(unit.data))
            view = None if record is None else eve.decode(record)
            if view is None:
                continue
            assert view.fields["timestamp"] == NOW + number * STEP
            if (end := view.fields.get("event_end")) is not None:
                assert NOW - 120_000_000 < view.fields["event_start"] < end < NOW + number * STEP
                flows += 1
        assert flows > 200

    def test_the_running_number_is_in_every_document_but_statistics(self, documents: list[Unit]) -> None:
        for number, unit in enumerate(documents):
            record = None if unit.makes == MALFORMED else beats.extract_eve(beats.parse(unit.data))
            if record is not None and record["event_type"] == "stats":
                continue
            in_flow_id = record is not None and record.get("flow_id") == FLOW_ID_BASE + number
            assert in_flow_id or marks(unit.data.decode()) == [(1, "b", number)]


@pytest.fixture(scope="module")
def decoded() -> dict[str, list[netflow.DecodeResult]]:
    """Each exporter's datagrams as a decoder of its own reads them, the malformed one left out."""
    made = NetflowUnits(1, 400)
    decoders = {spec.address: netflow.Decoder() for spec in EXPORTERS}
    results: dict[str, list[netflow.DecodeResult]] = {spec.name: [] for spec in EXPORTERS}
    for number, spec in made.numbers():
        unit = made.unit(number, NOW + number * 10_000)
        if unit.makes == MALFORMED:
            continue
        result = decoders[spec.address].decode(unit.data)
        assert len(result.flows) == (unit.events if unit.makes == "network-flow" else 0)
        assert result.empty == (unit.makes == EMPTY)
        results[spec.name].append(result)
    return results


class TestNetflow:
    def test_every_datagram_decodes_whole(self, decoded: dict[str, list[netflow.DecodeResult]]) -> None:
        for results in decoded.values():
            assert len(results) > 90
            assert all(result.complete for result in results)

    def test_v9_and_ipfix_begin_with_their_templates_alone_and_repeat_them(
        self, decoded: dict[str, list[netflow.DecodeResult]]
    ) -> None:
        for name in ("core-v9", "branch-ipfix", "wan-v9"):
            empty = [index for index, result in enumerate(decoded[name]) if result.empty]
            assert empty == [0, 40, 80]

    def test_sequence_numbers_count_what_each_version_counts(self, decoded: dict[str, list[netflow.DecodeResult]]) -> None:
        flows = records = 0
        for result in decoded["edge-v5"]:
            assert result.header.sequence == flows
            flows += len(result.flows)
        assert [result.header.sequence for result in decoded["core-v9"]] == list(range(len(decoded["core-v9"])))
        for result in decoded["branch-ipfix"]:
            assert result.header.sequence == records
            records += result.records

    def test_sampling_scales_what_each_exporter_counts(self, decoded: dict[str, list[netflow.DecodeResult]]) -> None:
        for name, interval in (("edge-v5", 64), ("core-v9", 100), ("branch-ipfix", 10), ("wan-v9", 512)):
            for result in decoded[name]:
                for flow in result.flows:
                    assert flow["flow_sampling_interval"] == interval
                    assert flow["network_bytes"] == (flow["flow_raw_bytes"] or 0) * interval

    def test_flows_end_shortly_before_their_export_and_uptimes_advance(
        self, decoded: dict[str, list[netflow.DecodeResult]]
    ) -> None:
        for name, results in decoded.items():
            uptimes = [result.header.uptime for result in results]
            if name != "branch-ipfix":
                assert uptimes == sorted(uptimes)
                assert uptimes[0] > 86_000_000
            for result in results:
                for flow in result.flows:
                    start, end = flow["event_start_us"], flow["event_end_us"]
                    assert start is not None
                    assert end is not None
                    assert result.header.export_us - 80_000_000 < start <= end <= result.header.export_us

    def test_traffic_is_web_dns_smb_and_ssh_of_nobodys_addresses(self, decoded: dict[str, list[netflow.DecodeResult]]) -> None:
        ports: Counter[int] = Counter()
        types: Counter[str | None] = Counter()
        for results in decoded.values():
            for result in results:
                for flow in result.flows:
                    types[flow["network_type"]] += 1
                    source, destination = flow["source_ip"], flow["destination_ip"]
                    for address in (source, destination):
                        assert any(ip_address(address or "") in network for network in MADE_UP)
                    ports.update({flow["source_port"] or 0, flow["destination_port"] or 0} & {22, 53, 80, 443, 445})
        assert set(ports) == {22, 53, 80, 443, 445}
        assert set(types) == {"ipv4", "ipv6"}

    def test_flows_carry_their_running_number_where_the_template_has_room(
        self, decoded: dict[str, list[netflow.DecodeResult]]
    ) -> None:
        for name in ("core-v9", "branch-ipfix", "wan-v9"):
            numbers = [int(flow["flow_id"] or "") for result in decoded[name] for flow in result.flows]
            assert numbers == list(range(len(numbers)))

    def test_ipfix_names_users_in_a_field_of_variable_length(self, decoded: dict[str, list[netflow.DecodeResult]]) -> None:
        flows = [flow for result in decoded["branch-ipfix"] for flow in result.flows]
        users = {str(flow["user_name"]) for flow in flows if flow["network_type"] == "ipv4"}
        assert all(re.fullmatch(r"[a-z]+[0-9]+", user) for user in users)
        assert len({len(user) for user in users}) > 3

    def test_exactly_one_datagram_is_of_no_version(self) -> None:
        bad = [unit for unit in units(NetflowUnits(1, 60)) if unit.makes == MALFORMED]
        assert len(bad) == 1
        with pytest.raises(netflow.FlowError):
            netflow.scan(bad[0].data)
        with pytest.raises(netflow.FlowError):
            netflow.Decoder().decode(bad[0].data)

    def test_datagrams_fit_an_ethernet_frame(self) -> None:
        assert max(len(unit.data) for unit in units(NetflowUnits(1, 200))) <= 1472


MAKERS: list[Callable[[int], SyslogUnits | BeatsUnits | NetflowUnits]] = [
    lambda seed: SyslogUnits(seed, 400, mass_deletes=20),
    lambda seed: BeatsUnits(seed, 400),
    lambda seed: NetflowUnits(seed, 80),
]


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_gives_the_same_units_and_another_seed_others(
    make: Callable[[int], SyslogUnits | BeatsUnits | NetflowUnits],
) -> None:
    first = units(make(5))
    assert units(make(5)) == first
    other = units(make(6))
    assert len(other) == len(first)
    assert sum(one == two for one, two in zip(first, other, strict=True)) < len(first) / 10


def test_marks_are_found_in_any_text() -> None:
    assert marks(f"/a/{mark(7, 's', 12)}/b.txt and {mark(8, 'b', 0)}") == [(7, "s", 12), (8, "b", 0)]
    assert marks("own-1-s-2x") == []


def test_sent_adds_up() -> None:
    one, two = Sent(), Sent()
    one.add(Unit(b"12345", "cef"))
    one.add(Unit(b"1", EMPTY))
    two.add(Unit(b"123", "network-flow", 30))
    two.add(Unit(b"12", MALFORMED))
    total = one + two
    assert (total.units, total.bytes, total.empty, total.malformed) == (4, 11, 1, 1)
    assert total.events == {"cef": 1, "network-flow": 30}


def test_the_processors_count_as_the_generator_does() -> None:
    """Events by dataset, empty and dead units: what a run compares end to end."""
    from weir.model.batch import RawBatch
    from weir.processors import beats as beats_processor
    from weir.processors import netflow as netflow_processor
    from weir.processors.outcome import RawCoordinates
    from weir.processors.syslog import make_process

    where = RawCoordinates("raw", 0, 0)
    flows = NetflowUnits(1, 120)
    by_exporter: dict[str, list[Unit]] = {}
    for number, spec in flows.numbers():
        by_exporter.setdefault(spec.address, []).append(flows.unit(number, NOW))
    shares = [
        (make_process(), units(SyslogUnits(1, 800, mass_deletes=50))),
        (beats_processor.process, units(BeatsUnits(1, 800))),
        *((netflow_processor.process, share) for share in by_exporter.values()),
    ]
    for process, share in shares:
        sent = Sent()
        for unit in share:
            sent.add(unit)
        outcome = process(RawBatch(bytes(16), "s", "r", "udp", "127.0.0.2", 1, NOW, [unit.data for unit in share]), where)
        assert {dataset: len(records) for dataset, records in outcome.events.items()} == sent.events
        assert (len(outcome.dead), outcome.units_empty) == (sent.malformed, sent.empty)
