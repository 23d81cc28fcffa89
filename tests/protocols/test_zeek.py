"""Zeek's text format: headers, values, escapes, and the columns that a log is known to have."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols import zeek

HEADER = (
    "#separator \\x09",
    "#set_separator\t,",
    "#empty_field\t(empty)",
    "#unset_field\t-",
    "#path\tthings",
    "#open\t2026-01-02-03-04-05",
    "#fields\tts\tuid\tid.orig_h\tid.orig_p\tcount\tdelta\tflag\tname\ttags\ttimes",
    "#types\ttime\tstring\taddr\tport\tcount\tinterval\tbool\tstring\tset[string]\tvector[interval]",
)


def header(*lines: str) -> zeek.Header:
    found = zeek.BLANK
    for line in lines or HEADER:
        assert zeek.is_directive(line, found)
        found = zeek.directive(line, found)
    return found


def test_a_record_comes_out_as_the_json_writer_would_give_it() -> None:
    line = "1379288667.706265\tCoy\t2001:db8::1\t1032\t7\t0.447460\tT\tx\\x09y\ta\\x2cb,c\t1.5,-"
    assert zeek.row(line, header()) == zeek.Row(
        {
            "ts": 1379288667.706265,
            "uid": "Coy",
            "id.orig_h": "2001:db8::1",
            "id.orig_p": 1032,
            "count": 7,
            "delta": 0.44746,
            "flag": True,
            "name": "x\ty",
            "tags": ["a,b", "c"],
            "times": [1.5, None],
        }
    )


def test_unset_values_are_left_out_and_empty_ones_are_empty() -> None:
    line = "1.0\t(empty)\t-\t-\t-\t-\t-\t\\x2d\t(empty)\t(empty)"
    assert zeek.row(line, header()).values == {"ts": 1.0, "uid": "", "name": "-", "tags": [], "times": []}


def test_separators_and_marks_are_what_the_header_says() -> None:
    found = header(
        "#separator \\x7c",
        "#set_separator|;",
        "#empty_field|EMPTY",
        "#unset_field|NIL",
        "#fields|ts|a|b",
        "#types|time|set[addr]|string",
    )
    assert zeek.row("2.5|192.0.2.1;192.0.2.2|NIL", found).values == {"ts": 2.5, "a": ["192.0.2.1", "192.0.2.2"]}
    assert zeek.row("2.5|EMPTY|-", found).values == {"ts": 2.5, "a": [], "b": "-"}


def test_a_new_header_in_the_same_file_forgets_the_old_one() -> None:
    assert header(*HEADER, "#separator \\x09").fields == ()
    assert header(*HEADER, "#fields\ta\tb").types == ()


@pytest.mark.parametrize(
    "line",
    [
        "#fields",
        "# fields\tx",
        "#Fields: date time",
        "#open issue",
        "#path/x",
        "#separator of things",
        "#types:\tx",
        "fields\tx",
        "",
    ],
)
def test_other_lines_that_begin_with_a_hash_are_no_part_of_a_header(line: str) -> None:
    assert not zeek.is_directive(line)


def test_bytes_that_are_no_utf8_stay_escaped_and_those_that_are_become_text() -> None:
    found = header("#fields\ta", "#types\tstring")
    assert zeek.row("caf\\xc3\\xa9 \\xff\\xfe \\\\x41 O=A\\, B", found).values == {"a": "café \\xff\\xfe \\x41 O=A\\, B"}


def test_a_value_that_its_type_does_not_allow_stays_text_and_is_named() -> None:
    line = "2014-01-01\tC\tnowhere\t70000\t-1\tinf\tyes\tx\ta\tsoon"
    values, misfits = zeek.row(line, header())
    assert misfits == ("ts", "id.orig_h", "id.orig_p", "count", "delta", "flag", "times")
    assert values["ts"] == "2014-01-01"
    assert values["count"] == "-1"


@pytest.mark.parametrize("line", ["", "1.0", "1.0\t" * 12])
def test_another_number_of_columns_is_an_error(line: str) -> None:
    with pytest.raises(zeek.ZeekError, match="columns under a header of 10"):
        zeek.row(line, header())


def test_numbers_too_long_for_their_type_are_misfits_not_work() -> None:
    found = header("#fields\ta\tb\tc", "#types\tcount\tint\tset[count]")
    started = time.perf_counter()
    assert zeek.row("9" * 100_000 + "\t-" + "9" * 100_000 + "\t" + "9" * 100_000, found).misfits == ("a", "b", "c")
    assert time.perf_counter() - started < 1.0
    assert zeek.row(f"{2**64 - 1}\t-5\t1,2", found).values == {"a": 2**64 - 1, "b": -5, "c": [1, 2]}


class TestKnownLogs:
    def test_every_layout_has_as_many_types_as_names_and_no_name_twice(self) -> None:
        for headers in zeek.layouts().values():
            for layout in headers:
                assert layout.complete
                assert len(set(layout.fields)) == len(layout.fields)

    def test_the_standard_logs_are_there(self) -> None:
        wanted = """capture_loss conn dce_rpc dhcp dnp3 dns dpd files ftp http intel irc kerberos known_certs known_devices
        known_hosts known_modbus known_services ldap ldap_search loaded_scripts modbus mqtt_connect mysql notice ntlm ntp ocsp
        packet_filter pe quic radius rdp reporter rfb signatures sip smb_files smb_mapping smtp snmp socks software ssh ssl stats
        syslog traceroute tunnel weird x509"""
        assert set(wanted.split()) <= zeek.layouts().keys()

    def test_a_line_without_its_header_is_read_by_the_layout_it_keeps_to(self) -> None:
        ends = "\t".join(
            [
                "1.0",
                "C1",
                "192.0.2.1",
                "1",
                "192.0.2.2",
                "2",
                "tcp",
                "-",
                "-",
                "-",
                "-",
                "S0",
                "-",
                "-",
                "0",
                "S",
                "1",
                "40",
                "0",
                "0",
                "-",
            ]
        )
        old, new, community = (zeek.fitting(f"{ends}{more}", "conn") for more in ("", "\t6", "\t1:abc="))
        assert old is not None
        assert new is not None
        assert community is not None
        assert (old.fields[-1], new.fields[-1], community.fields[-1]) == ("tunnel_parents", "ip_proto", "community_id")
        assert zeek.fitting(ends.replace("192.0.2.1", "x"), "conn") is None
        assert zeek.fitting(ends, "dns") is None
        assert zeek.fitting(ends, "unheard_of") is None

    @pytest.mark.parametrize(
        ("text", "log"),
        [
            ("/opt/zeek/logs/current/conn.log", "conn"),
            ("/x/conn.2021-03-01-00-00-00.log", "conn"),
            ("/x/2021-03-01/conn.00:00:00-01:00:00.log.gz", "conn"),
            ("C:\\zeek\\known_hosts.log", "known_hosts"),
            ("conn_20210301_00:00.log", "conn"),
            ("zeek.connection", "conn"),
            ("zeek.signature", "signatures"),
            ("bro_dns", "dns"),
            ("corelight_http", "http"),
            ("zeek", None),
            ("/var/log/messages", None),
            ("", None),
        ],
    )
    def test_names_of_files_datasets_and_programs_name_logs(self, text: str, log: str | None) -> None:
        assert zeek.log_named(text) == log

    def test_types_are_known_by_name_where_the_header_lacks_them(self) -> None:
        found = zeek.completed(header("#path\tconn", "#fields\tts\torig_pkts\tmine"))
        assert found.types == ("time", "count", "string")


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).filter(lambda text: "\n" not in text)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "ts": st.integers(0, 4 * 10**15).map(lambda micros: round(micros / 1e6, 6)),
        "uid": TEXT,
        "id.orig_h": st.ip_addresses().map(str),
        "id.orig_p": st.integers(0, 65_535),
        "count": st.integers(0, 2**64 - 1),
        "delta": st.integers(-(10**12), 10**12).map(lambda micros: round(micros / 1e6, 6)),
        "flag": st.booleans(),
        "name": TEXT,
        "tags": st.lists(TEXT.filter(bool), max_size=4).filter(lambda tags: tags != ["(empty)"]),
    },
)


@given(VALUES, st.sampled_from(["\t", "|"]), st.sampled_from([",", ";"]))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(values: dict[str, object], separator: str, set_separator: str) -> None:
    layout = header()._replace(separator=separator, set_separator=set_separator)
    assert zeek.row(zeek.encode(values, layout), layout) == zeek.Row(values)


@given(st.lists(st.one_of(st.text(max_size=40), st.sampled_from(HEADER)), max_size=12), st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_header_and_no_line_raises_anything_else(lines: list[str], line: str) -> None:
    found = zeek.BLANK
    for text in lines:
        zeek.is_directive(text, found)
        found = zeek.directive(text, found)
    if found.complete:
        with contextlib.suppress(zeek.ZeekError):
            zeek.row(line, found)
    zeek.fitting(line, "conn")
    zeek.log_named(line)
