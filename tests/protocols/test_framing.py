import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.framing import Frame, FramingError, SyslogFramer


def run(pieces: list[bytes], limit: int = 65536) -> list[Frame]:
    framer = SyslogFramer(limit)
    frames = [frame for piece in pieces for frame in framer.feed(piece)]
    return frames + framer.finish()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def whole(*messages: bytes) -> list[Frame]:
    return [Frame(message, len(message)) for message in messages]


def lost(data: bytes) -> Frame:
    return Frame(data, len(data), lost=True)


class TestLines:
    def test_ends_in_lf_crlf_or_nul(self) -> None:
        assert run([b"<13>a\n<13>b\r\n<13>c\0<13>d\n"]) == whole(b"<13>a", b"<13>b", b"<13>c", b"<13>d")

    def test_the_unended_line_comes_at_the_close(self) -> None:
        framer = SyslogFramer()
        assert framer.feed(b"<13>a\n<13>b") == whole(b"<13>a")
        assert framer.finish() == whole(b"<13>b")
        assert framer.finish() == []

    def test_empty_lines_are_no_messages(self) -> None:
        assert run([b"\n\r\n<13>a\n\n\r\n\0<13>b\n\n"]) == whole(b"<13>a", b"<13>b")

    def test_a_line_that_begins_with_digits_is_no_count(self) -> None:
        assert run([b"2024-05-01T10:00:00Z h a\n10 green bottles\n"]) == whole(b"2024-05-01T10:00:00Z h a", b"10 green bottles")
        assert run([b"10 green bottles\n"]) == whole(b"10 green bottles")
        assert run([b"12"]) == whole(b"12")

    def test_a_long_line_is_cut_marked_and_not_merged(self) -> None:
        assert run([b"<13>" + b"x" * 96 + b"\n<13>b\n"], limit=10) == [Frame(b"<13>xxxxxx", 100), Frame(b"<13>b", 5)]

    @pytest.mark.parametrize("step", [1, 2, 3, 1000])
    def test_a_space_before_the_priority_is_no_part_of_the_message(self, step: int) -> None:
        stream = b"<13>a\n <13>b\n <13>c\r\n  two spaces\n"
        pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
        assert run(pieces, 10) == [*whole(b"<13>a", b"<13>b", b"<13>c"), Frame(b"  two spac", 12)]

    def test_the_cr_does_not_count_against_the_limit(self) -> None:
        assert run([b"<13>5\r", b"\n"], limit=5) == whole(b"<13>5")


