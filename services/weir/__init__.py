"""Weir: plumbing for security telemetry on Kafka; only alerts cross the WAN."""

__version__ = "0.1.0"
