"""The Beats receiver: Lumberjack and HTTP, acknowledged when Kafka has acknowledged."""

from weir.receivers.beats.receiver import SERVICE, BeatsReceiver, BeatsSettings, build, main

__all__ = ["SERVICE", "BeatsReceiver", "BeatsSettings", "build", "main"]