class TestOctetCounting:
    def test_messages_may_hold_line_ends(self) -> None:
        assert run([b"8 <13>a\nbc5 <13>d"]) == whole(b"<13>a\nbc", b"<13>d")

    def test_line_ends_between_messages_are_passed_over(self) -> None:
        assert run([b"5 <13>a\n5 <13>b\r\n\0005 <13>c"]) == whole(b"<13>a", b"<13>b", b"<13>c")

    def test_an_incomplete_message_at_the_close_is_marked(self) -> None:
        assert run([b"5 <13>a9 <13>b"]) == [Frame(b"<13>a", 5), Frame(b"<13>b", 9)]
        assert run([b"5 <13>a9 "]) == whole(b"<13>a")

    def test_a_long_message_is_cut_marked_and_not_merged(self) -> None:
        assert run([b"100 <13>" + b"x" * 96 + b"5 <13>b"], limit=10) == [Frame(b"<13>xxxxxx", 100), Frame(b"<13>b", 5)]

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
    @pytest.mark.parametrize(
        ("stream", "frames"),
        [
            pytest.param(b"5 <13>a 5 <13>b\n 5 <13>c \r\n5 <13>d", whole(b"<13>a", b"<13>b", b"<13>c", b"<13>d"), id="space"),
            pytest.param(b"6 <13>a\n6 <13>b ", whole(b"<13>a\n", b"<13>b "), id="counted line end"),
            pytest.param(b"5 <13>a<13>a line\r\n5 <13>b", whole(b"<13>a", b"<13>a line", b"<13>b"), id="line among them"),
            pytest.param(b"5 <13>a<13>a line\0005 <13>b", whole(b"<13>a", b"<13>a line", b"<13>b"), id="NUL line among them"),
            pytest.param(b"5 <13>a<13>un", whole(b"<13>a", b"<13>un"), id="line without its end"),
            pytest.param(b"5 <13>a<1", whole(b"<13>a", b"<1"), id="beginning of a line"),
        ],
    )
    def test_what_senders_put_between_messages_costs_none(self, stream: bytes, frames: list[Frame], step: int) -> None:
        assert run([stream[start : start + step] for start in range(0, len(stream), step)]) == frames

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
    @pytest.mark.parametrize(
        ("stream", "frames"),
        [
            pytest.param(
                "6 <13>äö7 <13>nxt".encode(),
                [*whole("<13>ä".encode()), lost("ö".encode()), *whole(b"<13>nxt")],
                id="characters",
            ),
            pytest.param(
                "6 <13>äö\n7 <13>nxt".encode(),
                [*whole("<13>ä".encode()), lost("ö".encode()), *whole(b"<13>nxt")],
                id="line end",
            ),
            pytest.param(b"5 <13>a0 <13>b\n5 <13>c", [*whole(b"<13>a"), lost(b"0 <13>b"), *whole(b"<13>c")], id="zero"),
            pytest.param(
                b"5 <13>axx\n10 green\n5 <13>c", [*whole(b"<13>a"), lost(b"xx"), lost(b"10 green"), *whole(b"<13>c")], id="t"
            ),
            pytest.param(
                b"5 <13>a123456789 <13>b\n5 <13>c", [*whole(b"<13>a"), lost(b"123456789 <13>b"), *whole(b"<13>c")], id="nine"
            ),
            pytest.param(b"5 <13>axx", [*whole(b"<13>a"), lost(b"xx")], id="at the close"),
        ],
    )
    def test_what_a_wrong_count_leaves_over_is_marked_and_the_stream_goes_on(
        self, stream: bytes, frames: list[Frame], step: int
    ) -> None:
        assert run([stream[start : start + step] for start in range(0, len(stream), step)]) == frames

    @pytest.mark.parametrize("step", [1, 3, 1000])
    def test_where_nothing_more_can_be_found_it_says_so_and_keeps_what_came_before(self, step: int) -> None:
        framer = SyslogFramer(50)
        stream = b"5 <13>a5 <13>b" + b"x" * 100
        frames: list[Frame] = []

        def feed_all() -> None:
            for start in range(0, len(stream), step):
                frames.extend(framer.feed(stream[start : start + step]))

        with pytest.raises(FramingError, match="at byte 14 of the connection") as caught:
            feed_all()
        assert frames + caught.value.frames == whole(b"<13>a", b"<13>b")
        assert (caught.value.offset, caught.value.rest) == (14, b"x" * 50)
        with pytest.raises(FramingError):
            framer.feed(b"5 <13>c")
        assert framer.finish() == []

    @pytest.mark.parametrize("step", [1, 3, 1000])
    def test_a_count_that_cannot_be_true_swallows_nothing(self, step: int) -> None:
        stream = b"5 <13>a1048577 <13>b\n5 <13>c1048577 <13>d5 <13>e"
        frames = [*whole(b"<13>a"), lost(b"1048577 <13>b"), *whole(b"<13>c"), lost(b"1048577 <13>d"), *whole(b"<13>e")]
        assert run([stream[start : start + step] for start in range(0, len(stream), step)]) == frames

    def test_what_is_believed_grows_with_the_limit(self) -> None:
        framer = SyslogFramer(200_000)
        assert framer.feed(b"1600000 <13>" + b"x" * 1_599_996 + b"5 <13>b") == [
            Frame(b"<13>" + b"x" * 199_996, 1_600_000),
            *whole(b"<13>b"),
        ]

    def test_a_connection_that_begins_with_such_a_count_is_one_of_lines(self) -> None:
        assert run([b"20261121 <13>a\n20261121 <13>b\n"]) == whole(b"20261121 <13>a", b"20261121 <13>b")

    def test_a_sender_that_goes_on_breaking_its_frames_is_given_up(self) -> None:
        framer = SyslogFramer()
        with pytest.raises(FramingError) as caught:
            framer.feed(b"5 <13>a" + b"no count\n" * 100)
        assert caught.value.frames == [*whole(b"<13>a"), *[lost(b"no count")] * 16]


class TestLineEnds:
    def test_the_end_seen_first_holds_for_the_connection(self) -> None:
        assert run([b"<13>a\n<13>b\0c\n"]) == whole(b"<13>a", b"<13>b\0c")
        assert run([b"<13>a\0<13>b\nc\0"]) == whole(b"<13>a", b"<13>b\nc")

    @pytest.mark.parametrize("ends", [b"\n\0", b"\0\n", b"\r\n\0", b"\0\r\n", b"\r\0\n"])
    @pytest.mark.parametrize("step", [1, 2, 3, 1000])
    def test_both_ends_after_each_message_are_one(self, ends: bytes, step: int) -> None:
        stream = b"".join(b"<13>%d" % number + ends for number in range(4))
        pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
        assert run(pieces) == whole(b"<13>0", b"<13>1", b"<13>2", b"<13>3")

    def test_the_other_end_counts_before_a_priority_so_that_messages_never_merge(self) -> None:
        assert run([b"<13>a\n<13>b\0", b"<1", b"3>c\n<13>d\0<not a priority\n"]) == whole(
            b"<13>a", b"<13>b", b"<13>c", b"<13>d\0<not a priority"
        )

    def test_blank_lines_are_counted(self) -> None:
        framer = SyslogFramer()
        framer.feed(b"\n<13>a\n\n\r\n<13>b\n")
        framer.feed(b"\n")
        assert framer.blank == 4


