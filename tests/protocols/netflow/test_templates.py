"""The receiver's side: noticing, keeping and handing out what an exporter announces."""

from __future__ import annotations

import struct

import pytest

from weir.protocols.netflow import (
    MAX_NAMES,
    MAX_SAMPLINGS,
    MAX_TEMPLATE_BYTES,
    MAX_TEMPLATES,
    SYSTEM_INIT,
    Decoder,
    FlowError,
    NameRecord,
    SamplingRecord,
    TemplateRecord,
    TemplateStore,
    scan,
)
from weir.protocols.netflow.encode import (
    DataSet,
    FieldSpec,
    Message,
    Template,
    V5Datagram,
    V5Flow,
    Withdrawal,
    encode,
    encode_v5,
    encode_v7,
    ipv4,
    template_record,
)

EXPORT = 1_700_000_000
FLOWS = Template(256, [FieldSpec(8, 4), FieldSpec(1, 4), FieldSpec(48, 1)])
OPTIONS = Template(257, [FieldSpec(48, 1), FieldSpec(50, 4)], [FieldSpec(1, 4)])
RECORD = (ipv4("192.0.2.1"), 100, 2)


def record_of(version: int, template: Template, domain: int = 0) -> TemplateRecord:
    return TemplateRecord(version, domain, template.template_id, bool(template.scopes), template_record(version, template))


def message(version: int, *sets: Template | Withdrawal | DataSet, domain: int = 0) -> bytes:
    return encode(Message(version, EXPORT, sets, domain=domain, sequence=5))


