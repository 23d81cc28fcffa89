"""Settings that all receivers share: how units become batches, and what bounds them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from weir.receivers.sources import SourcesSettings

__all__ = ["ReceiverSettings", "SpoolSettings"]


def _processes(value: Any) -> Any:
    if value != "auto":
        return value
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class ReceiverSettings(SourcesSettings):
    """What every receiver reads."""

    receiver_linger_ms: int = Field(
        200, ge=1, le=10_000, description="longest time a unit waits for others of its source before its batch is published, ms"
    )
    receiver_batch_units: int = Field(500, ge=1, le=10_000, description="units in one batch at most")
    receiver_batch_bytes: int = Field(
        800_000, ge=131_072, le=800_000, description="bytes of the units in one batch at most; a raw record stays under 900 kB"
    )
    receiver_memory_bytes: int = Field(
        64 * 1024 * 1024,
        ge=2 * 1024 * 1024,
        le=16 * 1024**3,
        description="bytes received but not yet acknowledged by Kafka; at this ceiling connections are no longer read and "
        "datagrams are dropped and counted. librdkafka holds a copy of what has been handed to it, so allow twice as much memory",
    )
    receiver_spread_batches: int = Field(
        50,
        ge=1,
        le=100_000,
        description="a source that fills more batches than this within one second continues under further keys (address#1, "
        "address#2 …), so that no single partition has to take it; its order then holds within each key only",
    )
    receiver_ledger_seconds: float = Field(10.0, gt=0, le=600, description="seconds between two ledger entries of this receiver")
    receiver_retry_seconds: float = Field(
        1.0, gt=0, le=60, description="pause before a batch that Kafka refused is produced again, under the same batch id"
    )
    receiver_stop_seconds: float = Field(
        25.0, ge=0, le=600, description="how long a stopping receiver waits for Kafka to acknowledge what it still holds"
    )
    receiver_udp_buffer_bytes: int = Field(
        8 * 1024 * 1024,
        ge=65_536,
        le=1024**3,
        description="SO_RCVBUF asked for; the kernel grants at most net.core.rmem_max and a warning says so",
    )
    receiver_processes: Annotated[int, BeforeValidator(_processes)] = Field(
        1,
        ge=1,
        le=256,
        description="worker processes that share the ports (SO_REUSEPORT), or auto: one for each CPU; memory and spool limits hold "
        "for each, and one sender always reaches the same worker while the workers stay the same",
    )
    receiver_worker: int = Field(
        0, ge=0, le=256, description="number of this worker process, from 1; set by the process that starts the workers"
    )


class SpoolSettings(ReceiverSettings):
    """What receivers read whose senders do not keep their data: a disk spool for when Kafka is away."""

    receiver_spool_dir: Path | None = Field(
        None,
        description="directory for batches that Kafka cannot take; unset: none, only memory. Workers and services share it, each "
        "in a directory of its own in it; what a worker left behind is sent by whichever starts next",
    )
    receiver_spool_bytes: int = Field(
        4 * 1024**3, ge=8 * 1024**2, le=16 * 1024**4, description="bytes of the spool's files at most, for each process"
    )
    receiver_spool_events: int = Field(
        100_000_000, ge=1_000, le=10**12, description="units (messages, datagrams) in the spool at most, for each process"
    )
    receiver_spool_after_seconds: float = Field(
        5.0,
        ge=0.1,
        le=600,
        description="Kafka is away when it has acknowledged nothing for so long; finished batches then go to the spool, also those "
        "already handed to librdkafka. Sooner when half of WEIR_RECEIVER_MEMORY_BYTES is used",
    )
    receiver_spool_fsync_seconds: float = Field(
        1.0, ge=0.01, le=600, description="seconds between two fsync of the spool: what a power failure may cost; a kill costs none"
    )
