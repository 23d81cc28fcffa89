"""Decoding datagrams built by our own encoder, field by field, and the ways in which exporters misbehave."""

from __future__ import annotations

import struct

import pytest

from weir.protocols.netflow import MAX_RECORDS, SYSTEM_INIT, Decoder, FlowError, FlowRecord, SamplingRecord
from weir.protocols.netflow.decode import uptime_to_us
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
    ipv4,
    ipv6,
    mac,
    ntp,
)

EXPORT = 1_700_000_000
EXPORT_US = EXPORT * 1_000_000

V4 = Template(256, [FieldSpec(8, 4), FieldSpec(12, 4), FieldSpec(1, 4), FieldSpec(2, 4)])
V4_RECORD = (ipv4("192.0.2.1"), ipv4("198.51.100.2"), 1000, 10)


def one(template: Template, record: tuple[int | bytes, ...], version: int = 10, **header: int) -> FlowRecord:
    """The flow of a datagram that holds a template and one record of it."""
    message = Message(version, EXPORT, [template, DataSet(template, [record])], **header)  # type: ignore[arg-type]
    result = Decoder().decode(encode(message))
    assert result.complete, result.errors
    assert len(result.flows) == 1
    return result.flows[0]


class TestV5:
    def test_all_fields_of_a_record(self) -> None:
        """A v5 record becomes a flow with the fields of Weir."""
        flow = V5Flow(
            "192.0.2.1",
            "198.51.100.2",
            51000,
            443,
            6,
            12,
            3456,
            50_000,
            59_000,
            "203.0.113.9",
            3,
            4,
            0x1B,
            0x28,
            64500,
            64501,
            24,
            16,
        )
        datagram = V5Datagram([flow], EXPORT, 500_000_000, uptime=60_000, sequence=7, engine_type=1, engine_id=2)
        result = Decoder().decode(encode_v5(datagram))
        assert (result.header.domain, result.header.sequence) == (0x102, 7)
        assert result.positions == [0]
        assert result.flows == [
            {
                "source_ip": "192.0.2.1",
                "destination_ip": "198.51.100.2",
                "next_hop_ip": "203.0.113.9",
                "observer_ingress_interface": 3,
                "observer_egress_interface": 4,
                "flow_raw_packets": 12,
                "flow_raw_bytes": 3456,
                "network_packets": 12,
                "network_bytes": 3456,
                "source_packets": 12,
                "source_bytes": 3456,
                "flow_sampling_interval": None,
                "event_start_us": EXPORT_US + 500_000 - 10_000_000,
                "event_end_us": EXPORT_US + 500_000 - 1_000_000,
                "source_port": 51000,
                "destination_port": 443,
                "flow_tcp_flags": 0x1B,
                "network_iana_number": 6,
                "network_transport": "tcp",
                "network_type": "ipv4",
                "flow_tos": 0x28,
                "source_as": 64500,
                "destination_as": 64501,
                "observation_domain": 0x102,
                "flow_protocol": "netflow-v5",
                "additional": {"sourceIPv4PrefixLength": 24, "destinationIPv4PrefixLength": 16},
            }
        ]

    def test_counts_are_scaled_by_the_sampling_of_the_header(self) -> None:
        """Fourteen bits of interval under two bits of mode."""
        flows = [V5Flow("192.0.2.1", "192.0.2.2", packets=2, octets=100)]
        flow = Decoder().decode(encode_v5(V5Datagram(flows, EXPORT, sampling_mode=1, sampling_interval=100))).flows[0]
        assert (flow["network_packets"], flow["network_bytes"], flow["flow_sampling_interval"]) == (200, 10_000, 100)
        assert (flow["flow_raw_packets"], flow["flow_raw_bytes"]) == (2, 100)

    def test_icmp_type_and_code_come_from_the_destination_port(self) -> None:
        """v5 has no other place for them."""
        flow = Decoder().decode(encode_v5(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2", 0, 0x0301, 1)], EXPORT))).flows[0]
        assert (flow["flow_icmp_type"], flow["flow_icmp_code"]) == (3, 1)

    def test_thirty_flows_keep_their_positions(self) -> None:
        """The largest regular datagram."""
        flows = [V5Flow("192.0.2.1", f"10.0.0.{n}") for n in range(30)]
        result = Decoder().decode(encode_v5(V5Datagram(flows, EXPORT)))
        assert result.positions == list(range(30))
        assert [flow["destination_ip"] for flow in result.flows] == [f"10.0.0.{n}" for n in range(30)]

    def test_a_count_beyond_the_data_is_told(self) -> None:
        """The flows that are there are decoded all the same."""
        result = Decoder().decode(encode_v5(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2")], EXPORT, count=30)))
        assert len(result.flows) == 1
        assert result.errors == ["offset 72: the header counts 30 records, 1 are there"]

    def test_what_follows_the_counted_records_is_told_unless_zero(self) -> None:
        """Datagrams glued together must not vanish in silence; padding may."""
        datagram = encode_v5(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2")], EXPORT))
        assert Decoder().decode(datagram + bytes(48)).complete
        assert Decoder().decode(datagram + datagram).errors == ["offset 72: 72 bytes follow the 1 records that the header counts"]


class TestUptime:
    def test_a_time_before_the_wrap_lies_in_the_past(self) -> None:
        """First = 2^32 - 1 at an uptime of 3,381 ms is 3.382 s ago, not 49.7 days ahead."""
        assert uptime_to_us(4_294_967_295, 3_381, EXPORT_US) == EXPORT_US - 3_382_000

    def test_a_time_shortly_ahead_of_the_export_stays_ahead(self) -> None:
        """Some exporters read the clock before they close the flow."""
        assert uptime_to_us(10_500, 10_000, EXPORT_US) == EXPORT_US + 500_000

    def test_a_time_shortly_ahead_across_the_wrap_stays_ahead(self) -> None:
        """The export came just before the wrap, the flow's end just after it."""
        assert uptime_to_us(5, 2**32 - 10, EXPORT_US) == EXPORT_US + 15_000

    def test_a_time_that_fits_neither_is_none(self) -> None:
        """A week ahead, or 43 days before the wrap: neither is an answer."""
        assert uptime_to_us(7 * 86_400_000, 1000, EXPORT_US) is None

    def test_an_implausible_time_is_kept_raw(self) -> None:
        """The exporter's own figure stays readable."""
        template = Template(256, [FieldSpec(8, 4), FieldSpec(22, 4), FieldSpec(21, 4)])
        flow = one(template, (ipv4("192.0.2.1"), 7 * 86_400_000, 900), 9, uptime=1000)
        assert flow["event_start_us"] is None
        assert flow["event_end_us"] == EXPORT_US - 100_000
        assert flow["additional"] == {"flowStartSysUpTime": 7 * 86_400_000}


class TestFields:
    def test_ipv6_mac_vlan_nat_and_the_rest(self) -> None:
        """Elements with a field of their own."""
        values = {
            27: (16, ipv6("2001:db8::1"), "source_ip", "2001:db8::1"),
            28: (16, ipv6("2001:db8::2"), "destination_ip", "2001:db8::2"),
            62: (16, ipv6("2001:db8::3"), "next_hop_ip", "2001:db8::3"),
            56: (6, mac("00:00:5e:00:53:0a"), "source_mac", "00-00-5E-00-53-0A"),
            80: (6, mac("00:00:5e:00:53:0b"), "destination_mac", "00-00-5E-00-53-0B"),
            58: (2, 17, "vlan_id", 17),
            59: (2, 18, "destination_vlan_id", 18),
            61: (1, 1, "flow_direction", "egress"),
            136: (1, 3, "flow_end_reason", "end of flow detected"),
            225: (4, ipv4("203.0.113.1"), "source_nat_ip", "203.0.113.1"),
            226: (4, ipv4("203.0.113.2"), "destination_nat_ip", "203.0.113.2"),
            227: (2, 1024, "source_nat_port", 1024),
            228: (2, 1025, "destination_nat_port", 1025),
            96: (16, b"http", "application_name", "http"),
            4: (1, 58, "network_iana_number", 58),
            178: (1, 128, "flow_icmp_type", 128),
            179: (1, 0, "flow_icmp_code", 0),
        }
        template = Template(300, [FieldSpec(key, value[0]) for key, value in values.items()])
        flow = one(template, tuple(value[1] for value in values.values()))
        assert {value[2]: flow[value[2]] for value in values.values()} == {value[2]: value[3] for value in values.values()}  # type: ignore[literal-required]
        assert (flow["network_type"], flow["network_transport"], flow["additional"]) == ("ipv6", "ipv6-icmp", {})

    @pytest.mark.parametrize(
        ("start", "end", "length", "first", "last"),
        [
            (150, 151, 4, EXPORT - 9, EXPORT - 2),
            (152, 153, 8, (EXPORT - 9) * 1000, (EXPORT - 2) * 1000),
            (154, 155, 8, ntp(EXPORT_US - 9_000_000), ntp(EXPORT_US - 2_000_000)),
            (156, 157, 8, ntp(EXPORT_US - 9_000_000), ntp(EXPORT_US - 2_000_000)),
            (158, 159, 4, 9_000_000, 2_000_000),
        ],
    )
    def test_ipfix_times_of_every_kind(self, start: int, end: int, length: int, first: int, last: int) -> None:
        """Seconds, milliseconds, NTP micro- and nanoseconds, and microseconds before the export."""
        flow = one(Template(256, [FieldSpec(start, length), FieldSpec(end, length)]), (first, last))
        assert (flow["event_start_us"], flow["event_end_us"]) == (EXPORT_US - 9_000_000, EXPORT_US - 2_000_000)

    def test_ipfix_uptime_needs_the_start_of_the_exporter(self) -> None:
        """From the record, from the options of the domain, or the raw value is all there is."""
        template = Template(256, [FieldSpec(22, 4), FieldSpec(21, 4)])
        datagram = encode(Message(10, EXPORT, [template, DataSet(template, [(1000, 2000)])], domain=5))
        start = (EXPORT - 100) * 1000
        flow = Decoder(samplings=[SamplingRecord(10, 5, SYSTEM_INIT, float(start))]).decode(datagram).flows[0]
        assert (flow["event_start_us"], flow["event_end_us"]) == (EXPORT_US - 99_000_000, EXPORT_US - 98_000_000)
        raw = Decoder().decode(datagram).flows[0]
        assert raw["event_start_us"] is None
        assert raw["additional"] == {"flowStartSysUpTime": 1000, "flowEndSysUpTime": 2000}
        with_init = Template(256, [FieldSpec(22, 4), FieldSpec(160, 8)])
        assert one(with_init, (1000, start))["event_start_us"] == EXPORT_US - 99_000_000

    def test_a_duration_gives_the_missing_end(self) -> None:
        """flowDurationMilliseconds beside flowStartMilliseconds."""
        flow = one(Template(256, [FieldSpec(152, 8), FieldSpec(161, 4)]), (EXPORT * 1000, 1500))
        assert flow["event_end_us"] == EXPORT_US + 1_500_000

    def test_numbers_may_be_shorter_than_their_type(self) -> None:
        """RFC 7011 section 6.2: reduced-size encoding of integers and floats."""
        template = Template(
            256, [FieldSpec(1, 3), FieldSpec(2, 5), FieldSpec(10, 2), FieldSpec(320, 4), FieldSpec(434, 1), FieldSpec(85, 6)]
        )
        flow = one(template, (70_000, 2**33, 9, struct.pack(">f", 0.5), 0xFF, 5))
        assert (flow["flow_raw_bytes"], flow["flow_raw_packets"], flow["observer_ingress_interface"]) == (70_000, 2**33, 9)
        assert flow["additional"] == {"absoluteError": 0.5, "mibObjectValueInteger": -1, "octetTotalCount": 5}

    def test_a_number_too_large_for_its_field_is_none(self) -> None:
        """A port in eight bytes is accepted as long as it is a port."""
        template = Template(256, [FieldSpec(7, 8), FieldSpec(11, 8), FieldSpec(1, 8)])
        flow = one(template, (443, 70_000, 2**64 - 1))
        assert (flow["source_port"], flow["destination_port"], flow["flow_raw_bytes"]) == (443, None, 2**63 - 1)

    def test_unknown_and_enterprise_elements_keep_their_bytes(self) -> None:
        """By number in hexadecimal; reverse elements by their RFC 5103 name; strings as text."""
        template = Template(
            256,
            [
                FieldSpec(8, 4),
                FieldSpec(7, 3, 99_999),
                FieldSpec(8, 4, 29305),
                FieldSpec(82, 6),
                FieldSpec(95, 4),
                FieldSpec(32_000, 2),
            ],
        )
        flow = one(template, (ipv4("192.0.2.1"), b"\1\2\3", ipv4("192.0.2.9"), b"eth0", b"\3\0\0\x50", 7))
        assert flow["additional"] == {
            "enterprise:99999.7": "010203",
            "reverseSourceIPv4Address": "192.0.2.9",
            "interfaceName": "eth0",
            "applicationId": "3:80",
            "enterprise:0.32000": "0007",
        }

    def test_the_first_of_repeated_elements_fills_the_field(self) -> None:
        """The others are kept under their name."""
        template = Template(256, [FieldSpec(10, 4), FieldSpec(10, 4), FieldSpec(10, 4)])
        flow = one(template, (1, 2, 3))
        assert flow["observer_ingress_interface"] == 1
        assert flow["additional"] == {"ingressInterface": 2, "ingressInterface#2": 3}

    def test_a_second_element_stands_in_for_an_empty_one(self) -> None:
        """Templates with room for both address families leave one at zero."""
        template = Template(256, [FieldSpec(8, 4), FieldSpec(27, 16), FieldSpec(1, 4), FieldSpec(23, 4)])
        six = one(template, (bytes(4), ipv6("2001:db8::1"), 0, 32))
        assert (six["source_ip"], six["network_type"], six["network_bytes"], six["additional"]) == ("2001:db8::1", "ipv6", 32, {})
        four = one(template, (ipv4("192.0.2.1"), bytes(16), 10, 32))
        assert (four["source_ip"], four["network_type"], four["network_bytes"]) == ("192.0.2.1", "ipv4", 10)
        assert four["additional"] == {"postOctetDeltaCount": 32}

    def test_icmp_fields_only_for_icmp(self) -> None:
        """Exporters fill them with zeros for TCP as well."""
        template = Template(256, [FieldSpec(4, 1), FieldSpec(32, 2)])
        assert "flow_icmp_type" not in one(template, (6, 0))
        flow = one(template, (1, 0x0800))
        assert (flow["flow_icmp_type"], flow["flow_icmp_code"]) == (8, 0)

    def test_both_directions_of_a_biflow_are_added_up(self) -> None:
        """Cisco ASA counts initiator and responder; RFC 5103 the reverse direction."""
        asa = one(Template(256, [FieldSpec(231, 4), FieldSpec(232, 4)]), (69, 14178), 9)
        assert (asa["source_bytes"], asa["destination_bytes"], asa["network_bytes"]) == (69, 14178, 14247)
        yaf = one(Template(256, [FieldSpec(1, 4), FieldSpec(1, 4, 29305)]), (132, 200))
        assert (yaf["source_bytes"], yaf["destination_bytes"], yaf["network_bytes"], yaf["flow_raw_bytes"]) == (132, 200, 332, 132)


class TestSampling:
    OPTIONS = Template(257, [FieldSpec(48, 1), FieldSpec(50, 4)], [FieldSpec(1, 4)])

    def test_option_data_applies_from_there_on(self) -> None:
        """In the same datagram: the set before it is not scaled, the one after it is."""
        flows = Template(256, [*V4.fields, FieldSpec(48, 1)])
        data = DataSet(flows, [(*V4_RECORD, 2)])
        sets = [flows, self.OPTIONS, data, DataSet(self.OPTIONS, [(0, 2, 64), (0, 3, 128)]), data]
        result = Decoder().decode(encode(Message(9, EXPORT, sets)))
        assert [flow["flow_sampling_interval"] for flow in result.flows] == [None, 64]
        assert [flow["network_bytes"] for flow in result.flows] == [1000, 64_000]
        assert result.positions == [0, 3]
        assert result.records == 4

    @pytest.mark.parametrize(
        ("fields", "values", "interval"),
        [
            ([FieldSpec(34, 4)], (1000,), 1000),
            ([FieldSpec(305, 4), FieldSpec(306, 4)], (2, 398), 200),
            ([FieldSpec(305, 4)], (50,), 50),
            ([FieldSpec(309, 4), FieldSpec(310, 4)], (3, 10), 10 / 3),
            # IOS XR: random 1 out of 256, beside an interval that is of another algorithm.
            ([FieldSpec(305, 4), FieldSpec(304, 2), FieldSpec(309, 4), FieldSpec(310, 4)], (1, 3, 1, 256), 256),
            ([FieldSpec(305, 4), FieldSpec(306, 4), FieldSpec(304, 2), FieldSpec(309, 4), FieldSpec(310, 4)], (1, 0, 3, 1, 64), 64),
            ([FieldSpec(305, 4), FieldSpec(306, 4), FieldSpec(304, 2), FieldSpec(309, 4), FieldSpec(310, 4)], (1, 9, 1, 1, 64), 10),
            ([FieldSpec(311, 8)], (struct.pack(">d", 0.25),), 4),
            ([FieldSpec(34, 4)], (0,), 1),
        ],
    )
    def test_every_way_to_announce_an_interval(
        self, fields: list[FieldSpec], values: tuple[int | bytes, ...], interval: float
    ) -> None:
        """NetFlow's interval and PSAMP's pairs (RFC 5477)."""
        options = Template(257, fields, [FieldSpec(149, 4)])
        sets = [options, DataSet(options, [(9, *values)]), V4, DataSet(V4, [V4_RECORD])]
        flow = Decoder().decode(encode(Message(10, EXPORT, sets))).flows[0]
        assert flow["flow_sampling_interval"] == interval
        assert flow["network_bytes"] == round(1000 * interval)

    def test_a_sampling_of_an_interface_applies_to_its_flows(self) -> None:
        """Scope "interface" of v9; other interfaces stay as they are."""
        options = Template(257, [FieldSpec(34, 4)], [FieldSpec(2, 4)])
        flows = Template(256, [FieldSpec(1, 4), FieldSpec(10, 4)])
        sets = [options, DataSet(options, [(7, 100)]), flows, DataSet(flows, [(5, 7), (5, 8)])]
        decoded = Decoder().decode(encode(Message(9, EXPORT, sets))).flows
        assert [flow["network_bytes"] for flow in decoded] == [500, 5]

    def test_the_record_itself_may_carry_the_interval(self) -> None:
        """It wins over what the domain announced."""
        template = Template(256, [FieldSpec(1, 4), FieldSpec(34, 4)])
        datagram = encode(Message(9, EXPORT, [template, DataSet(template, [(5, 10), (5, 0)])]))
        flows = Decoder(samplings=[SamplingRecord(9, 0, 0, 2.0)]).decode(datagram).flows
        assert [flow["network_bytes"] for flow in flows] == [50, 10]


class TestStructure:
    @pytest.mark.parametrize("version", [9, 10])
    def test_a_template_only_datagram_is_empty_not_wrong(self, version: int) -> None:
        """Nor is one with options alone."""
        options = TestSampling.OPTIONS
        for sets in ([V4], [options], [options, DataSet(options, [(0, 1, 10)])], []):
            result = Decoder().decode(encode(Message(version, EXPORT, sets)))
            assert result.empty
            assert result.complete

    @pytest.mark.parametrize("version", [9, 10])
    def test_several_padded_sets_in_one_message(self, version: int) -> None:
        """Padding is not a record."""
        odd = Template(300, [FieldSpec(8, 4), FieldSpec(4, 1)])
        sets = [odd, DataSet(odd, [(ipv4("192.0.2.1"), 6)] * 3, padded=True), V4, DataSet(V4, [V4_RECORD] * 2)]
        result = Decoder().decode(encode(Message(version, EXPORT, sets, domain=77)))
        assert result.complete
        assert result.positions == [0, 1, 2, 3, 4]
        assert {flow["observation_domain"] for flow in result.flows} == {77}

    def test_an_unknown_template_is_named_and_the_rest_decoded(self) -> None:
        """So that the unit can be kept until the template comes."""
        unknown = Template(999, V4.fields)
        sets = [V4, DataSet(unknown, [V4_RECORD]), DataSet(V4, [V4_RECORD])]
        result = Decoder().decode(encode(Message(10, EXPORT, sets, domain=3)))
        assert result.unknown_templates == {(3, 999)}
        assert not result.complete
        assert len(result.flows) == 1

    def test_templates_belong_to_version_and_domain(self) -> None:
        """The same id in another domain is another template."""
        decoder = Decoder()
        decoder.decode(encode(Message(10, EXPORT, [V4], domain=1)))
        assert decoder.decode(encode(Message(10, EXPORT, [DataSet(V4, [V4_RECORD])], domain=2))).unknown_templates == {(2, 256)}
        assert decoder.decode(encode(Message(9, EXPORT, [DataSet(V4, [V4_RECORD])], domain=1))).unknown_templates == {(1, 256)}

    def test_a_redefined_template_replaces_the_old_one(self) -> None:
        """As after a restart of the exporter."""
        other = Template(256, [FieldSpec(12, 4), FieldSpec(8, 4)])
        sets = [V4, DataSet(V4, [V4_RECORD]), other, DataSet(other, [(ipv4("10.0.0.2"), ipv4("10.0.0.1"))])]
        flows = Decoder().decode(encode(Message(9, EXPORT, sets))).flows
        assert [flow["source_ip"] for flow in flows] == ["192.0.2.1", "10.0.0.1"]

    @pytest.mark.parametrize("withdrawn", [256, 2])
    def test_a_withdrawn_template_is_forgotten(self, withdrawn: int) -> None:
        """One by its id, all by the id of the template set."""
        sets = [V4, DataSet(V4, [V4_RECORD]), Withdrawal(withdrawn), DataSet(V4, [V4_RECORD])]
        result = Decoder().decode(encode(Message(10, EXPORT, sets)))
        assert len(result.flows) == 1
        assert result.unknown_templates == {(0, 256)}

    def test_variable_lengths_short_and_long(self) -> None:
        """One byte of length, or 255 and two bytes."""
        template = Template(256, [FieldSpec(82, 65535), FieldSpec(8, 4), FieldSpec(7, 65535, 99_999), FieldSpec(96, 65535)])
        records = [(b"eth0", ipv4("192.0.2.1"), b"\1" * 300, b""), (b"", ipv4("192.0.2.2"), b"", b"ssh")]
        result = Decoder().decode(encode(Message(10, EXPORT, [template, DataSet(template, records, padded=True)])))
        assert result.complete
        assert [flow["source_ip"] for flow in result.flows] == ["192.0.2.1", "192.0.2.2"]
        assert [flow["application_name"] for flow in result.flows] == ["", "ssh"]
        assert result.flows[0]["additional"] == {"interfaceName": "eth0", "enterprise:99999.7": "01" * 300}

    def test_fields_of_length_zero_are_skipped(self) -> None:
        """As softflowd and others send them in v9."""
        template = Template(256, [FieldSpec(5, 0), *V4.fields, FieldSpec(82, 0)])
        flow = one(template, (b"", *V4_RECORD, b""), 9)
        assert flow["source_ip"] == "192.0.2.1"
        assert "flow_tos" not in flow

    def test_records_without_length_are_an_error_not_a_loop(self) -> None:
        """A template whose fields are all empty."""
        template = Template(256, [FieldSpec(8, 0)])
        datagram = encode(Message(9, EXPORT, [template])) + struct.pack(">HH", 256, 8) + b"\1\2\3\4"
        result = Decoder().decode(datagram)
        assert result.errors == ["offset 32: set 256: template 256 describes records without length"]
        options = Template(257, [FieldSpec(34, 0)], [FieldSpec(1, 0)])
        result = Decoder().decode(encode(Message(9, EXPORT, [options])) + struct.pack(">HH", 257, 8) + b"\1\2\3\4")
        assert "without length" in result.errors[0]

    def test_a_cut_record_is_told_with_its_place(self) -> None:
        """Flows before it are kept."""
        template = Template(256, [FieldSpec(8, 4), FieldSpec(82, 65535)])
        body = encode(Message(9, EXPORT, [template])) + struct.pack(
            ">HH4sB2s4sB2s", 256, 18, bytes(4), 2, b"ab", bytes(4), 200, b"ab"
        )
        result = Decoder().decode(body)
        assert len(result.flows) == 1
        assert result.errors == ["offset 51: a field of 200 bytes reaches beyond its set, which ends at 54"]

    def test_a_zero_filled_tail_is_padding(self) -> None:
        """PAN-OS sends datagrams of a fixed size."""
        datagram = encode(Message(9, EXPORT, [V4, DataSet(V4, [V4_RECORD])]))
        result = Decoder().decode(datagram + bytes(1000))
        assert result.complete
        assert len(result.flows) == 1

    def test_a_cut_message_is_told(self) -> None:
        """Whatever is whole is decoded."""
        datagram = encode(Message(10, EXPORT, [V4, DataSet(V4, [V4_RECORD]), DataSet(V4, [V4_RECORD])]))
        result = Decoder().decode(datagram[:-3])
        assert len(result.flows) == 1
        assert result.errors == [f"offset {len(datagram) - 20}: set 256 has length 20, 17 bytes are left"]

    @pytest.mark.parametrize(
        ("datagram", "reason"),
        [
            (b"", "offset 0: only 0 bytes"),
            (b"\0\x09\0\1", "offset 0: 4 bytes are too short for a header of version 9"),
            (b"\0\x06" + bytes(60), "offset 0: version 6 is none of 5, 7, 9 and 10"),
            (b"\0\x0a\0\x03" + bytes(12), "offset 2: IPFIX message length 3 is shorter than its header of 16 bytes"),
        ],
    )
    def test_what_has_no_readable_header_raises(self, datagram: bytes, reason: str) -> None:
        """The only case in which decode raises."""
        with pytest.raises(FlowError) as caught:
            Decoder().decode(datagram)
        assert caught.value.reason == reason

    def test_work_is_bounded_however_small_the_records(self) -> None:
        """A full datagram of one-byte records stops at the limit, and says so."""
        template = Template(256, [FieldSpec(4, 1)])
        result = Decoder().decode(encode(Message(9, EXPORT, [template, DataSet(template, [(6,)] * 60_000)])))
        assert len(result.flows) == MAX_RECORDS
        assert "more than 4096 records" in result.errors[0]

    def test_the_number_of_sets_is_bounded(self) -> None:
        """Empty sets must not cost a lookup each without end."""
        result = Decoder().decode(encode(Message(9, EXPORT, [V4])) + struct.pack(">HH", 256, 4) * 16_000)
        assert result.errors == ["offset 4136: more than 1024 sets"]

    def test_too_many_fields_are_refused(self) -> None:
        """Compiling must stay cheap."""
        result = Decoder().decode(encode(Message(9, EXPORT, [Template(256, [FieldSpec(4, 1)] * 513)])))
        assert result.errors == ["offset 24: set 0, template 256: 513 fields, from 1 to 512 are accepted"]
