"""`weir tap` against a real broker, and what it puts on a terminal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies
from rich.console import Console

from tests.support import deliver_now, eventually
from weir.bus import topics
from weir.bus.codec import Encoder
from weir.bus.deadletter import dead_letter_headers
from weir.bus.producer import DeliveryProducer
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings
from weir.processors.outcome import RawCoordinates
from weir.processors.syslog import make_process
from weir.tools.tap import Condition, Shown, Tap, TapError, Totals, parse_since, resolve
from weir.tools.tap_view import as_json, hexdump, printable, render, summary_line

NAMES = TopicNames("weir")
DELETE = b'<14>1 2026-03-01T12:00:00.000001Z q1 qumulo - - - 10.1.2.3,"EXAMPLE\\aino",smb,fs_delete,ok,4711,"/a/b.txt",""'
LOGIN = b"<38>1 2026-03-01T12:00:01Z bastion1 sshd 2211 - - Accepted publickey for maija"
BAD = b"<134>Mar  1 12:00:00 lm-1 CEF:0|Kemp|LM|1.0|11|Request"


def batch(units: list[bytes], *, ip: str = "10.0.0.5", name: str | None = None, receiver: str = "receive.syslog") -> RawBatch:
    return RawBatch(
        batch_id=new_batch_id(),
        site="here",
        receiver=receiver,
        transport="udp",
        source_ip=ip,
        listener_port=5514,
        received_at=time.time_ns() // 1000,
        units=units,
        source_name=name,
    )


class Bus:
    """Topics of one test and a producer for them."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.settings = ServiceSettings.model_validate(
            {"kafka_bootstrap_servers": servers, "topic_prefix": prefix, "instance": "t"}
        )
        topics.apply(self.settings)
        self.names = TopicNames(prefix)
        self.producer = DeliveryProducer(self.settings)
        self.encode = Encoder("raw-batch")

    def put(self, topic: str, one: RawBatch, **options: Any) -> None:
        deliver_now(self.producer, self.names[topic], self.encode(one.to_record()), key=one.source_ip.encode(), **options)

    def see(self, what: str, **options: Any) -> tuple[list[Shown], Totals]:
        """All there is from the beginning."""
        seen: list[Shown] = []
        tap = Tap(self.settings, resolve(what, self.names), since_us=0, follow=False, **options)
        return seen, tap.run(seen.append, threading.Event())


