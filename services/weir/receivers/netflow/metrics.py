"""Instruments of the receiver of flows, beside those that all receivers have."""

from __future__ import annotations

from weir.ops.telemetry import meter

__all__ = ["FlowMetrics"]


class FlowMetrics:
    """Labels are protocols and outcomes only: exporters are without number, the ledger has them."""

    def __init__(self, service: str) -> None:
        m = meter(service)
        self._lost = m.create_counter(
            "weir.receiver.upstream_lost",
            "{unit}",
            "Flows (v5), packets (v9), data records (IPFIX) and datagrams (sFlow) that exporters numbered and that did not reach "
            "this process; where several share an exporter only the ledger tells loss from what the others got",
        )
        self._restarts = m.create_counter("weir.receiver.exporter_restarts", "{restart}", "Exporters that began anew")
        self._templates = m.create_counter(
            "weir.receiver.templates", "{template}", "Templates that were changed, withdrawn or expired, by what became of it"
        )
        self._without = m.create_counter(
            "weir.receiver.without_template", "{unit}", "Datagrams and messages published though a template they need had not come"
        )
        self._malformed = m.create_counter("weir.receiver.malformed", "{unit}", "Datagrams and messages that are damaged")
        self._held = m.create_up_down_counter("weir.receiver.held", "{unit}", "Datagrams that wait for their template")

    def lost(self, protocol: str, units: int) -> None:
        """Units did not come, as far as this process can tell."""
        self._lost.add(units, {"protocol": protocol})

    def restarted(self, protocol: str) -> None:
        """An exporter began anew."""
        self._restarts.add(1, {"protocol": protocol})

    def template(self, event: str, count: int = 1) -> None:
        """`event` is changed, withdrawn, withdrawal-ignored (UDP), withdrawal-unknown, redefined (without withdrawal, over TCP),
        void (by a restart) or expired."""
        self._templates.add(count, {"event": event})

    def without_template(self, units: int) -> None:
        """Units were published without a template."""
        self._without.add(units)

    def malformed(self, protocol: str) -> None:
        """A unit is damaged."""
        self._malformed.add(1, {"protocol": protocol})

    def held(self, change: int) -> None:
        """Datagrams are held (1) or let go (-1)."""
        self._held.add(change)
