import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.processors.localtime import local_time
from weir.protocols.syslog import SyslogMessage, format_rfc5424, is_text, parse

NOW = 1_717_243_200_000_000  # 2024-06-01T12:00:00Z


def micros(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1_000_000


def read(text: str | bytes, received_us: int = NOW, utc_offset_minutes: int = 0) -> SyslogMessage:
    data = text.encode() if isinstance(text, str) else text
    return parse(data, received_us=received_us, utc_offset_minutes=utc_offset_minutes)


class TestRfc5424:
    def test_reads_every_field(self) -> None:
        message = read('<165>1 2024-05-01T10:00:00.1234Z web-1 nginx 812 ID47 [a@1 x="1" y="2"][b@1 z=""] hello  world')
        assert message == SyslogMessage(
            "rfc5424",
            20,
            5,
            micros(2024, 5, 1, 10) + 123_400,
            "web-1",
            "nginx",
            "812",
            "ID47",
            {"a@1": {"x": "1", "y": "2"}, "b@1": {"z": ""}},
            "hello  world",
        )

    def test_nil_values_are_none(self) -> None:
        assert read("<0>1 - - - - - -") == SyslogMessage("rfc5424", 0, 0, None, None, None, None, None, None, "")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2024-05-01T10:00:00Z", micros(2024, 5, 1, 10)),
            ("2024-05-01T10:00:00.5+02:00", micros(2024, 5, 1, 8) + 500_000),
            ("2024-05-01T10:00:00.000001-05:30", micros(2024, 5, 1, 15, 30) + 1),
            ("2024-05-01T10:00:00.123456789Z", micros(2024, 5, 1, 10) + 123_456),
            ("2024-02-29T23:59:59Z", micros(2024, 2, 29, 23, 59, 59)),
        ],
    )
    def test_timestamps(self, text: str, expected: int) -> None:
        assert read(f"<13>1 {text} h a - - - m").timestamp_us == expected

    def test_escapes_in_structured_data(self) -> None:
        """Only three characters can be escaped; a backslash before any other is itself."""
        message = read(r'<13>1 - h a - - [id v="q\"b\\s\]r\n"] m')
        assert message.structured_data == {"id": {"v": r"q\"b\s]r\n".replace(r"\"", '"')}}
        assert message.message == "m"

    def test_repeated_param_names_are_joined(self) -> None:
        assert read('<13>1 - h a - - [origin ip="192.0.2.1" ip="192.0.2.2"]').structured_data == {
            "origin": {"ip": "192.0.2.1,192.0.2.2"}
        }

    def test_byte_order_mark_and_terminators_are_not_of_the_message(self) -> None:
        assert read("<13>1 - h a - - - \ufeffgrüß\r\n\0").message == "grüß"

    def test_what_is_not_utf_8_is_read_as_latin_1_and_can_be_turned_back(self) -> None:
        message = read(b'<13>1 - h a - - [id v="\xe2\x8c\x98"] \xef\xbb\xbff\xfcnf')
        assert message.message == "fünf"
        assert message.structured_data == {"id": {"v": "\u2318"}}

    @pytest.mark.parametrize(
        "text",
        [
            "<192>1 - h a - - - m",
            "<13>1 2024-02-30T10:00:00Z h a - - - m",
            "<13>1 2024-05-01T24:00:00Z h a - - - m",
            "<13>1 2024-05-01t10:00:00z h a - - - m",
            '<13>1 - h a - - [id v="open] m',
            '<13>1 - h a - - [id v="]"] m',
            '<13>1 - h a - - [id v="1"][id v="2"] m',
            "<13>1 - h a - - [] m",
            "<13>1 - h a",
            f"<13>1 - h {'a' * 49} - - - m",
        ],
    )
    def test_what_does_not_conform_is_kept_whole(self, text: str) -> None:
        message = read(text)
        assert message.format == "unparsed"
        assert message.message == text
        assert (message.facility, message.severity) == ((None, None) if "192" in text else (1, 5))

    def test_of_a_header_that_breaks_off_what_stands_before_the_fault_is_read(self) -> None:
        message = read('<13>1 2024-05-01T10:00:00Z h app - ID [id v="open] m')
        assert message[1:8] == (1, 5, micros(2024, 5, 1, 10), "h", "app", None, "ID")
        assert read("<13>1 2024-05-01T10:00:00Z h")[1:8] == (1, 5, micros(2024, 5, 1, 10), "h", None, None, None)
        assert read("<13>1 2024-02-30T10:00:00Z h a - - - m")[3:6] == (None, "h", "a")

    def test_an_octet_count_that_a_relay_left_is_passed_over(self) -> None:
        assert read("37 <13>1 - h a - - - m")[:9] == read("<13>1 - h a - - - m")[:9]
        assert read("37 <13>May 11 22:14:15 h a: m") == read("<13>May 11 22:14:15 h a: m")