@pytest.fixture
def bus(kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    monkeypatch.setenv("WEIR_TOPIC_PARTITIONS", "2")
    made = Bus(kafka, topic_prefix)
    yield made
    made.producer.close()


def drawn(one: Shown, width: int, *, terminal: bool = False, **options: Any) -> str:
    console = Console(width=width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    with console.capture() as captured:
        console.print(render(one, width, **options))
    return captured.get()


class TestReading:
    def test_a_source_is_shown_with_what_its_units_decode_to(self, bus: Bus) -> None:
        bus.put("raw.syslog", batch([DELETE, LOGIN, b"\n", BAD], name="cluster-1"))
        bus.put("raw.syslog", batch([LOGIN], ip="10.0.0.6"))
        seen, totals = bus.see("10.0.0.5")
        assert [one.raw for one in seen] == [DELETE, LOGIN, b"\n", BAD]
        assert [one.state for one in seen] == ["decoded", "decoded", "empty", "dead"]
        assert seen[0].records[0][0] == "file-audit"
        assert seen[0].records[0][1]["event_action"] == "fs_delete"
        assert seen[3].dead
        assert (totals.units, totals.shown, totals.events, totals.dead, totals.empty) == (4, 4, 2, 1, 1)

    def test_a_source_is_found_by_name_and_by_network(self, bus: Bus) -> None:
        bus.put("raw.syslog", batch([DELETE], name="Cluster-1"))
        bus.put("raw.syslog", batch([LOGIN], ip="192.0.2.7"))
        assert [one.raw for one in bus.see("cluster-1")[0]] == [DELETE]
        assert [one.raw for one in bus.see("192.0.2.0/24")[0]] == [LOGIN]
        assert bus.see("198.51.100.1")[0] == []

    def test_conditions_choose_events_and_count_ends_it(self, bus: Bus) -> None:
        bus.put("raw.syslog", batch([LOGIN, DELETE, DELETE, DELETE]))
        seen, totals = bus.see("raw.syslog", conditions=[Condition.parse("event_action=fs_*")], count=2)
        assert [one.raw for one in seen] == [DELETE, DELETE]
        assert totals.shown == 2
        unlike, _ = bus.see("raw.syslog", conditions=[Condition.parse("event_action!=fs_*")])
        assert [one.raw for one in unlike] == [LOGIN]

    def test_dead_units_can_be_asked_for(self, bus: Bus) -> None:
        bus.put("raw.syslog", batch([LOGIN, BAD]))
        assert [one.raw for one in bus.see("raw.syslog", conditions=[Condition.parse("state=dead")])[0]] == [BAD]

    def test_an_event_topic_shows_its_records(self, bus: Bus) -> None:
        encode = Encoder("syslog")
        [record] = make_process()(batch([LOGIN]), RawCoordinates("t", 0, 0)).events["syslog"]
        deliver_now(bus.producer, bus.names["events.syslog"], encode(record))
        seen, _ = bus.see("events.syslog")
        assert seen[0].raw is None
        assert seen[0].records[0][1]["process_name"] == "sshd"
        assert bus.see(bus.names["events.syslog"])[0][0].records == seen[0].records

    def test_a_dead_letter_says_why(self, bus: Bus) -> None:
        headers = dead_letter_headers(
            service="process.syslog", stage="decode", topic="t", partition=0, offset=1, error="its header breaks off"
        )
        bus.put("raw.syslog.dlq", batch([BAD]), headers=headers)
        [one] = bus.see("raw.syslog.dlq")[0]
        assert one.dead == "its header breaks off"
        assert one.raw == BAD

    def test_a_record_in_no_known_format_is_shown_for_its_topic_and_not_for_a_source(self, bus: Bus) -> None:
        deliver_now(bus.producer, bus.names["raw.syslog"], b"\x07nothing")
        [one] = bus.see("raw.syslog")[0]
        assert one.raw == b"\x07nothing"
        assert one.dead is not None
        assert "wire format" in one.dead
        assert bus.see("10.0.0.5")[0] == []

    def test_following_begins_now_and_leaves_no_group_behind(self, bus: Bus) -> None:
        bus.put("raw.syslog", batch([LOGIN]))
        seen: list[Shown] = []
        stop, ready = threading.Event(), threading.Event()
        tap = Tap(bus.settings, resolve("raw.syslog", bus.names))
        thread = threading.Thread(target=tap.run, args=(seen.append, stop, ready.set))
        thread.start()
        try:
            assert ready.wait(20)
            bus.put("raw.syslog", batch([DELETE]))
            eventually(lambda: seen, 20)
        finally:
            stop.set()
            thread.join(20)
        assert [one.raw for one in seen] == [DELETE]

    def test_a_view_that_falls_behind_skips_ahead_and_says_so(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("weir.tools.tap._LAG", 20)
        monkeypatch.setattr("weir.tools.tap._PER_POLL", 5)
        stop, ready = threading.Event(), threading.Event()
        first, go_on = threading.Event(), threading.Event()
        seen: list[bytes] = []

        def show(one: Shown) -> None:
            seen.append(one.raw or b"")
            first.set()
            go_on.wait(60)

        tap = Tap(bus.settings, resolve("raw.syslog", bus.names))
        thread = threading.Thread(target=tap.run, args=(show, stop, ready.set))
        thread.start()
        try:
            assert ready.wait(20)
            for number in range(120):
                bus.put("raw.syslog", batch([b"<14>line %d" % number]))
            assert first.wait(20)
            go_on.set()
            eventually(lambda: seen[-1] == b"<14>line 119", 30)
        finally:
            go_on.set()
            stop.set()
            thread.join(20)
        assert tap.totals.skipped > 0
        assert tap.totals.records + tap.totals.skipped == 120
        assert "skipped to keep up" in summary_line(tap.totals)

    def test_a_topic_that_is_not_there_is_named(self, kafka: str, topic_prefix: str) -> None:
        unmade = ServiceSettings.model_validate({"kafka_bootstrap_servers": kafka, "topic_prefix": topic_prefix, "instance": "t"})
        with pytest.raises(TapError, match=r"events\.cef"):
            Tap(unmade, resolve("events.cef", TopicNames(topic_prefix))).run(lambda _: None, threading.Event())


class TestAsking:
    def test_what_is_a_topic_an_address_a_network_or_a_name(self) -> None:
        assert resolve("alerts", NAMES).topics == ["alerts"]
        assert resolve("weir.raw.beats.v1", NAMES).topics == ["raw.beats"]
        assert str(resolve("2001:db8::1", NAMES).address) == "2001:db8::1/128"
        assert resolve("10.0.0.7/8", NAMES).address is not None
        assert resolve("Core-Switch", NAMES).name == "core-switch"
        assert "raw.syslog" in resolve("Core-Switch", NAMES).topics

    def test_a_misspelt_topic_is_no_source(self) -> None:
        with pytest.raises(TapError, match=r"there is no topic raw\.sylog"):
            resolve("raw.sylog", NAMES)

    @pytest.mark.parametrize(("text", "back"), [("-5m", 300), ("-30s", 30), ("2h", 7200), ("-1.5d", 129_600)])
    def test_a_start_may_be_so_long_ago(self, text: str, back: int) -> None:
        assert parse_since(text, 10**15) == 10**15 - back * 10**6

    def test_a_start_may_be_a_time(self) -> None:
        assert parse_since("2026-03-01T12:00:00", 0) == parse_since("2026-03-01T14:00:00+02:00", 0) == 1_772_366_400_000_000
        with pytest.raises(TapError, match="--from yesterday"):
            parse_since("yesterday", 0)

    def test_conditions_take_lists_and_unset_fields(self) -> None:
        record = {"event_type": ["denied", "info"], "source_port": 22}
        assert Condition.parse("event_type=denied").holds(record)
        assert not Condition.parse("event_type!=denied").holds(record)
        assert Condition.parse("source_port=22").holds(record)
        assert Condition.parse("user_name=").holds(record)
        assert not Condition.parse("user_name=?*").holds(record)
        with pytest.raises(TapError, match="field=value"):
            Condition.parse("just words")


def shown(raw: bytes = DELETE, **values: object) -> Shown:
    base = {
        "time_us": 1_772_366_400_123_456, "topic": "raw.syslog", "partition": 0, "offset": 7, "unit": 3, "raw": raw,
        "records": [("syslog", {"message": "hello", "host_name": None, "event_id": "x"})],
        "labels": {"source_ip": "10.0.0.5", "source_name": "core", "transport": "udp"},
    }  # fmt: skip
    return Shown(**(base | values))


class TestShowing:
    @given(data=strategies.binary(max_size=300), text=strategies.text(max_size=60))
    @settings(max_examples=150, deadline=None)
    def test_nothing_a_sender_wrote_reaches_the_terminal_as_it_is(self, data: bytes, text: str) -> None:
        one = shown(data, records=[("syslog", {"message": text, "tags": [text]})], dead=text, labels={"source_ip": text})
        for width in (40, 80, 200):
            for line in drawn(one, width).split("\n"):
                assert all(char.isprintable() for char in line)
        assert all(0x20 <= ord(char) < 0x7F for char in as_json(one))

    def test_escape_sequences_and_overrides_are_written_out(self) -> None:
        assert printable("\x1b[2J\x9b1mА\u202eevil\n") == "\\x1b[2J\\x9b1mА\\u202eevil\\n"
        assert printable(b"\xff\xfe".decode("utf-8", "surrogateescape")) == "\\xff\\xfe"
        assert "\x1b]0;" not in drawn(shown(b"<14>\x1b]0;owned\x07"), 100, terminal=True)

    @pytest.mark.parametrize("width", [40, 80, 131, 132, 240])
    def test_no_line_is_wider_than_the_terminal(self, width: int) -> None:
        one = shown(DELETE * 5, records=[("file-audit", {"file_path": "/x" * 300, "user_name": "ä" * 50})])
        assert all(len(line) <= width for line in drawn(one, width).split("\n"))

    def test_raw_and_decoded_stand_side_by_side_where_there_is_room(self) -> None:
        def together(width: int) -> bool:
            return any("<14>1" in line and "message=hello" in line for line in drawn(shown(), width).split("\n"))

        assert together(200)
        assert not together(100)

    def test_either_can_be_had_alone(self) -> None:
        assert "message=hello" not in drawn(shown(), 100, show="raw")
        assert "<14>1" not in drawn(shown(), 100, show="decoded")

    def test_binary_is_a_hex_dump(self) -> None:
        assert hexdump(bytes(range(20))) == [
            "0000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  ................",
            "0010  10 11 12 13                                       ....",
        ]
        assert "0000  00 09 00 01" in drawn(shown(b"\0\x09\0\1" + bytes(40)), 100)
        assert hexdump(bytes(64), 2)[-1] == "… 32 bytes more"

    def test_colours_are_for_terminals_only(self) -> None:
        assert "\x1b[" in drawn(shown(), 100, terminal=True)
        assert "\x1b" not in drawn(shown(), 100)

    def test_what_is_dead_says_why_and_what_is_not_set_is_left_out(self) -> None:
        text = drawn(shown(records=[], dead="no CEF: its header breaks off"), 100)
        assert "dead: no CEF: its header breaks off" in text
        assert "host_name" not in drawn(shown(), 100)

    def test_json_keeps_bytes_that_are_no_text(self) -> None:
        document = json.loads(as_json(shown(b"\xff\0")))
        assert document["raw_base64"] == "/wA="
        assert json.loads(as_json(shown("ä".encode())))["raw"] == "ä"
        assert json.loads(as_json(shown()))["events"][0] == {"dataset": "syslog", "message": "hello", "event_id": "x"}
