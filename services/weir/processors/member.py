"""A member of a Faust consumer group that commits by itself: what processors and the detector share.

Faust only reads. Its own acknowledgements are off (topics without acks), because it acknowledges records whose agent raises and
records it skips in a rebalance, and can commit past an offset in flight. An offset is committed when its owner has finished the
record and all before it in its partition, and Kafka has acknowledged the ledger entry of the range. The next range is entered only
after that, so a range done again begins at the same offset as its entry in the ledger.

What a record is worth, and what to do where offsets do not follow each other, is the business of the two kinds of member.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn

import faust
import uvloop
from faust.types import TP
from structlog.stdlib import BoundLogger

from weir.bus.codec import Encoder
from weir.bus.config import DeliveryFailed
from weir.bus.producer import DeliveryProducer
from weir.model.ledger import LedgerCounts, LedgerEntry, minute_of
from weir.model.topics import TopicNames
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.processors.faust_app import EXIT_FATAL, EXIT_UNAVAILABLE, run_app
from weir.processors.settings import ProcessorSettings
from weir.processors.window import InFlight, Window

__all__ = ["EXPIRED", "RAW", "Member", "Partition", "Ready", "Work", "endless_producer", "headers_of", "run_member"]

EXPIRED: Final = "expired"
"""Note of a ledger entry whose range was gone before this group could read it."""

RAW: Final[dict[str, Any]] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
"""Options of a Faust topic whose keys and values are left as they are."""

# Finished records that one ledger entry tells of, at most.
MAX_RUN = 2_000
DRAIN_SECONDS = 10.0
CLOSE_SECONDS = 5.0
STUCK_SECONDS = 30.0

Partition = tuple[str, int]


@dataclass(slots=True)
class Work:
    """What is needed to enter a record, or a range that is gone, in the ledger. Times in microseconds UTC, `size` in bytes.

    `datasets` holds what is told apart by dataset, which is not in `counts` again.
    """

    last_offset: int
    received_at: int
    source: str = ""
    counts: LedgerCounts = field(default_factory=LedgerCounts)
    datasets: dict[str, LedgerCounts] = field(default_factory=dict)
    size: int = 0
    note: str | None = None


class Member(ABC):
    """Reads in offset order, and commits in step with the ledger what its owner has finished.

    Args:
        app: whose consumer reads and commits.
        service: name in the ledger, dead letters and logs, such as "process.syslog".
        log: the owner's logger.
    """

    def __init__(
        self, app: faust.App, settings: ProcessorSettings, service: str, producer: DeliveryProducer, log: BoundLogger
    ) -> None:
        self.app = app
        self.settings = settings
        self.service = service
        self.producer = producer
        self.log = log
        self.names = TopicNames(settings.topic_prefix)
        self.ledger_topic = self.names["ledger"]
        self.encode_ledger = Encoder("ledger-entry")
        self.window: Window[Work] = Window()
        self.wake = asyncio.Event()
        self.settling = asyncio.Lock()
        # By partition, while it is ours: the next offset to take.
        self.next: dict[Partition, int] = {}
        self.given_up: set[Partition] = set()
        self.joined = False
        # Since when records wait for their outputs or a commit without any being committed; None while none waits.
        self.waiting_since: float | None = None
        # When the event loop last took a turn; whoever runs in the background keeps it.
        self.last_turn = time.monotonic()

    # --- what the kinds of member do -----------------------------------------------------------------------------------------

    @abstractmethod
    async def wait_for_room(self, message: Any) -> None:
        """Return when one more record may be taken."""

    @abstractmethod
    async def in_order(self, message: Any) -> bool:
        """Whether this is a record not yet taken, all before it being taken, committed, or gone from Kafka."""

    @abstractmethod
    async def take(self, message: Any) -> None:
        """Begin a record; its entry of the window is finished when all its outputs are safe."""

    def pass_over(self) -> None:  # noqa: B027  not all need it
        """A record for which there was room is not taken."""

    def before_entering(self) -> None:
        """Leave where this process stood still for so long that others may have its partitions and their ledger entries."""
        stood = time.monotonic() - self.last_turn
        if stood > self.settings.processor_session_seconds * 0.75:
            self.fail(RuntimeError(f"stood still for {stood:.0f} s; its partitions may be with others"))

    def committed(self, runs: dict[Partition, list[InFlight[Work]]]) -> None:  # noqa: B027  not all need it
        """These ranges are entered and committed, and out of the window."""

    @abstractmethod
    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the agent for as long as the process does."""

    # --- reading -------------------------------------------------------------------------------------------------------------

    async def consume(self, stream: Any) -> None:
        """The agent's body. It raises nothing: Faust would go on after that as if the record had been done."""
        events: AsyncIterator[Any] = stream.noack().events()
        async for event in events:
            message = event.message
            await self.wait_for_room(message)
            try:
                if self.is_stale(message) or not await self.in_order(message):
                    self.pass_over()
                    continue
                await self.take(message)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self.fail(error)

    def fail(self, error: BaseException) -> NoReturn:
        """Leave at once, committing nothing more; whoever started the process starts it again."""
        self.log.critical("cannot go on", error=repr(error), exc_info=error)
        os._exit(EXIT_FATAL)

    def is_stale(self, message: Any) -> bool:
        """A record of an assignment that is over, which waited here for room: whoever has its partition now reads it again."""
        partition = (message.tp.topic, message.tp.partition)
        return partition in self.given_up or message.generation_id != self.app.consumer_generation_id

    def begin(self, message: Any, work: Work) -> InFlight[Work]:
        """Put a record into the window, behind those of its partition."""
        partition = (message.tp.topic, message.tp.partition)
        entry = self.window.add(partition, message.offset, work)
        self.next[partition] = message.offset + 1
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
        return entry

    def begin_expired(self, partition: Partition, first: int, last: int) -> None:
        """Put a range that is gone from Kafka into the window, as finished."""
        work = Work(last, time.time_ns() // 1000, note=EXPIRED)
        self.window.finish(self.window.add(partition, first, work))

    # --- ledger and commit ---------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Enter in the ledger and commit, for ever."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            # Gather a little: one ledger entry and one commit for many records.
            await asyncio.sleep(self.settings.processor_commit_seconds)
            if not await self.settle():
                self.wake.set()

    async def settle(self) -> bool:
        """Enter and commit what is finished now. False where the group did not take the commit; then it is done again.

        What was entered and not committed stays in the window and is entered again under its first offset, which replaces the
        entry. Were the next range entered before this one is committed, a crash in between would count both twice.
        """
        async with self.settling:
            while runs := self.window.finished_runs(MAX_RUN, _note):
                self.before_entering()
                try:
                    await asyncio.gather(*(self._enter(partition, run) for partition, run in runs.items()))
                except DeliveryFailed as error:
                    self.fail(error)
                kept = {partition: run for partition, run in runs.items() if not run[0].dropped}
                if kept and not await self._commit(kept):
                    return False
                for run in kept.values():
                    self.window.remove(run)
                self.waiting_since = time.monotonic() if len(self.window) else None
                self.committed(kept)
        return True

    async def _enter(self, partition: Partition, run: list[InFlight[Work]]) -> None:
        ledger = LedgerEntry(
            service=self.service,
            instance=self.settings.instance,
            site=self.settings.site,
            topic=partition[0],
            partition=partition[1],
            first_offset=run[0].offset,
            last_offset=run[-1].item.last_offset,
            written_at=time.time_ns() // 1000,
            note=run[0].item.note,
        )
        if ledger.note is None:
            for entry in run:
                work = entry.item
                minute = minute_of(work.received_at)
                ledger.lines[work.source, minute, ""].add(work.counts)
                for dataset, counts in work.datasets.items():
                    ledger.lines[work.source, minute, dataset].add(counts)
        value = self.encode_ledger(ledger.to_record())
        await self.producer.deliver(self.ledger_topic, value, key=ledger.key, blocking_seconds=math.inf)

    async def _commit(self, runs: dict[Partition, list[InFlight[Work]]]) -> bool:
        offsets = {TP(*partition): run[-1].item.last_offset + 1 for partition, run in runs.items()}
        return bool(await self.app.consumer._commit(offsets))

    # --- the group -----------------------------------------------------------------------------------------------------------

    def assigned(self) -> None:
        """The group has given this member its partitions, or none."""
        self.given_up.clear()
        self.joined = True

    async def revoked(self, partitions: set[Partition]) -> None:
        """Commit what is in flight if that takes no longer than some seconds, then let go: another member begins at the commit."""
        if partitions and not await self._drain(DRAIN_SECONDS):
            self.log.warning("records in flight are left to whoever gets their partitions", records=len(self.window))
        self.drop(partitions)

    def drop(self, partitions: set[Partition]) -> None:
        """These go to another member, which does their uncommitted records again."""
        self.given_up |= partitions
        self.window.drop(partitions)
        self.waiting_since = time.monotonic() if len(self.window) else None
        for partition in partitions:
            self.next.pop(partition, None)

    async def finish(self) -> None:
        """Stop reading and commit what is in flight, so that the next start repeats nothing."""
        if not self.joined:
            return
        self.app.consumer.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        if not await self._drain(DRAIN_SECONDS):
            self.log.warning("stopping with records in flight; the next start does them again", records=len(self.window))

    async def _drain(self, seconds: float) -> bool:
        async def empty() -> None:
            while len(self.window):
                await self.settle()
                await asyncio.sleep(0.01)

        try:
            await asyncio.wait_for(empty(), seconds)
        except TimeoutError:
            return False
        return True

    def not_ready(self) -> str | None:
        """Why this member cannot work, or None where it can."""
        if not self.joined:
            return "not yet a member of its consumer group"
        since = self.waiting_since
        if since is not None and (waited := time.monotonic() - since) > STUCK_SECONDS:
            return f"nothing could be committed for {waited:.0f} s: Kafka does not take the outputs, or the commit"
        return "the consumer group is rebalancing" if self.app.rebalancing else None


class Ready(NamedTuple):
    """A member about to start: the Faust topic its agent reads, and what the log says of it."""

    member: Member
    topic: Any
    about: dict[str, object]


def endless_producer(settings: ProcessorSettings) -> DeliveryProducer:
    """A producer that never gives up: while Kafka is away the window fills and reading stops, which loses nothing."""
    return DeliveryProducer(settings, message_timeout_ms=0, delivery_timeout_ms=0)


def headers_of(message: Any) -> list[tuple[str, bytes]]:
    """The headers of a record that Faust read."""
    headers = message.headers or []
    return list(headers.items()) if isinstance(headers, dict) else list(headers)


def _note(work: Work) -> str | None:
    return work.note


def run_member(settings: ProcessorSettings, service: str, log: BoundLogger, make: Callable[[], Awaitable[Ready]]) -> int:
    """Run one member until it is told to stop; the exit code: 0, EXIT_UNAVAILABLE at start, EXIT_FATAL later.

    Args:
        make: awaited once, in the loop the member is to run in. DeliveryFailed from it means that Kafka is away or lacks a topic;
            what else it raises is raised here.
    """
    ops_logging.configure(service, settings.instance, level=settings.log_level, form=settings.log_format)
    telemetry.setup_metrics(service, settings.instance)

    async def main() -> int:
        try:
            member, topic, about = await make()
        except DeliveryFailed as error:
            log.error("cannot start", error=str(error), brokers=settings.kafka_bootstrap_servers)  # noqa: TRY400
            return EXIT_UNAVAILABLE
        app = member.app
        app.agent(topic, name=service, concurrency=1)(member.consume)

        async def revoked(sender: Any, partitions: Any = (), **_: Any) -> None:
            await member.revoked({(tp.topic, tp.partition) for tp in partitions})

        async def assigned(sender: Any, partitions: Any = (), **_: Any) -> None:
            member.assigned()

        app.on_partitions_revoked.connect(revoked)
        app.on_partitions_assigned.connect(assigned)
        health = telemetry.HealthServer(settings.health_host, settings.health_port, member.not_ready)
        log.info("starting", group=app.conf.id, **about)
        try:
            await run_app(app, settings, member.background(), member.finish)
        except Exception as error:
            log.critical("cannot go on", error=repr(error), exc_info=error)
            return EXIT_FATAL
        finally:
            health.close()
            await asyncio.to_thread(member.producer.close, CLOSE_SECONDS)
        return 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
