"""gzip and deflate, cut anywhere, cut short, followed by more, and bombs."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.inflate import InflateError, Inflater, TooMuchError


def bare(data: bytes) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def inflate(coding: str, pieces: list[bytes], limit: int = 10_000_000) -> bytes:
    inflater = Inflater(coding, limit)
    out = b"".join(itertools.chain.from_iterable(inflater.feed(piece) for piece in pieces))
    inflater.end()
    return out


@settings(max_examples=80, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=300), st.integers(0, 200_000).map(bytes)),
    coding=st.sampled_from(["gzip", "x-gzip", "deflate", "bare"]),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_round_trip_wherever_it_is_cut(data: bytes, coding: str, cuts: list[int]) -> None:
    stream = bare(data) if coding == "bare" else zlib.compress(data) if coding == "deflate" else gzip.compress(data)
    edges = [0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert inflate("deflate" if coding == "bare" else coding, pieces) == data


def test_gzip_of_several_members_is_one_body() -> None:
    stream = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    assert inflate("gzip", [stream]) == b"one two"
    assert inflate("gzip", [bytes([b]) for b in stream]) == b"one two"


@pytest.mark.parametrize(
    ("coding", "stream", "reason"),
    [
        ("gzip", b"", "cut short"),
        ("gzip", gzip.compress(b"x")[:-1], "cut short"),
        ("gzip", b"{}", "not a gzip stream"),
        ("gzip", gzip.compress(b"x") + b"junk", "not a gzip stream"),
        ("deflate", b"", "cut short"),
        ("deflate", b"{", "cut short"),
        ("deflate", zlib.compress(b"x") + b"junk", "after the end"),
        ("deflate", gzip.compress(b"x"), "not a deflate stream"),
    ],
)
def test_what_is_not_in_its_coding_is_refused(coding: str, stream: bytes, reason: str) -> None:
    with pytest.raises(InflateError, match=reason):
        inflate(coding, [stream])


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_refused_in_bounded_memory(coding: str) -> None:
    bomb = gzip.compress(bytes(100_000_000)) if coding == "gzip" else zlib.compress(bytes(100_000_000))
    inflater = Inflater(coding, 1_000_000)
    tracemalloc.start()
    with pytest.raises(TooMuchError, match="more than 1,000,000 bytes"):
        sum(map(len, inflater.feed(bomb)))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@settings(max_examples=150, deadline=None)
@given(coding=st.sampled_from(["gzip", "deflate"]), pieces=st.lists(st.binary(max_size=40), max_size=4), start=st.booleans())
def test_arbitrary_bytes_never_crash(coding: str, pieces: list[bytes], start: bool) -> None:
    head = gzip.compress(b"abc")[:12] if start else b""
    with contextlib.suppress(InflateError):
        inflate(coding, [head, *pieces])