class TestRfc3164:
    @pytest.mark.parametrize(
        ("text", "host", "app", "proc", "message"),
        [
            ("<34>May 11 22:14:15 mymachine su: 'su root' failed", "mymachine", "su", None, "'su root' failed"),
            ("<34>May  1 22:14:15 10.0.0.1 sshd[42]: ok", "10.0.0.1", "sshd", "42", "ok"),
            ("May 11 22:14:15 web sudo[1]: no PRI", "web", "sudo", "1", "no PRI"),
            ("May  9 21:20:08  sshd[8]: last message repeated", None, "sshd", "8", "last message repeated"),
            ("<34>May 11 22:14:15 su: no host", None, "su", None, "no host"),
            ("<34>May 11 22:14:15 ABC-1-234567 Some message here", "ABC-1-234567", None, None, "Some message here"),
            ("<34>May 11 22:14:15 ABC http://x/ y", "ABC", None, None, "http://x/ y"),
            ("<34>2024-05-01T10:00:00.123+02:00 lb l4d: up", "lb", "l4d", None, "up"),
            ("<166>May 11 2024 22:14:15: %ASA-6-302021: Teardown", None, None, None, "%ASA-6-302021: Teardown"),
            ("<34>May 11 22:14:15 fe80::1 a.b/c[7] (x): y", "fe80::1", "a.b/c", "7", "(x): y"),
        ],
    )
    def test_host_and_tag(self, text: str, host: str | None, app: str | None, proc: str | None, message: str) -> None:
        got = read(text)
        assert (got.format, got.hostname, got.app_name, got.proc_id, got.message) == ("rfc3164", host, app, proc, message)
        assert (got.facility is None) is (not text.startswith("<"))

    @pytest.mark.parametrize("payload", ["CEF:0|a|b|c|d|e|1|", "CEF: 0|a|b|c|d|e|1|x=1", "LEEF:1.0|a|b|c|d|"])
    def test_a_payload_with_a_colon_is_not_taken_for_a_tag(self, payload: str) -> None:
        assert read(f"<13>May 11 22:14:15 lb {payload}").message == payload
        assert read(f"<13>May 11 22:14:15 {payload}").message == payload
        assert read(f"<13>May 11 22:14:15 lb ssomgr: {payload}").message == payload

    @pytest.mark.parametrize(
        ("stamp", "received", "expected"),
        [
            ("Jun  1 11:59:00", micros(2024, 6, 1, 12), micros(2024, 6, 1, 11, 59)),
            ("Dec 31 23:59:59", micros(2025, 1, 1, 0, 0, 5), micros(2024, 12, 31, 23, 59, 59)),
            ("Jan  1 00:00:10", micros(2024, 12, 31, 23, 59, 50), micros(2025, 1, 1, 0, 0, 10)),
            ("Jun  2 14:00:00", micros(2024, 6, 1, 12), micros(2024, 6, 2, 14)),
            ("Jun  2 14:00:01", micros(2024, 6, 1, 12), micros(2023, 6, 2, 14, 0, 1)),
            ("Feb 29 08:00:00", micros(2025, 3, 1), micros(2024, 2, 29, 8)),
            ("Jun  1 11:59:00.25", micros(2024, 6, 1, 12), micros(2024, 6, 1, 11, 59) + 250_000),
            ("May 11 2021 22:14:15", micros(2024, 6, 1, 12), micros(2021, 5, 11, 22, 14, 15)),
        ],
    )
    def test_a_time_without_a_year_gets_the_latest_that_is_not_26_hours_ahead(
        self, stamp: str, received: int, expected: int
    ) -> None:
        assert read(f"<13>{stamp} h a: m", received).timestamp_us == expected

    def test_the_senders_zone_is_used_only_where_the_timestamp_names_none(self) -> None:
        assert read("<13>May 11 22:00:00 h a: m", utc_offset_minutes=120).timestamp_us == micros(2024, 5, 11, 20)
        assert read("2024-05-11T22:00:00 h a: m", utc_offset_minutes=-60).timestamp_us == micros(2024, 5, 11, 23)
        assert read("2024-05-11T22:00:00Z h a: m", utc_offset_minutes=120).timestamp_us == micros(2024, 5, 11, 22)
        assert read("2024-05-11T22:00:00+01:00 h a: m", utc_offset_minutes=120).timestamp_us == micros(2024, 5, 11, 21)

    @pytest.mark.parametrize(
        ("stamp", "expected"),
        [
            ("Thu May  9 22:00:00", micros(2024, 5, 9, 22)),
            ("May  9 22:00:00 2021", micros(2021, 5, 9, 22)),
            ("2021 May  9 22:00:00", micros(2021, 5, 9, 22)),
            ("2021-05-09 22:00:00", micros(2021, 5, 9, 22)),
            ("2021-05-09 22:00:00,5 +0200", micros(2021, 5, 9, 20) + 500_000),
            ("May  9 2021 22:00:00 UTC", micros(2021, 5, 9, 22)),
            ("May  9 22:00:00 CEST", micros(2024, 5, 9, 20)),
            ("May  9 22:00:00.123 EST 2021", micros(2021, 5, 10, 3) + 123_000),
        ],
    )
    def test_other_ways_of_writing_the_time(self, stamp: str, expected: int) -> None:
        message = read(f"<13>{stamp} h a: m")
        assert message == SyslogMessage("rfc3164", 1, 5, expected, "h", "a", None, None, None, "m")

    def test_a_zone_word_with_several_meanings_leaves_it_to_the_zone_of_the_source(self) -> None:
        assert read("<13>May  9 22:00:00 IST: m", utc_offset_minutes=330).timestamp_us == micros(2024, 5, 9, 16, 30)

    @pytest.mark.parametrize(
        ("text", "host", "app", "message"),
        [
            ("May 11 22:14:15 2001:db8::1 sshd[1]: m", "2001:db8::1", "sshd", "m"),
            ("May 11 22:14:15 1,2015/01/05 05:38:58,00,THREAT", None, None, "1,2015/01/05 05:38:58,00,THREAT"),
            ("May 11 22:14:15 date=2020-01-01 time=10:00:00", None, None, "date=2020-01-01 time=10:00:00"),
            ('May 11 22:14:15 {"a": 1}', None, None, '{"a": 1}'),
            ('May 11 22:14:15 h {"a": 1}', "h", None, '{"a": 1}'),
            ("May 11 22:14:15 last message repeated 3 times", None, None, "last message repeated 3 times"),
            ("May 11 22:14:15 --- last message repeated 1 time ---", None, None, "--- last message repeated 1 time ---"),
            ("May 11 22:14:15 h last message repeated 3 times", "h", None, "last message repeated 3 times"),
            ("May 11 22:14:15 Message forwarded from aix1: sshd[1]: m", "aix1", "sshd", "m"),
            ("May 11 22:14:15 h Slack Helper[7]: m", "h", "Slack Helper", "m"),
            ("May 11 22:14:15 h Some words and: m", "h", None, "Some words and: m"),
            ("May 11 22:14:15 h %ASA-6-302013: m", "h", None, "%ASA-6-302013: m"),
        ],
    )
    def test_what_is_no_host_or_tag_is_not_taken_for_one(self, text: str, host: str | None, app: str | None, message: str) -> None:
        got = read(text)
        assert (got.hostname, got.app_name, got.message) == (host, app, message)

    @pytest.mark.parametrize("text", ["hello", "<13>hello", "<13>Foo 11 22:14:15 h a: m", "<13>Feb 30 22:14:15 h a: m", "", "<13>"])
    def test_text_without_a_header_is_unparsed(self, text: str) -> None:
        message = read(text)
        assert (message.format, message.message) == ("unparsed", text)
        assert message.facility == (1 if text.startswith("<13>") else None)


