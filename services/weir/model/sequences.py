"""What exporters lost on the way to us: sequence ranges of all replicas, put together.

An exporter numbers what it sends. Each receiver notes, by minute, from which number to which it has seen the exporter count, and
how many units came in between. One receiver alone cannot tell loss from datagrams that another replica got; all ranges
together can: what was counted, less what came, is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from weir.model.ledger import SequenceRange

__all__ = ["EPOCH_TOLERANCE", "SEQUENCE_MODULUS", "Loss", "merge", "unwrap"]

SEQUENCE_MODULUS = 1 << 32
"""All four protocols number with 32 bits."""

EPOCH_TOLERANCE = 60
"""Seconds by which replicas may differ about the beginning of one and the same run of an exporter."""


class Loss(NamedTuple):
    """What was missing of one run of an exporter's numbering in one receive minute.

    `expected` units were counted by the exporter from the end of the minute before to the end of this one, `received` came in
    it, and `missing` is what that leaves. Units that come late make `missing` of a later minute negative: the sum over a run
    is always right. More units than were counted are copies, and `repeated`.
    """

    source: str
    protocol: str
    observation_domain: int
    epoch: int
    minute: int
    expected: int
    received: int
    missing: int
    repeated: int


def unwrap(number: int, near: int) -> int:
    """The position that a 32-bit sequence number stands for, given one within 2^31 of it."""
    return near + (number - near + SEQUENCE_MODULUS // 2) % SEQUENCE_MODULUS - SEQUENCE_MODULUS // 2


def merge(ranges: Iterable[SequenceRange]) -> list[Loss]:
    """Loss by exporter, protocol, domain, run and minute, in this order.

    The order of `ranges` does not matter, nor over how many receivers a stream was spread. What is missing before the first
    and after the last unit of a run cannot be known. Epochs of one exporter within EPOCH_TOLERANCE of each other are one run.
    """
    streams: defaultdict[tuple[str, str, int], list[SequenceRange]] = defaultdict(list)
    for found in ranges:
        streams[found.source, found.protocol, found.observation_domain].append(found)
    losses: list[Loss] = []
    for _, stream in sorted(streams.items()):
        run: list[SequenceRange] = []
        for found in sorted(stream, key=lambda r: (r.epoch, r.minute)):
            if run and found.epoch - run[-1].epoch > EPOCH_TOLERANCE:
                losses += _run(run)
                run = []
            run.append(found)
        losses += _run(run)
    return losses


def _run(run: list[SequenceRange]) -> list[Loss]:
    by_minute: defaultdict[int, list[SequenceRange]] = defaultdict(list)
    for found in run:
        by_minute[found.minute].append(found)
    # Positions on one line, across wraps: each range lies near the place that the run had reached in the minute before.
    near = lowest = unwrap(run[0].first, 0)
    highs: list[int] = []
    for _, found_in_minute in sorted(by_minute.items()):
        firsts = [unwrap(found.first, near) for found in found_in_minute]
        lowest = min(lowest, *firsts)
        lasts = [first + (r.last - r.first) % SEQUENCE_MODULUS for first, r in zip(firsts, found_in_minute, strict=True)]
        near = max([*lasts, *highs[-1:]])
        highs.append(near)
    epoch = min(found.epoch for found in run)
    losses: list[Loss] = []
    before, missing_before, seen = lowest, 0, 0
    for (minute, found_in_minute), high in zip(sorted(by_minute.items()), highs, strict=True):
        received = sum(found.units for found in found_in_minute)
        seen += received
        # More than the exporter has counted so far has come twice.
        repeated = max(0, seen - (high - lowest))
        seen -= repeated
        missing = high - lowest - seen
        first = found_in_minute[0]
        identity = (first.source, first.protocol, first.observation_domain, epoch)
        losses.append(Loss(*identity, minute, high - before, received, missing - missing_before, repeated))
        before, missing_before = high, missing
    return losses
