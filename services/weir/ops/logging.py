"""Structured logs on standard error: JSON lines for machines, coloured text on a terminal."""

from __future__ import annotations

import logging
import sys
import time

import structlog

__all__ = ["EachOnceAWhile", "configure", "get"]


class EachOnceAWhile(logging.Filter):
    """Lets the same message of the Kafka clients through every so many seconds: a broker that is away is tried many times a second.

    Args:
        seconds: between two messages of one kind.
        names: loggers whose messages are limited, their children included; others pass.
    """

    def __init__(self, seconds: float, names: tuple[str, ...], kinds: int = 256) -> None:
        super().__init__()
        self._seconds = seconds
        self._names = names
        self._kinds = kinds
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        if record.name.partition(".")[0] not in self._names:
            return True
        # "FAIL [thrd:host:9092/bootstrap]: host:9092/bootstrap: Connect to …": what comes before the details is the kind.
        kind = f"{record.name}:{record.getMessage()[:60]}"
        now = time.monotonic()
        if now < self._next.get(kind, 0.0):
            return False
        if len(self._next) >= self._kinds:
            self._next.clear()
        self._next[kind] = now + self._seconds
        return True


def configure(service: str, instance: str, *, level: str = "info", form: str = "auto") -> None:
    """Set up logging for this process, standard library loggers (Faust, the Azure SDKs) included.

    Args:
        service: name put on every line, such as "process.syslog".
        instance: name of this instance.
        level: debug, info, warning or error.
        form: json, text, or auto (text on a terminal, else JSON).
    """
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if as_text:
        renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        tail = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    else:
        tail = [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=tail))
    handler.addFilter(EachOnceAWhile(10.0, ("librdkafka", "aiokafka")))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries that tell too much at info: each request, each rebalance step.
    for noisy in ("azure", "urllib3", "aiokafka", "faust", "mode", "msal"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; call with an event name and key=value pairs."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