class TestScan:
    @pytest.mark.parametrize("version", [9, 10])
    def test_header_templates_and_data_sets(self, version: int) -> None:
        """All that a receiver needs, without decoding a record."""
        found = scan(message(version, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 64)]), DataSet(FLOWS, [RECORD]), domain=9))
        assert (found.version, found.export_time, found.observation_domain, found.sequence) == (version, EXPORT, 9, 5)
        assert found.templates == (record_of(version, FLOWS, 9), record_of(version, OPTIONS, 9))
        assert found.data_sets == (257, 256)
        assert found.problem is None

    def test_a_withdrawal_has_no_record(self) -> None:
        assert scan(message(10, Withdrawal(256))).templates == (TemplateRecord(10, 0, 256, False, b""),)

    def test_v7_is_scanned_as_v5_is(self) -> None:
        """Its flows are counted; there is nothing to learn from it."""
        datagram = encode_v7(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2")] * 2, EXPORT, sequence=8, uptime=77))
        found = scan(datagram)
        assert (found.version, found.observation_domain, found.sequence, found.counted, found.uptime) == (7, 0, 8, 2, 77)
        store = TemplateStore()
        assert (store.learn(datagram), store.missing(datagram), store.replaces(datagram)) == ([], set(), False)
        assert store.needs([datagram]) == ([], [], [], [])

    def test_v5_needs_no_template(self) -> None:
        found = scan(encode_v5(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2")], EXPORT, sequence=8, engine_type=1, engine_id=2)))
        assert (found.version, found.export_time, found.observation_domain, found.sequence) == (5, EXPORT, 0x102, 8)
        assert (found.templates, found.data_sets, found.problem) == ((), (), None)

    def test_damage_behind_the_header_is_told(self) -> None:
        found = scan(message(9, FLOWS) + struct.pack(">HH", 256, 99))
        assert found.templates == (record_of(9, FLOWS),)
        assert found.problem == "offset 40: set 256 has length 99, 4 bytes are left"

    def test_no_flow_datagram_raises(self) -> None:
        with pytest.raises(FlowError, match="version 18245"):
            scan(b"GET / HTTP/1.1\r\n\r\n")


class TestLearn:
    def test_only_what_is_new_or_changed_is_returned(self) -> None:
        """The receiver publishes just that."""
        store = TemplateStore()
        announce = message(9, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 64), (0, 3, 128)]))
        assert store.learn(announce) == [
            record_of(9, FLOWS),
            record_of(9, OPTIONS),
            SamplingRecord(9, 0, 2, 64.0),
            SamplingRecord(9, 0, 3, 128.0),
        ]
        assert store.learn(announce) == []
        assert store.learn(message(9, DataSet(OPTIONS, [(0, 2, 32), (0, 3, 128)]))) == [SamplingRecord(9, 0, 2, 32.0)]

    def test_a_reused_id_with_another_definition_replaces(self) -> None:
        other = Template(256, [FieldSpec(12, 4)])
        store = TemplateStore()
        store.learn(message(10, FLOWS))
        assert store.learn(message(10, other)) == [record_of(10, other)]
        assert store.template(10, 0, 256) == record_of(10, other)
        assert len(store) == 1

    def test_domains_and_versions_are_apart(self) -> None:
        store = TemplateStore()
        for version, domain in ((9, 0), (9, 1), (10, 0)):
            assert store.learn(message(version, FLOWS, domain=domain)) == [record_of(version, FLOWS, domain)]
        assert len(store) == 3

    def test_a_withdrawal_is_learned_once(self) -> None:
        store = TemplateStore()
        store.learn(message(10, FLOWS, OPTIONS))
        assert store.learn(message(10, Withdrawal(256))) == [TemplateRecord(10, 0, 256, False, b"")]
        assert store.learn(message(10, Withdrawal(256))) == []
        assert store.learn(message(10, Withdrawal(3, is_options=True))) == [TemplateRecord(10, 0, 3, True, b"")]
        assert len(store) == 0

    def test_what_comes_before_and_after_damage_counts(self) -> None:
        """A bad set does not hide the next one."""
        bad = struct.pack(">HHHH", 0, 8, 12, 1)
        store = TemplateStore()
        datagram = message(9, FLOWS)
        assert store.learn(datagram[:20] + bad + datagram[20:]) == [record_of(9, FLOWS)]
        assert store.learn(b"nonsense") == []

    def test_the_start_of_an_ipfix_exporter_is_an_option_value(self) -> None:
        """softflowd times flows in sysUpTime and gives the start by options."""
        options = Template(258, [FieldSpec(160, 8)], [FieldSpec(143, 4)])
        flows = Template(259, [FieldSpec(22, 4)])
        store = TemplateStore()
        changed = store.learn(message(10, options, DataSet(options, [(1, (EXPORT - 60) * 1000)]), flows))
        assert SamplingRecord(10, 0, SYSTEM_INIT, (EXPORT - 60) * 1000.0) in changed
        data = message(10, DataSet(flows, [(10_000,)]))
        assert Decoder(*store.needs([data])[:2]).decode(data).flows[0]["event_start_us"] == (EXPORT - 50) * 1_000_000

    def test_a_store_can_begin_with_what_was_published(self) -> None:
        """As when a receiver reads the compacted topic at its start."""
        first = TemplateStore()
        changed = first.learn(message(9, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 64)])))
        second = TemplateStore(
            [item for item in changed if isinstance(item, TemplateRecord)],
            [item for item in changed if isinstance(item, SamplingRecord)],
        )
        data = [message(9, DataSet(FLOWS, [RECORD]))]
        assert second.needs(data) == first.needs(data)


class TestMissing:
    def test_a_data_set_without_template_is_named(self) -> None:
        store = TemplateStore()
        data = message(10, DataSet(FLOWS, [RECORD]), domain=4)
        assert store.missing(data) == {(4, 256)}
        store.learn(message(10, FLOWS, domain=4))
        assert store.missing(data) == set()

    def test_a_template_earlier_in_the_datagram_suffices(self) -> None:
        assert TemplateStore().missing(message(9, FLOWS, DataSet(FLOWS, [RECORD]))) == set()

    def test_v5_and_nonsense_miss_nothing(self) -> None:
        store = TemplateStore()
        assert store.missing(encode_v5(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2")], EXPORT))) == set()
        assert store.missing(b"nonsense") == set()


class TestReplaces:
    def test_only_a_change_of_what_is_known_counts(self) -> None:
        """New templates and repeated ones leave an open batch as it is."""
        store = TemplateStore()
        assert not store.replaces(message(9, FLOWS))
        store.learn(message(9, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 64)])))
        assert not store.replaces(message(9, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 64), (0, 3, 64)])))
        assert store.replaces(message(9, Template(256, [FieldSpec(12, 4)])))
        assert store.replaces(message(9, DataSet(OPTIONS, [(0, 2, 65)])))
        assert not store.replaces(b"nonsense")

    def test_a_withdrawal_counts(self) -> None:
        store = TemplateStore()
        assert not store.replaces(message(10, Withdrawal(256)))
        store.learn(message(10, FLOWS))
        assert store.replaces(message(10, Withdrawal(256)))
        assert store.replaces(message(10, Withdrawal(2)))
        assert not store.replaces(message(10, Withdrawal(3, is_options=True)))


