"""Settings of tools that only need Kafka, out of an environment or file that may hold those of any service."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from weir.ops.settings import ServiceSettings, load

__all__ = ["kafka_settings"]

_SERVICES: Final = (
    *("weir.receivers.syslog", "weir.receivers.beats", "weir.receivers.netflow", "weir.processors.settings"),
    *("weir.sinks.sentinel", "weir.sinks.adx", "weir.sinks.siem"),
)


def kafka_settings() -> ServiceSettings:
    """Brokers, security and prefix. Raises SettingsError with every mistake."""
    return load(ServiceSettings, complete=lambda: [import_module(name) for name in _SERVICES])
