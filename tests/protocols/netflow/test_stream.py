"""IPFIX over a stream: messages come out whole, however the bytes come in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.netflow.stream import MAX_MESSAGE, IpfixFramer, StreamError


def message(body: bytes) -> bytes:
    return b"\0\x0a" + (16 + len(body)).to_bytes(2, "big") + bytes(12) + body


messages = st.lists(st.binary(max_size=60).map(message), max_size=12)


def feed(stream: bytes, cuts: list[int]) -> tuple[list[bytes], bytes]:
    """All messages, and what is left: the rest of the damage, or of a message that is not whole."""
    framer = IpfixFramer()
    found: list[bytes] = []
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, end in pairwise(places):
        try:
            found += framer.feed(stream[start:end])
        except StreamError as error:
            return found + error.messages, error.rest + stream[end:]
        assert framer.held < MAX_MESSAGE
    return found, framer.finish()


@given(messages, st.lists(st.integers(0, 900), max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_split_gives_the_same_messages(sent: list[bytes], cuts: list[int]) -> None:
    assert feed(b"".join(sent), cuts) == (sent, b"")


@given(messages, st.binary(min_size=1, max_size=80), st.lists(st.integers(0, 900), max_size=20))
@settings(max_examples=300, deadline=None)
def test_of_anything_behind_them_no_byte_is_lost(sent: list[bytes], tail: bytes, cuts: list[int]) -> None:
    whole, rest = feed(b"".join(sent) + tail, cuts)
    assert whole[: len(sent)] == sent
    assert b"".join(whole) + rest == b"".join(sent) + tail


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_do_no_harm(stream: bytes, cuts: list[int]) -> None:
    whole, rest = feed(stream, cuts)
    assert b"".join(whole) + rest == stream


def test_a_message_byte_by_byte_and_the_longest_one() -> None:
    longest = b"\0\x0a\xff\xff" + bytes(MAX_MESSAGE - 4)
    framer = IpfixFramer()
    assert [m for n in range(len(longest)) for m in framer.feed(longest[n : n + 1])] == [longest]


@pytest.mark.parametrize(
    ("head", "reason"), [(b"\0\x09\0\x10", "version 9"), (b"\0\x0a\0\x0f", "length 15"), (b"GET ", "version 18245")]
)
def test_what_begins_no_message_is_told(head: bytes, reason: str) -> None:
    framer = IpfixFramer()
    with pytest.raises(StreamError, match=reason) as raised:
        framer.feed(message(b"ok") + head + b"more")
    assert raised.value.messages == [message(b"ok")]
    assert raised.value.rest == head + b"more"
    assert framer.held == 0


def test_the_end_in_the_middle_of_a_message_is_told() -> None:
    framer = IpfixFramer()
    assert framer.feed(message(b"whole") + b"\0\x0a\0\x20cut") == [message(b"whole")]
    assert framer.finish() == b"\0\x0a\0\x20cut"
    assert framer.finish() == b""