class TestRequired:
    def test_just_what_the_data_sets_need(self) -> None:
        """Templates of the data sets, options templates among them, and the samplings of their domains."""
        store = TemplateStore()
        other = Template(300, [FieldSpec(12, 4)])
        store.learn(message(9, FLOWS, OPTIONS, other, DataSet(OPTIONS, [(0, 2, 64)])))
        store.learn(message(9, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 32)]), domain=1))
        data = [message(9, DataSet(FLOWS, [RECORD])), message(9, DataSet(OPTIONS, [(0, 2, 64)])), b"nonsense"]
        assert store.needs(data) == ([record_of(9, FLOWS), record_of(9, OPTIONS)], [SamplingRecord(9, 0, 2, 64.0)], [], [])
        assert store.needs([]) == ([], [], [], [])

    def test_a_decoder_with_only_that_decodes_and_scales(self) -> None:
        store = TemplateStore()
        store.learn(message(9, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 64)])))
        data = message(9, DataSet(FLOWS, [RECORD]))
        flow = Decoder(*store.needs([data])[:2]).decode(data).flows[0]
        assert (flow["network_bytes"], flow["flow_sampling_interval"]) == (6400, 64)

    def test_datagrams_without_their_template_are_told_apart(self) -> None:
        store = TemplateStore()
        store.learn(message(9, FLOWS))
        data = [message(9, DataSet(FLOWS, [RECORD])), message(9, DataSet(FLOWS, [RECORD]), domain=3), message(9, FLOWS)]
        assert store.needs(data).lacking == [1]


# v9 options: scope system, INPUT_SNMP, IF_NAME, IF_DESC; and the application table of NBAR.
INTERFACES = Template(301, [FieldSpec(10, 4), FieldSpec(82, 16), FieldSpec(83, 32)], [FieldSpec(1, 4)])
APPLICATIONS = Template(302, [FieldSpec(95, 4), FieldSpec(96, 24)], [FieldSpec(1, 4)])
NAMED_FLOWS = Template(303, [FieldSpec(8, 4), FieldSpec(10, 2), FieldSpec(14, 4), FieldSpec(95, 4), FieldSpec(1, 4)])


def padded(text: str, length: int) -> bytes:
    return text.encode().ljust(length, b"\0")


class TestNames:
    def announced(self, version: int) -> TemplateStore:
        store = TemplateStore()
        interfaces = [(0, n, padded(f"Gi0/{n}", 16), padded(f"link {n}", 32)) for n in range(1, 2001)]
        for first in range(0, 2000, 500):
            store.learn(message(version, INTERFACES, DataSet(INTERFACES, interfaces[first : first + 500])))
        store.learn(message(version, APPLICATIONS, DataSet(APPLICATIONS, [(0, 0x03000050, padded("http", 24))])))
        return store

    @pytest.mark.parametrize("version", [9, 10])
    def test_only_the_names_that_the_flows_refer_to_are_needed(self, version: int) -> None:
        """Of the 2,000 interfaces of a router a batch carries the few that its flows went through."""
        store = self.announced(version)
        store.learn(message(version, NAMED_FLOWS))
        flows = DataSet(NAMED_FLOWS, [(ipv4("192.0.2.1"), 7, 1999, 0x03000050, 1), (ipv4("192.0.2.1"), 7, 5000, 0x0D000001, 1)])
        assert sorted(n[2:] for n in store.needs([message(version, flows)]).names) == [
            ("application", "3:80", "http"),
            ("interface", "1999", "Gi0/1999"),
            ("interface", "7", "Gi0/7"),
            ("interface-description", "1999", "link 1999"),
            ("interface-description", "7", "link 7"),
        ]
        assert store.needs([message(version, flows, domain=9)]).names == []

    def test_names_of_flows_with_fields_of_variable_length(self) -> None:
        store = self.announced(10)
        flows = Template(304, [FieldSpec(371, 65535), FieldSpec(10, 4)])
        store.learn(message(10, flows))
        data = message(10, DataSet(flows, [(b"someone", 12), (b"", 13)]))
        assert {n.key for n in store.needs([data]).names} == {"12", "13"}

    def test_a_name_that_changes_is_learned_anew(self) -> None:
        store = self.announced(9)
        assert store.learn(message(9, DataSet(INTERFACES, [(0, 7, padded("Gi0/7", 16), padded("to the moon", 32))]))) == [
            NameRecord(9, 0, "interface-description", "7", "to the moon")
        ]
        assert store.name(9, 0, "interface-description", "7") == "to the moon"

    def test_names_are_bounded(self) -> None:
        store = TemplateStore(names=[NameRecord(9, 0, "interface", str(n), "x") for n in range(MAX_NAMES + 10)])
        assert store.name(9, 0, "interface", "9") is None
        assert store.name(9, 0, "interface", "10") == "x"


