"""What a sink counts, as OpenTelemetry metrics."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import TYPE_CHECKING

from weir.ops.telemetry import meter
from weir.sinks.destination import Destination
from weir.sinks.lane import Done

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

__all__ = ["SinkMetrics"]


class SinkMetrics:
    """Counters of one sink; attributes are its name, its site and the topic (short name).

    With `wan_site`, the destination's bytes are also those of the WAN link between the two sites, by direction.
    """

    def __init__(self, destination: Destination, site: str, wan_site: str | None = None) -> None:
        from opentelemetry.metrics import Observation  # noqa: PLC0415  a fifth of a second that the tools need not pay

        own = meter("weir.sinks")
        counters = destination.counters
        self._common = {"sink": destination.name, "site": site}

        def observe(name: str) -> Iterable[Observation]:
            return [Observation(int(getattr(counters, name)), self._common)]

        def bytes_sent(_: CallbackOptions) -> Iterable[Observation]:
            return observe("bytes_sent")

        def requests(_: CallbackOptions) -> Iterable[Observation]:
            return observe("requests")

        def truncated(_: CallbackOptions) -> Iterable[Observation]:
            return observe("truncated")

        self._delivered = own.create_counter("weir.sink.delivered", description="records the destination accepted")
        self._dead = own.create_counter("weir.sink.dead", description="records put into a dead-letter topic")
        self._retries = own.create_counter("weir.sink.retries", description="sends that were tried again")
        self._expired = own.create_counter("weir.sink.expired", description="records that retention removed before they were read")
        own.create_observable_counter(
            "weir.sink.bytes", [bytes_sent], unit="By", description="bytes sent to the destination, on the wire"
        )
        own.create_observable_counter("weir.sink.requests", [requests], description="requests to the destination")
        own.create_observable_counter("weir.sink.truncated", [truncated], description="values cut to fit the destination")

        if wan_site is not None:
            there = {"from": site, "to": wan_site, "sink": destination.name}
            back = {"from": wan_site, "to": site, "sink": destination.name}

            def wan(_: CallbackOptions) -> Iterable[Observation]:
                return [Observation(counters.bytes_sent, there), Observation(counters.bytes_received, back)]

            own.create_observable_counter(
                "weir.wan.bytes", [wan], unit="By", description="bytes over a WAN link, from site to site"
            )

    def done(self, done: Done) -> None:
        """Count outcomes."""
        if done.outcomes:
            tally = Tally(outcome.value for _, _, outcome, _ in done.outcomes)
            attributes = {**self._common, "topic": done.topic}
            if tally["delivered"]:
                self._delivered.add(tally["delivered"], attributes)
            if tally["dead"]:
                self._dead.add(tally["dead"], attributes)

    def retried(self, topic: str) -> None:
        """Count one send that failed and is going to be tried again."""
        self._retries.add(1, {**self._common, "topic": topic})

    def expired(self, topic: str, records: int) -> None:
        """Count records that are gone."""
        self._expired.add(records, {**self._common, "topic": topic})
