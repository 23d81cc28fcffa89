"""Ticks: how far receive time has come in the raw partitions of one processor, so that windows close in silence too."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from weir.bus.codec import Encoder
from weir.processors.member import Member, Partition, Work
from weir.processors.window import InFlight

__all__ = ["Ticks"]


class Ticks:
    """The receive times of one member's raw partitions, and the records that tell every signals partition of them.

    Args:
        raw_topic: full name of the topic the member reads.
        rule_set: hash of the rule set the signals are made with; another when the rules change.
        encode: of records with the schema of signals.
    """

    def __init__(self, member: Member, raw_topic: str, rule_set: str, encode: Encoder) -> None:
        self.member = member
        self.raw_topic = raw_topic
        self.rule_set = rule_set
        self.encode = encode
        self.signals_topic = member.names["signals"]
        # By partition, while it is ours: the receive time that has been reached.
        self.low_times: dict[Partition, int] = {}
        self.sending: asyncio.Future[None] | None = None

    def committed(self, runs: dict[Partition, list[InFlight[Work]]]) -> None:
        """Receive time has come further with these."""
        for partition, run in runs.items():
            reached = max(entry.item.received_at for entry in run)
            self.low_times[partition] = max(self.low_times.get(partition, 0), reached)

    def drop(self, partitions: set[Partition]) -> None:
        """These belong to another member now, which ticks for them."""
        for partition in partitions:
            self.low_times.pop(partition, None)

    def send(self, signal_partitions: int) -> None:
        """Tick once, unless the member is between two assignments or Kafka has not taken the tick before."""
        member = self.member
        # While Kafka takes no ticks, none are kept: a "now" from an outage would arrive before what was received in it.
        if not member.joined or member.app.rebalancing or (self.sending and not self.sending.done()):
            return
        low_times = {}
        for tp in member.app.consumer.assignment():
            if tp.topic == self.raw_topic and (low := self._low_time(tp)):
                low_times[tp.partition] = low
        if low_times:
            self._send(low_times, signal_partitions)

    def _low_time(self, tp: Any) -> int:
        """Receive time, microseconds UTC, up to which this partition is done; 0 where that is not known."""
        partition, consumer = (tp.topic, tp.partition), self.member.app.consumer
        now = time.time_ns() // 1000
        if (oldest := self.member.window.oldest(partition)) is not None:
            # A sender's or receiver's clock may be ahead; ours bounds it.
            return min(oldest.item.received_at, now)
        position = self.member.next.get(partition)
        if position is None:
            position = consumer._committed_offset.get(tp) or 0
        try:
            end = consumer.highwater(tp)
        except Exception:  # the partition was given to another while this was asked
            return 0
        # None until the first answer of the broker: then nothing is known of what waits.
        if end is not None and position >= end:
            return now
        return min(self.low_times.get(partition, 0), now)

    def _send(self, low_times: dict[int, int], signal_partitions: int) -> None:
        self.sending, delivery = self.member.producer.future_delivery()
        self.sending.add_done_callback(lambda done: done.cancelled() or done.exception())
        record = {
            "kind": "tick",
            "processor": self.member.service,
            "rule_set": self.rule_set,
            "raw_topic": self.raw_topic,
            "raw_partition": -1,
            "raw_offset": -1,
            "received_at": time.time_ns() // 1000,
            "ticks": [{"raw_partition": partition, "low": low} for partition, low in sorted(low_times.items())],
        }
        value = self.encode(record)
        for signal_partition in range(signal_partitions):
            self.member.producer.offer(self.signals_topic, value, delivery=delivery, partition=signal_partition)
        delivery.seal()
