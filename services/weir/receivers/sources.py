"""Who sends: every sender is looked up here once, before the first of its units is taken.

So far an unknown sender is accepted and nothing is known of it.
"""

from __future__ import annotations

from weir.receivers.batching import Source

__all__ = ["Sources"]


class Sources:
    """The operator's view of senders."""

    def of(self, ip: str, transport: str, listener_port: int, tls_subject: str | None = None) -> Source | None:
        """What units of this sender are labelled with; None where it is refused.

        Cheap enough to be called for each datagram. Connections call it anew for each read, so that a reloaded catalogue counts
        at once.
        """
        return Source(ip, transport, listener_port, tls_subject)
