"""Lumberjack: frames out of any splitting of the stream, limits that hold, and a client side that reads back."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.lumberjack import (
    Ack,
    Document,
    Frame,
    LumberjackError,
    LumberjackParser,
    Window,
    ack,
    encode_batch,
    encode_window,
    parse_ack,
)

CAPTURES = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[2].parent / "shared" / "corpus")) / "lumberjack" / "captures"
needs_captures = pytest.mark.skipif(
    not CAPTURES.is_dir(), reason="no corpus with Filebeat captures beside the checkout (WEIR_CORPUS)"
)


def data_frame(sequence: int, pairs: list[tuple[bytes, bytes]], version: bytes = b"1") -> bytes:
    body = b"".join(struct.pack(">I", len(text)) + text for pair in pairs for text in pair)
    return version + b"D" + struct.pack(">II", sequence, len(pairs)) + body


def compressed(frames: bytes, version: bytes = b"2", level: int = 6) -> bytes:
    stream = zlib.compress(frames, level)
    return version + b"C" + struct.pack(">I", len(stream)) + stream


def json_frame(sequence: int, payload: bytes) -> bytes:
    return b"2J" + struct.pack(">II", sequence, len(payload)) + payload


def feed_in_pieces(data: bytes, size: int) -> list[Frame]:
    parser = LumberjackParser()
    frames: list[Frame] = []
    for start in range(0, len(data), size):
        frames += parser.feed(data[start : start + size])
    assert parser.buffered == 0
    return frames


def largest_list(parser: LumberjackParser, stream: bytes) -> int:
    """Documents in the longest list; nothing is kept of them."""
    return max(sum(isinstance(frame, Document) for frame in frames) for frames in parser.pieces(stream))


class TestParser:
    def test_a_window_and_bare_json_frames(self) -> None:
        stream = b"2W\x00\x00\x00\x02" + json_frame(1, b'{"a":1}') + json_frame(2, b"{}")
        assert LumberjackParser().feed(stream) == [Window(2), Document(1, b'{"a":1}'), Document(2, b"{}")]

    def test_a_compressed_frame_gives_the_frames_within(self) -> None:
        stream = encode_window(2) + compressed(json_frame(1, b'{"a":1}') + json_frame(2, b"[]"))
        assert LumberjackParser().feed(stream) == [Window(2), Document(1, b'{"a":1}'), Document(2, b"[]")]

    def test_the_payload_is_not_touched_even_when_it_is_not_json(self) -> None:
        payload = b'{ "a" : 1.0,\r\n"\xff" broken'
        frames = LumberjackParser().feed(encode_window(1) + json_frame(7, payload))
        assert frames[1] == Document(7, payload)

    def test_version_1_pairs_become_a_json_object(self) -> None:
        stream = encode_window(1, version=1) + data_frame(
            1, [(b"line", b'say "hi"'), (b"host", "jyvä".encode()), (b"bad", b"\xff")]
        )
        window, document = LumberjackParser().feed(stream)
        assert window == Window(1, version=1)
        assert isinstance(document, Document)
        assert json.loads(document.payload) == {"line": 'say "hi"', "host": "jyvä", "bad": "\ufffd"}

    def test_version_1_compressed(self) -> None:
        stream = encode_window(1, version=1) + compressed(data_frame(1, [(b"k", b"v")]), version=b"1")
        assert LumberjackParser().feed(stream)[1] == Document(1, b'{"k":"v"}')

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64])
    def test_pieces_of_any_size_give_the_same_frames(self, size: int) -> None:
        stream = (
            encode_window(4)
            + json_frame(1, b'{"a":"' + b"x" * 50 + b'"}')
            + data_frame(2, [(b"k", b""), (b"", b"v" * 9)], version=b"2")
            + compressed(json_frame(3, b"{}") + data_frame(4, [], version=b"2"))
            + ack(4)
            + encode_batch([b'{"b":2}'], compress_level=0)
        )
        whole = LumberjackParser().feed(stream)
        assert [type(frame) for frame in whole] == [Window, Document, Document, Document, Document, Ack, Window, Document]
        assert feed_in_pieces(stream, size) == whole

    def test_says_how_much_of_an_unfinished_frame_it_holds(self) -> None:
        parser = LumberjackParser()
        assert parser.feed(encode_window(1) + json_frame(1, b"{}")[:-1]) == [Window(1)]
        assert parser.buffered == 11
        assert parser.feed(b"}") == [Document(1, b"{}")]
        assert parser.buffered == 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("stream", "reason"),
        [
            (b"GET / HTTP/1.1\r\n", "version"),
            (b"\x16\x03\x01\x02\x00\x01", "version"),
            (b"2X\x00\x00\x00\x00", "unknown Lumberjack frame type"),
            (json_frame(1, b"{}"), "before any window"),
            (encode_window(1) + compressed(compressed(json_frame(1, b"{}"))), "within a compressed frame"),
            (encode_window(1) + compressed(encode_window(9)), "within a compressed frame"),
            (encode_window(1) + compressed(json_frame(1, b"{}") + json_frame(2, b"{}")), "more documents than its window"),
            (encode_window(1) + compressed(json_frame(1, b"{}")[:-1]), "ends 11 bytes into a frame"),
            (encode_window(1) + b"2C\x00\x00\x00\x04abcd", "not a zlib stream"),
            (encode_window(1) + b"2C\x00\x00\x00\x00", "cut short"),
            (encode_window(1) + b"2C\x00\x00\x00\x40" + zlib.compress(json_frame(1, b"{}")) + bytes(60), "after the end of the"),
        ],
    )
    def test_a_broken_stream_is_refused_with_its_reason(self, stream: bytes, reason: str) -> None:
        with pytest.raises(LumberjackError, match=reason):
            LumberjackParser().feed(stream)

    @pytest.mark.parametrize(
        ("stream", "reason"),
        [
            (encode_window(101), "window of 101 documents, the limit is 100"),
            (encode_window(1) + b"2J\x00\x00\x00\x01\x00\x00\x03\xe9", "1,001 bytes, the limit of a frame is 1,000"),
            (encode_window(1) + b"2C\x00\x00\x03\xe9", "1,001 bytes, the limit of a frame is 1,000"),
            (encode_window(1) + b"2D\x00\x00\x00\x01\xff\xff\xff\xff", "4,294,967,295 pairs"),
            (encode_window(1) + b"2D\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x03\xe8", "longer than the frame limit"),
        ],
    )
    def test_a_limit_is_kept_as_soon_as_a_header_passes_it(self, stream: bytes, reason: str) -> None:
        with pytest.raises(LumberjackError, match=reason):
            LumberjackParser(max_window=100, max_frame_bytes=1000).feed(stream)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            pytest.param(json_frame(1, bytes(200_000_000)), "200,000,000 bytes, the limit of what one compressed", id="document"),
            pytest.param(json_frame(1, bytes(900_000)) * 200, "inflates to more than the limit of 1,000,000", id="documents"),
            pytest.param(data_frame(1, [(b"", bytes(2_000_000))]), "longer than the frame limit of 1,000,000", id="pairs"),
            pytest.param(bytes(200_000_000), "version", id="no frames"),
        ],
    )
    def test_a_bomb_is_refused_by_name_of_the_limit_and_in_bounded_memory(self, content: bytes, reason: str) -> None:
        bomb = encode_window(1_000) + compressed(content, level=9)
        parser = LumberjackParser(max_inflated_bytes=1_000_000, max_document_bytes=10_000)
        tracemalloc.start()
        try:
            with pytest.raises(LumberjackError, match=reason):
                largest_list(parser, bomb)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1_500_000  # the bomb itself, and pieces of it

    def test_after_an_error_every_feed_raises_it_again(self) -> None:
        parser = LumberjackParser()
        with pytest.raises(LumberjackError, match="version"):
            parser.feed(b"nonsense")
        with pytest.raises(LumberjackError, match="version"):
            parser.feed(encode_window(1))

    def test_pairs_that_trickle_in_are_not_scanned_anew_each_time(self) -> None:
        pairs = 20_000
        stream = encode_window(1) + data_frame(1, [(b"%d" % number, b"") for number in range(pairs)])
        documents = [frame for frame in feed_in_pieces(stream, 9) if isinstance(frame, Document)]
        assert len(json.loads(documents[0].payload)) == pairs


class TestStreaming:
    def test_documents_of_a_compressed_frame_leave_before_it_is_whole(self) -> None:
        payloads = [b'{"n":%d,"x":"%s"}' % (n, os.urandom(500).hex().encode()) for n in range(500)]
        stream = encode_batch(payloads)
        parser = LumberjackParser()
        half = [frame.payload for frame in parser.feed(stream[: len(stream) // 2]) if isinstance(frame, Document)]
        assert 200 < len(half) < 300
        assert parser.unfinished == len(stream) // 2 - 6  # the window frame is done with
        assert parser.buffered < 2_000
        rest = [frame.payload for frame in parser.feed(stream[len(stream) // 2 :]) if isinstance(frame, Document)]
        assert half + rest == payloads
        assert parser.unfinished == 0

    def test_a_large_frame_comes_in_small_lists(self) -> None:
        """So that the caller can do something else in between."""
        stream = encode_batch([b'{"x":"' + b"y" * 1_000 + b'"}'] * 10_000)
        assert largest_list(LumberjackParser(), stream) <= 65

    @pytest.mark.parametrize("level", [0, 6], ids=["bare", "compressed"])
    @pytest.mark.parametrize("size", [1_009, 65_536, 10_000_000])
    def test_of_a_long_document_the_beginning_the_length_and_the_hash_are_kept(self, level: int, size: int) -> None:
        long = os.urandom(150_000).hex().encode()
        stream = encode_batch([b"{}", long, b"[]"], compress_level=level)
        parser = LumberjackParser(max_document_bytes=1_000)
        frames: list[Frame] = []
        for start in range(0, len(stream), size):
            frames += parser.feed(stream[start : start + size])
            assert parser.buffered <= 1_000
        assert frames[1:] == [
            Document(1, b"{}"),
            Document(2, long[:1_000], len(long), hashlib.sha256(long).digest()),
            Document(3, b"[]"),
        ]

    def test_of_long_pairs_too(self) -> None:
        stream = encode_window(1, 1) + data_frame(1, [(b"line", b"x" * 5_000)])
        (_, document) = LumberjackParser(max_document_bytes=100).feed(stream)
        assert isinstance(document, Document)
        assert (len(document.payload), document.length) == (100, 5_000 + len(b'{"line":""}'))


class TestAcknowledgement:
    def test_is_six_bytes_in_the_clients_version(self) -> None:
        assert ack(50) == b"2A\x00\x00\x00\x32"
        assert ack(50, version=1) == b"1A\x00\x00\x00\x32"

    def test_is_read_back_with_what_follows(self) -> None:
        assert parse_ack(ack(7) + b"rest") == (7, b"rest")
        assert parse_ack(ack(7)[:5]) is None

    def test_anything_else_in_its_place_is_an_error(self) -> None:
        with pytest.raises(LumberjackError, match="acknowledgement"):
            parse_ack(encode_window(7))


class TestEncoding:
    @pytest.mark.parametrize("level", [0, 1, 3, 9])
    def test_a_batch_is_a_window_and_numbered_documents(self, level: int) -> None:
        frames = LumberjackParser().feed(encode_batch([b"{}", b'{"a":1}'], compress_level=level))
        assert frames == [Window(2), Document(1, b"{}"), Document(2, b'{"a":1}')]

    def test_sequences_wrap_at_32_bits(self) -> None:
        frames = LumberjackParser().feed(encode_batch([b"{}", b"{}"], first_sequence=2**32 - 1))
        assert frames[1:] == [Document(2**32 - 1, b"{}"), Document(0, b"{}")]


@settings(max_examples=80, deadline=None)
@given(
    batches=st.lists(st.tuples(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from([0, 3])), max_size=4),
    cuts=st.lists(st.integers(0, 800), max_size=12),
)
def test_round_trip_over_any_splits(batches: list[tuple[list[bytes], int]], cuts: list[int]) -> None:
    """Whatever is encoded comes out again in order, wherever the stream is cut."""
    stream = b"".join(encode_batch(documents, compress_level=level) for documents, level in batches)
    parser = LumberjackParser()
    frames: list[Frame] = []
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in itertools.pairwise(edges):
        frames += parser.feed(stream[start:stop])
    assert [f.payload for f in frames if isinstance(f, Document)] == [d for documents, _ in batches for d in documents]
    assert [f.size for f in frames if isinstance(f, Window)] == [len(documents) for documents, _ in batches]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_way_a_stream_is_cut_makes_no_difference(data: st.DataObject) -> None:
    """Frames of every kind, some broken, cut anywhere: the same frames as in one piece, and the same error."""
    payload = st.binary(max_size=40)
    number = st.integers(0, 2**32 - 1)
    document = st.one_of(
        st.builds(json_frame, number, payload),
        st.builds(data_frame, number, st.lists(st.tuples(payload, payload), max_size=3), st.sampled_from([b"1", b"2"])),
    )
    frame = st.one_of(
        document,
        st.builds(compressed, st.lists(document, max_size=4).map(b"".join)),
        st.builds(encode_window, st.integers(0, 6), st.sampled_from([1, 2])),
        st.builds(ack, number),
        st.binary(max_size=12),
    )
    stream = encode_window(4) + b"".join(data.draw(st.lists(frame, max_size=6)))
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10))), len(stream)]

    def taken(pieces: list[bytes]) -> tuple[list[Frame], str]:
        parser = LumberjackParser(max_inflated_bytes=200, max_frame_bytes=200, max_document_bytes=30)
        frames: list[Frame] = []
        try:
            for piece in pieces:
                for some in parser.pieces(piece):
                    frames += some
        except LumberjackError as error:
            return frames, str(error)
        return frames, f"{parser.unfinished} more"

    whole, end = taken([stream])
    cut, same = taken([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert same == end
    # Of what stands before an error, more may have been given the more slowly it came.
    assert cut[: len(whole)] == whole
    assert cut == whole or not end.endswith("more")


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from([b"", encode_window(3), encode_window(3) + b"2C", encode_window(3) + b"2D\0\0\0\1\0\0\0", b"1W"]),
    pieces=st.lists(st.binary(max_size=80), max_size=6),
)
def test_arbitrary_bytes_never_crash(start: bytes, pieces: list[bytes]) -> None:
    """Bytes of any kind give frames or a LumberjackError."""
    parser = LumberjackParser(max_frame_bytes=10_000, max_inflated_bytes=10_000)
    try:
        for piece in [start, *pieces]:
            parser.feed(piece)
    except LumberjackError:
        pass


@settings(max_examples=100, deadline=None)
@given(inner=st.binary(max_size=120))
def test_arbitrary_bytes_within_a_compressed_frame_never_crash(inner: bytes) -> None:
    """The same for what a compressed frame holds."""
    try:
        frames = LumberjackParser().feed(encode_window(3) + compressed(inner))
    except LumberjackError:
        return
    assert len(frames) <= 4


@needs_captures
class TestRealFilebeat:
    @pytest.mark.parametrize("size", [1, 1009, 65_536])
    def test_compressed_batches_decode_to_the_recorded_events(self, size: int) -> None:
        raw = (CAPTURES / "fb7_syslog_keepalive.conn0.raw").read_bytes()
        meta = json.loads((CAPTURES / "fb7_syslog_keepalive.conn0.meta.json").read_text())
        with gzip.open(CAPTURES / "fb7_syslog_keepalive.conn0.events.ndjson.gz") as lines:
            expected = [json.loads(line) for line in lines]
        frames = feed_in_pieces(raw, size)
        documents = [frame for frame in frames if isinstance(frame, Document)]
        assert [f.size for f in frames if isinstance(f, Window)] == [f[1] for f in meta["frames"] if f[0] == "W"]
        assert len(documents) == meta["n_events"]
        assert [(d.sequence, json.loads(d.payload)) for d in documents] == [(e["seq"], e["event"]) for e in expected]

    def test_bare_frames_of_compression_level_0(self) -> None:
        raw = gzip.decompress((CAPTURES / "fb7_tricky_c0.conn0.raw.gz").read_bytes())
        meta = json.loads((CAPTURES / "fb7_tricky_c0.conn0.meta.json").read_text())
        frames = feed_in_pieces(raw, 65_536)
        assert sum(isinstance(frame, Document) for frame in frames) == meta["n_events"]
        assert [f.size for f in frames if isinstance(f, Window)] == [f[1] for f in meta["frames"] if f[0] == "W"]
        # A window's last sequence is its size: what the recorded server acknowledged.
        last_of_window = [
            f.sequence
            for f, after in zip(frames, [*frames[1:], Window(0)], strict=True)
            if isinstance(after, Window) and isinstance(f, Document)
        ]
        assert last_of_window == [f[1] for f in meta["frames"] if f[0] == "A"]
