"""What is known of exporters over UDP: restarts, expiry, names, loss, sFlow, the copy on disk."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path

import pytest

from tests.receivers.netflow.flow_support import FLOW, OTHER, AtWork, at_work, decoded, flow, ipfix, message, other
from tests.support import eventually
from weir.bus.codec import Decoder as RecordDecoder
from weir.model.sequences import merge
from weir.processors.netflow import process
from weir.processors.outcome import RawCoordinates
from weir.protocols.netflow import scan
from weir.protocols.netflow.encode import DataSet, FieldSpec, Template, V5Datagram, V5Flow, Withdrawal, encode_v5, encode_v7, ipv4
from weir.receivers.netflow.local_copy import CopyError, FlowCopy
from weir.receivers.netflow.state import AT_HEADER, FlowStateCodec, RunRecord, StateKey, StateRecord, state_key

WHERE = RawCoordinates("weir.raw.netflow.v1", 0, 0)
# Options: INPUT_SNMP and IF_NAME with a scope of the system (v9), and flows that name an interface.
INTERFACES = Template(301, [FieldSpec(10, 4), FieldSpec(82, 16)], [FieldSpec(1, 4)])
THROUGH = Template(302, [FieldSpec(8, 4), FieldSpec(10, 4), FieldSpec(1, 4)])
(FLOW_RECORD,) = scan(message(FLOW)).templates
STATE = "weir.state.netflow-templates.v1"


def sflow(sequence: int, *, sub_agent: int = 0, uptime: int = 1_000) -> bytes:
    """A datagram of sFlow version 5 without samples."""
    fields = (5, 1, int.from_bytes(ipv4("192.0.2.77"), "big"), sub_agent, sequence, uptime, 0)
    return b"".join(n.to_bytes(4, "big") for n in fields)


def state_of(work: AtWork) -> dict[str, bytes | None]:
    """What a reader of the compacted topic finds."""
    return {key: value for topic, key, value in work.producer.taken if topic == STATE}


class TestPorts:
    def test_each_kind_is_taken_on_any_port_for_what_it_is(self) -> None:
        with at_work(netflow_port=0, ipfix_port=0, sflow_port=0) as work:
            v5 = encode_v5(V5Datagram([V5Flow("10.0.0.1", "10.0.0.5")], 1_790_000_000))
            for name in ("netflow", "ipfix", "sflow"):
                work.send(name, v5, message(FLOW, flow(1, 11)), ipfix(FLOW, flow(2, 22)), sflow(1))
            batches = work.wait_for(12)
            assert {b.listener_port for b in batches} == set(work.receiver.ports.values())
            assert sum(1 for unit in work.units() if unit == sflow(1)) == 3
            rest = [b.only([i for i, u in enumerate(b.units) if u != sflow(1)]) for b in batches]
            assert len(decoded([b for b in rest if b.units])) == 9

    def test_minus_one_is_off(self) -> None:
        with at_work() as work:
            assert work.receiver.ports == {}


class TestRestart:
    def test_old_templates_are_void_when_the_uptime_begins_anew(self) -> None:
        """What the old template would make of the new run's data is nonsense, and would look like any flow."""
        with at_work(netflow_port=0, netflow_hold_seconds=60) as work:
            work.send("netflow", message(FLOW, sequence=100, uptime=900_000), message(flow(1, 11), sequence=101, uptime=900_100))
            work.wait_for(2)
            work.send("netflow", message(other(2, 22), sequence=3, uptime=10))
            eventually(lambda: len(work.receiver.hold) == 1)
            assert work.restarts == ["netflow-v9"]
            work.send("netflow", message(OTHER, sequence=4, uptime=20))
            assert decoded(work.wait_for(4)) == [("10.0.0.1", 11), ("10.0.0.2", 22)]
            assert work.events == ["void"]
            run = RecordDecoder()(state_of(work)["127.0.0.1|9|7|run|0"] or b"")["run"]
            assert run["began_at"] > 0

    def test_a_template_that_comes_first_after_the_restart_stays(self) -> None:
        with at_work(netflow_port=0, netflow_hold_seconds=60) as work:
            work.send("netflow", message(FLOW, sequence=100, uptime=900_000), message(flow(1, 11), sequence=101, uptime=900_100))
            work.wait_for(2)
            work.send("netflow", message(OTHER, sequence=0, uptime=10), message(other(2, 22), sequence=1, uptime=20))
            assert decoded(work.wait_for(4)) == [("10.0.0.1", 11), ("10.0.0.2", 22)]
            assert work.restarts == ["netflow-v9"]

    def test_an_ipfix_exporter_shows_it_by_two_messages_that_continue_each_other(self) -> None:
        with at_work(ipfix_port=0, netflow_hold_seconds=60) as work:
            work.send("ipfix", ipfix(FLOW), *(ipfix(flow(n, n, count=10), sequence=10 * n) for n in range(40)))
            work.wait_for(41)
            work.send("ipfix", ipfix(OTHER, at=5), ipfix(other(1, 9), at=5), ipfix(other(2, 22), sequence=1, at=5))
            assert decoded(work.wait_for(44))[-2:] == [("10.0.0.1", 9), ("10.0.0.2", 22)]
            assert work.restarts == ["ipfix"]
            assert work.run.stop() == 0
            assert sum(loss.missing for loss in merge(work.sequences())) == 0

    def test_what_another_receiver_says_of_a_restart_counts_here(self) -> None:
        with at_work(netflow_port=0, netflow_hold_seconds=60) as work:
            work.send("netflow", message(FLOW, sequence=100, uptime=900_000))
            work.wait_for(1)
            now = time.time_ns() // 1000
            run = StateRecord("127.0.0.1", StateKey(9, 7, "run", 0), now, RunRecord(9, 7, now // 1_000_000, now))
            work.call(work.receiver._shared, [run])
            work.send("netflow", message(other(2, 22), sequence=3, uptime=900_050))
            eventually(lambda: len(work.receiver.hold) == 1)
            assert work.events == ["void"]


class TestExpiry:
    def test_a_template_that_is_not_announced_again_expires_for_all(self) -> None:
        with at_work(netflow_port=0, netflow_template_seconds=10, netflow_refresh_seconds=5) as work:
            work.send("netflow", message(FLOW))
            work.wait_for(1)
            exporters = work.receiver.exporters
            later = time.time_ns() // 1000 + 9_000_000
            work.call(exporters.expire, later)
            work.call(exporters.expire, later + 3_000_000)
            eventually(lambda: work.events == ["expired"])
            eventually(lambda: state_of(work)["127.0.0.1|9|7|template|256"] is None)
            work.send("netflow", message(flow(1)))
            eventually(lambda: len(work.receiver.hold) == 1)

    def test_what_the_topic_holds_of_long_ago_is_not_used(self) -> None:
        with at_work(netflow_port=0, netflow_template_seconds=10, netflow_refresh_seconds=5) as work:
            old = time.time_ns() // 1000 - 11_000_000
            record = StateRecord("127.0.0.1", state_key(FLOW_RECORD), old, FLOW_RECORD)
            work.call(work.receiver._shared, [record])
            work.send("netflow", message(flow(1)))
            eventually(lambda: len(work.receiver.hold) == 1)
            assert state_of(work) == {"127.0.0.1|9|7|template|256": None}

    def test_a_tombstone_undoes_only_what_was_announced_before_it(self) -> None:
        with at_work(netflow_port=0, netflow_hold_seconds=0) as work:
            work.send("netflow", message(FLOW))
            work.wait_for(1)
            key = state_key(FLOW_RECORD)
            now = time.time_ns() // 1000
            early = StateRecord("127.0.0.1", key, now - 5_000_000, None)
            work.call(work.receiver._shared, [early])
            work.send("netflow", message(flow(1, 11)))
            assert decoded(work.wait_for(2)) == [("10.0.0.1", 11)]
            written = sum(1 for t, *_ in work.producer.taken if t == STATE)
            work.send("netflow", message(FLOW))
            eventually(lambda: sum(1 for t, *_ in work.producer.taken if t == STATE) == written + 1)
            late = StateRecord("127.0.0.1", key, now + 60_000_000, None)
            work.call(work.receiver._shared, [late])
            work.send("netflow", message(flow(2, 22)))
            work.wait_for(4)
            assert work.batches()[-1].without_template != []

    def test_lifetimes_must_outlast_refreshing(self) -> None:
        with (
            pytest.raises(ValueError, match="WEIR_NETFLOW_TEMPLATE_SECONDS must be at least twice"),
            at_work(netflow_template_seconds=60, netflow_refresh_seconds=40),
        ):
            pass


class TestNames:
    def test_batches_carry_the_names_of_their_flows_and_the_topic_all(self) -> None:
        rows = [(0, n, f"Gi0/{n}".encode().ljust(16, b"\0")) for n in range(1, 41)]
        through = DataSet(THROUGH, [(ipv4("10.0.0.1"), 7, 99)])
        with at_work(netflow_port=0) as work:
            work.send("netflow", message(INTERFACES, THROUGH, DataSet(INTERFACES, rows)))
            work.wait_for(1)
            work.send("netflow", message(through, sequence=1))
            batches = work.wait_for(2)
            assert [(n.version, n.observation_domain, n.kind, n.key, n.name) for n in batches[-1].flow_names] == [
                (9, 7, "interface", "7", "Gi0/7")
            ]
            assert sum("|interface|" in key for key in state_of(work)) == 40
            taken = [(key, value) for topic, key, value in work.producer.taken if topic == STATE]
        codec = FlowStateCodec("lab")
        with at_work(netflow_port=0) as work:
            records = [codec.decode(key.encode(), value) for key, value in taken]
            work.call(work.receiver._shared, records)
            work.send("netflow", message(through, sequence=2))
            batch = work.wait_for(1)[0]
            assert ([n.name for n in batch.flow_names], len(batch.flow_templates), batch.without_template) == (["Gi0/7"], 1, [])


class TestWithdrawal:
    def test_over_udp_it_is_counted_and_ignored_by_receiver_and_processor(self) -> None:
        with at_work(ipfix_port=0) as work:
            work.send("ipfix", ipfix(FLOW), ipfix(Withdrawal(256)), ipfix(flow(1, 11)))
            batches = work.wait_for(3)
            assert decoded(batches) == [("10.0.0.1", 11)]
            assert work.events == ["withdrawal-ignored"]
            assert [process(b, WHERE).dead for b in batches] == [[]] * len(batches)


class TestWithoutTemplate:
    def test_it_is_marked_and_names_what_lacked(self) -> None:
        with at_work(netflow_port=0, netflow_hold_seconds=0.1) as work:
            work.send("netflow", message(flow(1)), message(FLOW, domain=8), message(flow(2, 22), domain=8, sequence=1))
            batches = work.wait_for(3)
        dead = [(b.units[d.unit_index], d.reason) for b in batches for d in process(b, WHERE).dead]
        assert [unit for unit, _ in dead] == [message(flow(1))]
        assert "exporter 127.0.0.1, domain 7, template 256" in dead[0][1]
        marked = [b.units[place] for b in batches for place in b.without_template]
        assert marked == [message(flow(1))]

    def test_with_the_template_added_later_it_decodes_after_all(self) -> None:
        """What re-driving a dead letter does."""
        with at_work(netflow_port=0, netflow_hold_seconds=0) as work:
            work.send("netflow", message(flow(1, 11)))
            (batch,) = work.wait_for(1)
            work.send("netflow", message(FLOW, sequence=1), message(flow(2), sequence=2))
            later = work.wait_for(3)[-1]
        assert process(batch, WHERE).events == {}
        batch.flow_templates = later.flow_templates
        (event,) = process(batch, WHERE).events["network-flow"]
        assert event["network_bytes"] == 11


class TestLoss:
    def test_flows_packets_records_and_datagrams_are_counted_each_in_its_own_way(self) -> None:
        def v5(sequence: int, flows: int) -> bytes:
            return encode_v5(V5Datagram([V5Flow("10.0.0.1", "10.0.0.5")] * flows, 1_790_000_000, uptime=5_000, sequence=sequence))

        def v7(sequence: int, flows: int) -> bytes:
            return encode_v7(V5Datagram([V5Flow("10.0.0.1", "10.0.0.5")] * flows, 1_790_000_000, uptime=5_000, sequence=sequence))

        with at_work(netflow_port=0, ipfix_port=0, sflow_port=0) as work:
            work.send("netflow", v5(0, 10), v5(40, 10))  # 30 flows are missing
            work.send("netflow", v7(0, 10), v7(13, 10))  # 3 flows
            work.send("netflow", message(FLOW, sequence=1), message(flow(1), sequence=2), message(flow(1), sequence=5))  # 2 packets
            work.send("ipfix", ipfix(FLOW), ipfix(flow(1, count=4)), ipfix(flow(1, count=4), sequence=9))  # 5 records
            work.send("sflow", sflow(7), sflow(9), sflow(1, sub_agent=2))  # 1 datagram
            work.wait_for(13)
            assert work.run.stop() == 0
            found = {(loss.protocol, loss.source, loss.observation_domain): loss.missing for loss in merge(work.sequences())}
        assert found == {
            ("netflow-v5", "127.0.0.1", 0): 30,
            ("netflow-v7", "127.0.0.1", 0): 3,
            ("netflow-v9", "127.0.0.1", 7): 2,
            ("ipfix", "127.0.0.1", 7): 5,
            ("sflow", "192.0.2.77", 0): 1,
            ("sflow", "192.0.2.77", 2): 0,
        }


class TestCopy:
    def test_without_kafka_the_copy_decodes_the_first_datagram(self, tmp_path: Path) -> None:
        with at_work(netflow_port=0, netflow_state_dir=tmp_path) as work:
            work.send("netflow", message(FLOW))
            work.wait_for(1)
            assert work.run.stop() == 0
        with at_work(netflow_port=0, netflow_state_dir=tmp_path) as work:
            work.send("netflow", message(flow(1, 11)))
            assert decoded(work.wait_for(1)) == [("10.0.0.1", 11)]
            work.send("netflow", message(FLOW))
            eventually(lambda: "127.0.0.1|9|7|template|256" in state_of(work), message="the topic is told of what it may not know")

    def test_a_damaged_copy_is_said_and_not_used(self, tmp_path: Path) -> None:
        copy = FlowCopy(tmp_path / "weir.flow-state", "lab")
        copy.save([StateRecord("127.0.0.1", state_key(FLOW_RECORD), time.time_ns() // 1000, FLOW_RECORD)])
        assert len(copy.load()) == 1
        content = bytearray(copy.path.read_bytes())
        content[-5] ^= 1
        copy.path.write_bytes(content)
        with pytest.raises(CopyError, match="damaged"):
            copy.load()
        with at_work(netflow_port=0, netflow_state_dir=tmp_path, netflow_hold_seconds=0) as work:
            work.send("netflow", message(flow(1)))
            assert work.wait_for(1)[0].without_template == [0]

    def test_one_that_never_was_is_empty_and_nothing_is_left_beside_it(self, tmp_path: Path) -> None:
        copy = FlowCopy(tmp_path / "new" / "state", "lab")
        assert copy.load() == []
        copy.save([])
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["state"]


class TestDataBeforeItsTemplateChanges:
    """Data, and behind it in the same datagram another definition of its template: the old one decodes it."""

    def test_over_udp(self) -> None:
        with at_work(netflow_port=0) as work:
            work.send("netflow", ipfix(FLOW), ipfix(flow(1, 11), OTHER, other(2, 22), sequence=0), ipfix(other(3, 33), sequence=2))
            assert decoded(work.wait_for(3)) == [("10.0.0.1", 11), ("10.0.0.2", 22), ("10.0.0.3", 33)]

    def test_over_tcp_also_where_it_is_withdrawn(self) -> None:
        with at_work(ipfix_tcp_port=0) as work, socket.create_connection(work.port("ipfix-tcp")) as sock:
            sock.sendall(ipfix(FLOW) + ipfix(flow(1, 11), Withdrawal(256)) + ipfix(OTHER) + ipfix(other(2, 22), sequence=1))
            assert decoded(work.wait_for(4)) == [("10.0.0.1", 11), ("10.0.0.2", 22)]


def test_a_whole_copy_with_unknown_records_is_refused_and_not_a_crash(tmp_path: Path) -> None:
    copy = FlowCopy(tmp_path / "copy", "lab")
    for body in (b'[["10.0.0.1|9|7|template|256","AAAA"]]', b'[["nonsense",""]]', b"{}x", b"[1]"):
        copy.path.write_bytes(b"weir flow state 1 " + hashlib.blake2b(body, digest_size=32).hexdigest().encode() + b"\n" + body)
        with pytest.raises(CopyError):
            copy.load()


def test_a_receiver_whose_clock_is_ahead_buries_only_what_it_has_heard() -> None:
    """Its tombstone names when it heard the template last, not its own wrong hour: who has heard it since keeps it."""
    with at_work(netflow_port=0) as work:
        sent: list[tuple[bytes | None, dict[str, bytes]]] = []
        work.receiver.publisher.send = (  # type: ignore[method-assign]
            lambda topic, key, value, *, headers=None, **_: sent.append((value, dict(headers or [])))
        )
        now = time.time_ns() // 1000
        record = StateRecord("127.0.0.1", state_key(FLOW_RECORD), now, FLOW_RECORD)
        work.call(work.receiver.exporters.shared, [record], now + 6 * 3_600_000_000)
        assert sent == [(None, sent[0][1])]
        assert int(sent[0][1][AT_HEADER]) == now
