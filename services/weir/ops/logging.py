"""Structured logs on standard error: JSON lines for machines, coloured text on a terminal."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

__all__ = ["Bounded", "EachOnceAWhile", "configure", "get"]


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


_TOLD = 10
"""Kinds of messages that are told one by one."""


class _Bucket:
    __slots__ = ("held_back", "level", "tokens", "updated")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.updated = now
        self.held_back = 0
        self.level = logging.INFO

    def take(self, rate: float, burst: float, now: float) -> bool:
        self.tokens = min(burst, self.tokens + (now - self.updated) * rate)
        self.updated = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Bounded(logging.Filter):
    """The last safety net: whatever a sender provokes, logs cannot fill a disk.

    Each kind of message, that is a logger's name with an event or an unformatted message, has a token bucket; a second one holds
    for all kinds together, since text that was put together beforehand can be of any number of kinds. What is held back is counted
    and told some seconds later, kind by kind.

    Args:
        tell: called in a thread of its own with logger, level, message and how many of it were held back; what it logs passes.
        burst, per_second: of each kind.
        total_burst, total_per_second: of all together.
        tell_seconds: after the first that was held back.
        kinds: remembered at most; the one heard of longest ago is forgotten first.
    """

    def __init__(
        self,
        tell: Callable[[str, int, str, int], object],
        *,
        burst: float = 30.0,
        per_second: float = 1.0,
        total_burst: float = 300.0,
        total_per_second: float = 20.0,
        tell_seconds: float = 10.0,
        kinds: int = 512,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._tell = tell
        self._burst, self._rate = burst, per_second
        self._total_burst, self._total_rate = total_burst, total_per_second
        self._tell_seconds = tell_seconds
        self._most_kinds = kinds
        self._clock = clock
        self._lock = threading.Lock()
        self._total = _Bucket(total_burst, clock())
        self._kinds: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._timer: threading.Timer | None = None
        self._forgotten = 0
        self._local = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        if getattr(self._local, "telling", False):
            return True
        # structlog hands over its event dictionary as the message.
        event = record.msg.get("event", "") if isinstance(record.msg, dict) else record.msg
        kind = (record.name, str(event)[:200])
        with self._lock:
            now = self._clock()
            bucket = self._kinds.get(kind)
            if bucket is None:
                bucket = self._kinds[kind] = _Bucket(self._burst, now)
                if len(self._kinds) > self._most_kinds:
                    self._forgotten += self._kinds.popitem(last=False)[1].held_back
            else:
                self._kinds.move_to_end(kind)
            if bucket.take(self._rate, self._burst, now) and self._total.take(self._total_rate, self._total_burst, now):
                return True
            bucket.held_back += 1
            bucket.level = record.levelno
            if self._timer is None:
                self._timer = threading.Timer(self._tell_seconds, self.tell)
                self._timer.daemon = True
                self._timer.start()
            return False

    def tell(self) -> None:
        """Say what has been held back since it was last said."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            lines = [(name, event, one.level, one.held_back) for (name, event), one in self._kinds.items() if one.held_back]
            for one in self._kinds.values():
                one.held_back = 0
            # The busiest: as many lines as kinds would be a flood of its own.
            lines.sort(key=lambda line: -line[3])
            others = sum(line[3] for line in lines[_TOLD:]) + self._forgotten
            self._forgotten = 0
        if others:
            lines[_TOLD:] = [("weir.log", "messages of many kinds", logging.WARNING, others)]
        self._local.telling = True
        try:
            for name, event, level, number in lines:
                self._tell(name, level, event, number)
        finally:
            self._local.telling = False


def _tell_held_back(name: str, level: int, message: str, held_back: int) -> None:
    get(name).log(level, "messages held back", message=message, held_back=held_back)


def _named(service: str, instance: str) -> structlog.typing.Processor:
    """Puts both on every line. Not by context variables: threads begin without them."""

    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("service", service)
        event.setdefault("instance", instance)
        return event

    return add


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
        _named(service, instance),
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
    bounded = Bounded(_tell_held_back)
    handler.addFilter(bounded)
    atexit.register(bounded.tell)
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


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; call with an event name and key=value pairs."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
