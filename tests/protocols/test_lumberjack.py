"""Lumberjack: frames out of any splitting of the stream, limits that hold, and a client side that reads back."""

from __future__ import annotations

import gzip
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

    def test_a_bomb_is_refused_by_name_of_the_limit_and_in_bounded_memory(self) -> None:
        bomb = encode_window(1) + compressed(bytes(200_000_000), level=9)
        parser = LumberjackParser(max_inflated_bytes=1_000_000)
        tracemalloc.start()
        try:
            with pytest.raises(LumberjackError, match="more than the limit of 1,000,000"):
                parser.feed(bomb)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 5_000_000

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
