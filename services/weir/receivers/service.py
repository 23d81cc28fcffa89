"""What surrounds a receiver: the process, its producer, health, the order of start and stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import uvloop

from weir.bus.config import DeliveryFailed
from weir.bus.producer import DeliveryProducer
from weir.ops.logging import configure, get
from weir.ops.shutdown import on_hangup, on_stop_signals
from weir.ops.telemetry import HealthServer, setup_metrics, watch_lag
from weir.ops.tls import ServerTls
from weir.receivers.publishing.batching import BATCH_OVERHEAD
from weir.receivers.publishing.publisher import Publisher
from weir.receivers.settings import ReceiverSettings
from weir.receivers.workers import SOCKETS_NOT_OPEN, follow_parent, supervise

__all__ = ["Receiver", "kafka_producer", "run", "serve"]


class Receiver(Protocol):
    """One service that listens."""

    publisher: Publisher

    async def start(self) -> None:
        """Open the sockets. Raises OSError where one cannot be had."""

    async def stop(self) -> None:
        """Take nothing more from senders; hand what is there to the publisher."""


_S = TypeVar("_S", bound=ReceiverSettings)


def kafka_producer(settings: ReceiverSettings) -> DeliveryProducer:
    """A producer whose queue holds all that the memory ceiling allows, so that handing a batch over never blocks."""
    memory = settings.receiver_memory_bytes
    return DeliveryProducer(
        settings,
        queue_buffering_max_kbytes=min(memory * 5 // 4 // 1024 + 8_192, 2_097_151),
        queue_buffering_max_messages=max(100_000, memory // BATCH_OVERHEAD),
        # Batches have lingered already.
        linger_ms=5,
    )


class _Readiness:
    """Asks until the raw topic has answered once; from then on the publisher knows best. Not ready before the sockets are open."""

    def __init__(self, receiver: Receiver, service: str) -> None:
        self._receiver = receiver
        self._log = get(f"weir.{service}")
        self.reason: str | None = "starting"
        self.listening = False
        self.stopping = False

    def __call__(self) -> str | None:
        if not self.listening:
            return SOCKETS_NOT_OPEN  # also while a start that failed is cleared up: by this a parent tells it from others
        if self.stopping:
            return "stopping"
        # With a disk to write to, a receiver that was started while Kafka is away does its work all the same.
        unseen = None if self._receiver.publisher.spools else self.reason
        return unseen or self._receiver.publisher.problem()

    async def watch(self) -> None:
        """Until the topic is seen."""
        loop = asyncio.get_running_loop()
        said = -60.0
        while True:
            try:
                await loop.run_in_executor(None, self._receiver.publisher.reach, 2.0)
            except DeliveryFailed as error:
                self.reason = str(error)
                if time.monotonic() - said >= 60:
                    said = time.monotonic()
                    how = "what comes goes to the disk spool" if self._receiver.publisher.spools else "not ready"
                    self._log.warning(f"the raw topic does not answer: {how}", error=self.reason)
                await asyncio.sleep(2.0)
                continue
            self.reason = None
            return


async def _watch_hangups(hangup: asyncio.Event, service: str) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        get(f"weir.{service}").info("asked to read certificates anew, but no port speaks TLS")


async def serve(
    settings: _S,
    service: str,
    build: Callable[[_S], Receiver],
    stop: asyncio.Event,
    started: Callable[[Receiver], None] = lambda _: None,
    hangup: asyncio.Event | None = None,
) -> int:
    """Run a receiver until `stop` is set; returns how many records Kafka did not take before the end.

    Certificates are followed meanwhile, and read anew at once when `hangup` is set.

    Raises:
        OSError: a socket cannot be had.
        SettingsError: a certificate or key cannot be used.
    """
    log = get(f"weir.{service}")
    # Held until the end: the receiver asks with the same settings, gets the same object, and so need not follow the files itself.
    tls = ServerTls.of(settings)
    receiver = build(settings)
    readiness = _Readiness(receiver, service)
    health: HealthServer | None = None
    watches = [asyncio.create_task(readiness.watch()), asyncio.create_task(watch_lag())]
    if tls is not None:
        watches.append(asyncio.create_task(tls.watch(hangup)))
    elif hangup is not None:
        watches.append(asyncio.create_task(_watch_hangups(hangup, service)))
    try:
        health = HealthServer(settings.health_host, settings.health_port, readiness)
        await receiver.start()
        readiness.listening = True
        started(receiver)
        await stop.wait()
        log.info("stopping")
    finally:
        readiness.stopping = True
        for watch in watches:
            watch.cancel()
        receiver.publisher.stopping()
        await receiver.stop()
        left = await receiver.publisher.stop()
        await asyncio.gather(*watches, return_exceptions=True)
        if health is not None:
            health.close()
    log.info("stopped", records_lost=left)
    return left


def run(settings: _S, service: str, build: Callable[[_S], Receiver]) -> None:
    """The whole life of a receiver: until SIGTERM or SIGINT, then a graceful stop. SIGHUP reads certificates anew.

    With WEIR_RECEIVER_PROCESSES above 1 this process only looks after so many workers, each of which comes here again.

    Raises:
        SettingsError: a certificate or key cannot be used.
        SystemExit: with status 1 where a socket cannot be had or Kafka did not take everything before the end.
    """
    configure(service, settings.instance, level=settings.log_level, form=settings.log_format)
    setup_metrics(service, settings.instance)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        stop = on_stop_signals(loop)
        follow_parent(loop, stop)
        return await serve(settings, service, build, stop, hangup=on_hangup(loop))

    try:
        if settings.receiver_processes > 1 and settings.receiver_worker == 0:
            status = supervise(settings, service)
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                status = 1 if runner.run(main()) else 0
    except OSError as error:
        get(f"weir.{service}").error("cannot start", error=str(error))
        raise SystemExit(1) from error
    if status:
        raise SystemExit(status)