class TestDevices:
    """What Cisco's devices put around the time."""

    @pytest.mark.parametrize(
        ("text", "stamp", "host", "device"),
        [
            ("29: *Mar  1 18:48:50.483 UTC: %A-5-B: m", micros(2024, 3, 1, 18, 48, 50) + 483_000, None, {"sequence": "29",
             "clock": "*"}),
            ("r1: 000010: .Mar  1 18:48:50: %A-5-B: m", micros(2024, 3, 1, 18, 48, 50), "r1", {"sequence": "000010", "clock": "."}),
            ("33: 10.0.0.1: Mar  1 18:48:50 CET: %A-5-B: m", micros(2024, 3, 1, 17, 48, 50), "10.0.0.1", {"sequence": "33"}),
            (": 2021 Mar  1 18:48:50 UTC: %A-5-B: m", micros(2021, 3, 1, 18, 48, 50), None, None),
            ("51: RP/0/RSP0/CPU0:Mar  1 18:48:50: %A-5-B: m", micros(2024, 3, 1, 18, 48, 50), None,
             {"sequence": "51", "slot": "RP/0/RSP0/CPU0"}),
            ("wlc: *Dot1x_Task_0: Mar 01 18:48:50.5: %A-5-B: m", micros(2024, 3, 1, 18, 48, 50) + 500_000, "wlc",
             {"task": "Dot1x_Task_0"}),
            (": 1w2d: %A-5-B: m", None, None, {"uptime": "1w2d"}),
            ("44: 00:00:46: %A-5-B: m", None, None, {"sequence": "44", "uptime": "00:00:46"}),
            (":Jul 06 2021 08:52:35: %A-5-B: m", micros(2021, 7, 6, 8, 52, 35), None, None),
        ],
    )  # fmt: skip
    def test_is_read(self, text: str, stamp: int | None, host: str | None, device: dict[str, str] | None) -> None:
        message = read(f"<189>{text}")
        assert message == SyslogMessage("rfc3164", 23, 5, stamp, host, None, None, None, None, "%A-5-B: m", device)

    @pytest.mark.parametrize("text", ["<999>29: *Mar  1 18:48:50: %A-5-B: m", "<189>29: *Mar 41 18:48:50: %A-5-B: m", "<189>29: m"])
    def test_what_is_not_such_a_header_stays_whole(self, text: str) -> None:
        assert read(text)[0::9] == ("unparsed", text)


