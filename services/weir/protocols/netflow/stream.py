"""IPFIX messages out of a byte stream (RFC 7011 section 10.4): each begins with its version and its length."""

from __future__ import annotations

from weir.protocols.netflow.wire import NETFLOW_IPFIX

__all__ = ["IPFIX_HEADER_LENGTH", "MAX_MESSAGE", "IpfixFramer", "StreamError"]

IPFIX_HEADER_LENGTH = 16
MAX_MESSAGE = 65_535
"""The longest message that the header's 16 bits of length can tell."""


class StreamError(ValueError):
    """No IPFIX message begins where one should: the stream cannot be read on.

    `messages` are those before the damage, `rest` the bytes from there on.
    """

    def __init__(self, reason: str, messages: list[bytes], rest: bytes) -> None:
        super().__init__(reason)
        self.messages = messages
        self.rest = rest


class IpfixFramer:
    """Takes a connection's bytes in any pieces and gives whole messages; holds less than one message."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def held(self) -> int:
        """Bytes of the message that is not whole yet."""
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete, in order.

        Raises StreamError for a version that is not 10 and for a length shorter than the header; nothing may be fed after it.
        """
        held = self._held
        held += data
        messages: list[bytes] = []
        start, size = 0, len(held)
        while size - start >= 4:
            version, length = held[start] << 8 | held[start + 1], held[start + 2] << 8 | held[start + 3]
            if version != NETFLOW_IPFIX or length < IPFIX_HEADER_LENGTH:
                rest = bytes(held[start:])
                held.clear()
                reason = f"version {version}, 10 is expected" if version != NETFLOW_IPFIX else f"length {length} holds no header"
                raise StreamError(f"no IPFIX message: {reason}", messages, rest)
            if size - start < length:
                break
            messages.append(bytes(held[start : start + length]))
            start += length
        del held[:start]
        return messages

    def finish(self) -> bytes:
        """What is left of a message that the connection's end has cut; empty after whole messages."""
        rest = bytes(self._held)
        self._held.clear()
        return rest