class TestRestart:
    def test_templates_go_and_options_stay(self) -> None:
        store = TemplateStore()
        store.learn(message(9, FLOWS, OPTIONS, DataSet(OPTIONS, [(0, 2, 64)])))
        store.learn(message(9, FLOWS, domain=1))
        assert store.restarted(9, 0, lambda t: t.template_id == 256) == [record_of(9, FLOWS)]
        assert store.template(9, 0, 257) is not None
        assert store.template(9, 1, 256) is not None
        assert store.sampling(9, 0, 2) == 64


class TestWithdrawalOverUdp:
    def test_it_is_ignored(self) -> None:
        store = TemplateStore(withdrawals=False)
        store.learn(message(10, FLOWS))
        assert not store.replaces(message(10, Withdrawal(256)))
        assert store.learn(message(10, Withdrawal(256))) == []
        assert store.template(10, 0, 256) is not None


class TestDataRecords:
    def test_records_of_flows_and_options_are_counted(self) -> None:
        store = TemplateStore()
        variable = Template(310, [FieldSpec(371, 65535), FieldSpec(10, 4)])
        data = message(
            10, DataSet(FLOWS, [RECORD] * 3), DataSet(OPTIONS, [(0, 2, 64)] * 2), DataSet(variable, [(b"a", 1), (b"bb", 2)])
        )
        store.learn(message(10, FLOWS, OPTIONS, variable))
        assert store.data_records(data, scan(data)) == (7, True)
        store.remove(record_of(10, OPTIONS))
        assert store.data_records(data, scan(data)) == (5, False)


class TestBounds:
    def test_the_oldest_templates_go_first(self) -> None:
        """A template that is announced again stays."""
        store = TemplateStore()
        for domain in range(MAX_TEMPLATES):
            store.learn(message(9, FLOWS, domain=domain))
        store.learn(message(9, FLOWS, domain=0))
        store.learn(message(9, FLOWS, domain=MAX_TEMPLATES))
        assert len(store) == MAX_TEMPLATES
        assert store.template(9, 0, 256) is not None
        assert store.template(9, 1, 256) is None

    def test_bytes_are_bounded_too(self) -> None:
        """Hostile templates are long."""
        store = TemplateStore()
        for domain in range(200):
            store.learn(message(10, Template(256, [FieldSpec(1, 4, 9)] * 512), domain=domain))
        kept = [store.template(10, domain, 256) for domain in range(200)]
        assert sum(len(item.record) for item in kept if item) <= MAX_TEMPLATE_BYTES
        assert kept[-1] is not None

    def test_samplings_are_bounded(self) -> None:
        store = TemplateStore()
        options = Template(257, [FieldSpec(302, 4), FieldSpec(34, 4)], [FieldSpec(149, 4)])
        for start in (0, 1000):
            records = [(0, start + number, 10) for number in range(1000)]
            store.learn(message(10, options, DataSet(options, records)))
        assert len(store.samplings(10, 0)) == MAX_SAMPLINGS
        assert store.sampling(10, 0, 1999) == 10
