"""Structured logs on standard error: JSON lines for machines, coloured text on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["configure", "get"]


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