MESSAGES = st.lists(st.binary(max_size=40).map(b"<13>".__add__), max_size=8)
PLACES = st.lists(st.integers(0, 1000), max_size=12)


@settings(max_examples=150)
@given(messages=MESSAGES, places=PLACES)
def test_counted_messages_come_back_however_the_stream_is_split(messages: list[bytes], places: list[int]) -> None:
    stream = b"".join(b"%d %b" % (len(message), message) for message in messages)
    assert run(cut(stream, places)) == whole(*messages)


@settings(max_examples=150)
@given(messages=MESSAGES, ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\0"]), min_size=8, max_size=8), places=PLACES)
def test_lines_come_back_however_the_stream_is_split(messages: list[bytes], ends: list[bytes], places: list[int]) -> None:
    plain = [message.translate(None, b"\r\n\0") for message in messages]
    stream = b"".join(message + end for message, end in zip(plain, ends, strict=False))
    assert run(cut(stream, places)) == whole(*plain)


PIECES = [
    b"1",
    b"7",
    b" ",
    b"<",
    b">",
    b"0",
    b"x",
    b"\n",
    b"\r",
    b"\0",
    b"12 <",
    b"3 <ab",
    b"4 <1>",
    b"<13>",
    b"9 <13>",
    b"xxxx",
    b"2000000 <",
]
ALPHABET = st.lists(st.sampled_from(PIECES), max_size=40)


def outcome(pieces: list[bytes]) -> tuple[list[Frame], int | None]:
    framer = SyslogFramer(5)
    frames: list[Frame] = []
    try:
        for piece in pieces:
            frames += framer.feed(piece)
            assert held(framer) <= 5 + 20
    except FramingError as error:
        return frames + error.frames, error.offset
    return frames + framer.finish(), None


def held(framer: SyslogFramer) -> int:
    return len(framer._held) + len(framer._head)


@settings(max_examples=300)
@given(stream=ALPHABET.map(b"".join), places=PLACES)
def test_any_stream_gives_the_same_however_it_is_split(stream: bytes, places: list[int]) -> None:
    """Frames, cuts and the place of a failure, with memory bounded by the limit."""
    together = outcome([stream])
    assert outcome(cut(stream, places)) == together
    assert outcome([stream[place : place + 1] for place in range(len(stream))]) == together


def test_an_endless_line_and_an_endless_message_stay_within_the_limit() -> None:
    for beginning in (b"<13>", b"99999999 <13>"):
        framer = SyslogFramer(1000)
        framer.feed(beginning)
        for _ in range(200):
            assert framer.feed(b"x" * 10_000) == []
            assert held(framer) <= 1001


@pytest.mark.parametrize("begin", [b"", b"20004 "])
class TestFull:
    """What is kept while all connections together hold too much."""

    END = {b"": b"\n", b"20004 ": b""}  # noqa: RUF012

    def test_ordinary_messages_are_not_touched(self, begin: bytes) -> None:
        framer = SyslogFramer()
        framer.full = True
        frames = [frame for piece in (b"<13>a", b"bc", b"\n<13>d\n") for frame in framer.feed(piece)]
        assert frames == whole(b"<13>abc", b"<13>d")

    def test_long_ones_are_cut_and_marked(self, begin: bytes) -> None:
        framer = SyslogFramer()
        framer.feed(begin + b"<13>")
        framer.full = True
        assert framer.feed(b"x" * 10_000) == []
        assert framer.held <= 8_193
        assert framer.feed(b"x" * 10_000 + self.END[begin])[0].original_length == 20_004

    def test_what_was_left_out_leaves_no_hole(self, begin: bytes) -> None:
        framer = SyslogFramer()
        framer.feed(begin + b"<13>")
        framer.full = True
        framer.feed(b"x" * 10_000)
        framer.full = False
        (frame,) = framer.feed(b"y" * 10_000 + self.END[begin])
        assert frame.original_length == 20_004
        assert frame.data == (b"<13>" + b"x" * 10_000)[: len(frame.data)]
