"""The Faust app under every processor: made, run until it is told to stop, and left in a way the exit code tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, Final

import faust

from weir.ops import logging as ops_logging
from weir.ops.settings import ServiceSettings, SettingsError
from weir.ops.shutdown import on_stop_signals
from weir.processors.settings import ProcessorSettings

__all__ = ["EXIT_FATAL", "EXIT_UNAVAILABLE", "ProcessorSettings", "make_app", "run_app"]

EXIT_FATAL: Final = 70
"""Left without a commit because it could not go on; starting again is the cure."""
EXIT_UNAVAILABLE: Final = 69
"""Kafka did not answer at start, or a topic is missing."""

STOP_SECONDS = 15.0

log = ops_logging.get("weir.processors")


def make_app(settings: ProcessorSettings, service: str, **options: Any) -> faust.App:
    """A Faust app for one service: at-least-once, static membership, bounded buffers, no web server, no topics of its own making.

    Raises:
        SettingsError: the SASL mechanism is one Faust's driver does not know.
    """
    return faust.App(
        f"{settings.topic_prefix}.{service}",
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        broker_client_id=f"weir-{settings.instance}",
        broker_commit_interval=settings.processor_commit_seconds,
        broker_session_timeout=settings.processor_session_seconds,
        broker_heartbeat_interval=min(3.0, settings.processor_session_seconds / 4),
        broker_max_poll_records=64,
        consumer_group_instance_id=settings.instance,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=1_048_576,
        stream_buffer_maxsize=max(2, settings.processor_max_in_flight),
        producer_compression_type=None if settings.kafka_compression == "none" else settings.kafka_compression,
        producer_acks=-1,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        datadir=tempfile.mkdtemp(prefix="weir-"),
        processing_guarantee="at_least_once",
        autodiscover=False,
        **options,
    )


def _credentials(settings: ServiceSettings) -> Any:
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=str(settings.kafka_ssl_ca_file) if settings.kafka_ssl_ca_file else None)
        if settings.kafka_ssl_certificate_file:
            context.load_cert_chain(settings.kafka_ssl_certificate_file, settings.kafka_ssl_key_file)
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    if settings.kafka_sasl_mechanism not in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
        raise SettingsError(
            [f"WEIR_KAFKA_SASL_MECHANISM: {settings.kafka_sasl_mechanism} does not work in processors; PLAIN and SCRAM do"]
        )
    password = settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else ""
    return faust.SASLCredentials(
        username=settings.kafka_sasl_username,
        password=password,
        mechanism=settings.kafka_sasl_mechanism,
        ssl_context=context,
    )


async def run_app(
    app: faust.App,
    settings: ServiceSettings,
    background: list[Any],
    before_stop: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Start a Faust app with its background coroutines and stay until SIGTERM, SIGINT or a crash.

    Args:
        before_stop: awaited when a stop was asked for and the app still runs: the last chance to commit.

    Raises:
        BaseException: what the app or a background coroutine crashed of.
    """
    stop = on_stop_signals(asyncio.get_running_loop())
    stopped = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(app.start())
    # With Kafka away the start takes for ever; a stop must not wait for it.
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    tasks: list[asyncio.Task[Any]] = []
    crashed = asyncio.create_task(app.wait_until_stopped())
    try:
        if starting.done():
            starting.result()
            tasks = [asyncio.create_task(coroutine) for coroutine in background]
            done, _ = await asyncio.wait([stopped, crashed, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped, crashed}:
                task.result()
            # Faust only marks itself as crashed; nobody raises it, and the process would end as if all were well.
            if app.crash_reason is not None:
                raise app.crash_reason
            if before_stop is not None and stop.is_set():
                await before_stop()
        else:
            for coroutine in background:
                coroutine.close()
    finally:
        for task in [starting, stopped, crashed, *tasks]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        try:
            await asyncio.wait_for(app.stop(), STOP_SECONDS)
        except TimeoutError:
            # Its threads may wait for a broker that is away, and the interpreter would wait for them.
            log.error("did not stop in time; left without", seconds=STOP_SECONDS)  # noqa: TRY400
            os._exit(EXIT_FATAL)