class TestNewYear:
    """A time without a year is of the latest year in which it is no more than 26 hours ahead of its receipt, both in UTC."""

    @pytest.mark.parametrize(
        "zone", ["Pacific/Kiritimati", "Asia/Tokyo", "Europe/Vienna", "UTC", "America/New_York", "Pacific/Pago_Pago"]
    )
    @pytest.mark.parametrize("minutes", [-1_500, -60, -1, 0, 1, 60, 1_500])
    def test_a_message_gets_the_time_at_which_it_was_written(self, zone: str, minutes: int) -> None:
        received = micros(2025, 1, 1) + minutes * 60_000_000
        to_utc = local_time(zone, received, 0)
        for late in (0, 5, 300, 86_400):
            sent = received - late * 1_000_000
            stamp = datetime.fromtimestamp(sent / 1_000_000, ZoneInfo(zone)).strftime("%b %e %H:%M:%S")
            message = parse(f"<13>{stamp} h a: m".encode(), received_us=received, to_utc=to_utc)
            assert message.timestamp_us == sent, (stamp, late)

    @settings(max_examples=100)
    @given(st.integers(800_000_000, 2_800_000_000), st.integers(-26 * 3600, 300 * 86_400), st.integers(-720, 840))
    def test_holds_at_any_time_of_any_year(self, sent: int, late: int, zone: int) -> None:
        local = datetime.fromtimestamp(sent + zone * 60, UTC)
        message = parse(
            f"<13>{local:%b %e %H:%M:%S} h a: m".encode(), received_us=(sent + late) * 1_000_000, utc_offset_minutes=zone
        )
        assert message.timestamp_us == sent * 1_000_000


HEADER_VALUE = st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32).filter(
    lambda text: text != "-"
)
SD_NAME = st.text(st.sampled_from("abcXYZ019@._!#\\"), min_size=1, max_size=32)
# Surrogates are no characters; a byte order mark in front and line ends behind are framing.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
MESSAGE = TEXT.filter(lambda text: not text.startswith("\ufeff") and text == text.rstrip("\r\n\0"))


class TestEncoder:
    @settings(max_examples=150)
    @given(
        pri=st.integers(0, 191),
        timestamp_us=st.none() | st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
        values=st.tuples(HEADER_VALUE, HEADER_VALUE, HEADER_VALUE, HEADER_VALUE),
        structured_data=st.none() | st.dictionaries(SD_NAME, st.dictionaries(SD_NAME, TEXT, max_size=3), min_size=1, max_size=3),
        message=MESSAGE,
        bom=st.booleans(),
    )
    def test_parse_reads_back_what_was_written(
        self,
        pri: int,
        timestamp_us: int | None,
        values: tuple[str | None, str | None, str | None, str | None],
        structured_data: dict[str, dict[str, str]] | None,
        message: str,
        bom: bool,
    ) -> None:
        host, app, proc, msg_id = values
        data = format_rfc5424(
            facility=pri >> 3,
            severity=pri & 7,
            timestamp_us=timestamp_us,
            hostname=host,
            app_name=app,
            proc_id=proc,
            msg_id=msg_id,
            structured_data=structured_data,
            message=message,
            bom=bom,
        )
        expected = SyslogMessage("rfc5424", pri >> 3, pri & 7, timestamp_us, host, app, proc, msg_id, structured_data, message)
        assert read(data) == expected

    def test_header_values_cannot_break_out_of_their_field(self) -> None:
        data = format_rfc5424(facility=1, severity=5, timestamp_us=None, hostname="a b\n<0>1", app_name="é" * 60, message="m")
        assert data == b"<13>1 - a?b?<0>1 " + b"?" * 48 + b" - - - m"

    def test_forbidden_structured_data_names_are_refused(self) -> None:
        with pytest.raises(ValueError, match="structured data name 'a b'"):
            format_rfc5424(facility=1, severity=5, timestamp_us=None, structured_data={"a b": {}})

    def test_facility_severity_and_time_out_of_range_are_refused(self) -> None:
        with pytest.raises(ValueError, match="facility 24"):
            format_rfc5424(facility=24, severity=5, timestamp_us=None)
        with pytest.raises(ValueError, match="years 1 to 9999"):
            format_rfc5424(facility=1, severity=5, timestamp_us=10**18)


class TestIsText:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"plain\tline\r\n",
            b"trailing NUL\0",
            "grüße, \u2603".encode(),
            "grüße von früher".encode("latin-1"),
            b"<13>\x00\x01\x02",
        ],
    )
    def test_a_possible_log_line(self, data: bytes) -> None:
        assert is_text(data)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"half \0 text",
            b"\x1b[31mred",
            bytes(range(0x80, 0xA0)),
            b"<999>\x00\x01",
        ],
    )
    def test_evidently_something_else(self, data: bytes) -> None:
        assert not is_text(data)


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.binary(max_size=80).map(b"<13>1 - h a - - ".__add__), st.integers(-(10**18), 10**18))
def test_no_bytes_make_it_raise_and_all_text_can_be_encoded(data: bytes, received_us: int) -> None:
    message = parse(data, received_us=received_us)
    message.message.encode()
    is_text(data)


@pytest.mark.parametrize(
    "data",
    [
        b"<13>1 - h a - - " + b"[a" * 32000,
        b"<13>1 - h a - - [a" + b' b="' * 16000,
        b'<13>1 - h a - - [a b="' + b"\\" * 65000,
        b"<13>1 - h a - - " + b'[a b="c"]' * 7000,
        b"<13>May 11 22:14:15 " + b"a" * 65000,
        b"<13>May 11 22:14:15 h " + b"a[" * 32000,
        b"<13>May 11 22:14:15 h " + b"A " * 32000,
        b"<13>May 11 22:14:15 h " + b"Aa[1" * 16000,
        b"<189>" + b"29: " * 16000,
        b"<189>29: " + b"a" * 65000,
        b"<189>29: *" + b"a" * 65000 + b": Mar",
        b"1 " * 32000 + b"<13>",
        b"<13>1 2024-05-01T10:00:00Z " + b"a" * 65000,
        b" " * 65000,
        b"<13>1 2024-05-01T10:00:00." + b"9" * 65000,
    ],
    ids=lambda data: data[:30].decode(),
)
def test_hostile_input_costs_one_pass(data: bytes) -> None:
    began = time.perf_counter()
    read(data)
    assert time.perf_counter() - began < 1
