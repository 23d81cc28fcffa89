"""Alerts to a SIEM on the other side of the WAN: CEF in RFC 5424, over TCP or TLS.

Only alerts: that is Weir's promise, and a setting that breaks it has to say so by its name.

Syslog is not acknowledged. An alert counts as delivered when the receiver's TCP has acknowledged its bytes and the connection still
stands; what the receiver's application had not read when it died is then lost to the sender's knowledge. So the alerts of the last
seconds are kept, the connection is watched while it is idle, and after a break they are sent again, before anything else. A
receiver may see an alert twice, with the same externalId. What a receiver loses later than those seconds, nobody on this side can
know.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from weir.ops import logging
from weir.sinks.alert_cef import alert_message, event_message
from weir.sinks.destination import Counters, Misconfigured, Rejected, Retry, Row
from weir.sinks.runtime import run_main
from weir.sinks.settings import SinkSettings, split_topics
from weir.sinks.wire import Wire

__all__ = ["SiemDestination", "SiemSettings", "frame", "main"]

_log = logging.get(__name__)
_WATCH_SECONDS: Final = 0.2
_RECONNECT_SECONDS: Final = 1.0
_WRITE_BYTES: Final = 65_536
_MAX_RECENT_BYTES: Final = 16 * 1024 * 1024

Framing = Literal["octet-counting", "newline"]


class SiemSettings(SinkSettings):
    """Settings of the SIEM forwarder."""

    # Alerts are few, and somebody waits for them.
    sink_linger_seconds: float = Field(0.1, ge=0, le=300, description="a batch is sent when its first record has waited so long")

    siem_host: str = Field("", description="name or address of the SIEM's syslog receiver; over TLS the name in its certificate")
    siem_port: int = Field(0, ge=0, le=65535, description="its port; 6514 is usual for TLS, 601 for TCP")
    siem_transport: Literal["tcp", "tls"] = "tls"
    siem_ca_file: Path | None = Field(None, description="CA certificates the receiver is verified with, instead of the system's")
    siem_certificate_file: Path | None = Field(None, description="client certificate, where the receiver asks for one")
    siem_key_file: Path | None = None
    siem_framing: Framing = Field("octet-counting", description="RFC 6587; newline for receivers that read lines")
    siem_topics: str = Field("alerts", description="comma list of short topic names")
    siem_allow_topics_beside_alerts: bool = Field(False, description="lets more than alerts cross the WAN")
    siem_site: str = Field("siem", min_length=1, description="label of the SIEM's site; with our site it names the WAN link")
    siem_resend_seconds: float = Field(5.0, ge=0, le=600, description="alerts so recent are sent again after a broken connection")
    siem_settle_seconds: float = Field(10.0, gt=0, le=120, description="longest wait for the receiver's TCP to acknowledge")
    siem_timeout_seconds: float = Field(10.0, gt=0, le=120, description="for connecting and for each write")
    siem_max_bytes: int = Field(8192, ge=2048, le=1_000_000, description="longest message; what does not fit is left out")
    siem_max_evidence: int = Field(10, ge=0, le=1000, description="event ids sent with an alert")

    @model_validator(mode="after")
    def _siem(self) -> Self:
        mistakes = []
        if not self.siem_host:
            mistakes.append("WEIR_SIEM_HOST is not set: name the SIEM's syslog receiver")
        if not self.siem_port:
            mistakes.append("WEIR_SIEM_PORT is not set: 6514 is usual for syslog over TLS, 601 over TCP")
        try:
            topics = split_topics("WEIR_SIEM_TOPICS", self.siem_topics or "alerts")
            others = [topic for topic in topics if topic != "alerts"]
            if others and not self.siem_allow_topics_beside_alerts:
                mistakes.append(
                    f"WEIR_SIEM_TOPICS: {', '.join(others)} would break the promise that only alerts cross the WAN;"
                    " leave alerts alone there, or set WEIR_SIEM_ALLOW_TOPICS_BESIDE_ALERTS=true if that is what you want"
                )
        except ValueError as error:
            mistakes.append(str(error))
        if self.siem_transport == "tcp":
            mistakes += [
                f"WEIR_{name.upper()} is set, and WEIR_SIEM_TRANSPORT=tcp uses no certificates: take one of the two back"
                for name in ("siem_ca_file", "siem_certificate_file", "siem_key_file")
                if getattr(self, name) is not None
            ]
        if self.siem_key_file is not None and self.siem_certificate_file is None:
            mistakes.append("WEIR_SIEM_KEY_FILE is set without WEIR_SIEM_CERTIFICATE_FILE")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def topics(self) -> list[str]:
        """Short names of the topics to deliver."""
        return split_topics("WEIR_SIEM_TOPICS", self.siem_topics or "alerts")


def frame(message: bytes, framing: Framing) -> bytes:
    """A message as it goes onto the stream (RFC 6587 sections 3.4.1 and 3.4.2). Messages hold no line feed: CEF escapes them."""
    return b"%d %s" % (len(message), message) if framing == "octet-counting" else message + b"\n"


class SiemDestination:
    """`Destination` for a syslog receiver."""

    name = "siem"
    max_rows = 500
    max_bytes = 1_000_000
    max_parallel = 1

    def __init__(self, settings: SiemSettings) -> None:
        self._settings = settings
        self.counters = Counters()
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._recent: deque[tuple[float, bytes]] = deque()
        self._recent_bytes = 0
        # When the connection was last known to stand with nothing on its way.
        self._good_at = 0.0
        # While True, `_recent` holds what must go first over the next connection, and is not pruned.
        self._owed = False
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    # --- Destination ---------------------------------------------------------------------------------------------------------

    def prepare(self, topics: Sequence[str]) -> None:
        """Load the certificates. The receiver may be away: the first alert waits for it."""
        settings = self._settings
        if settings.siem_transport == "tls":
            try:
                context = ssl.create_default_context(cafile=str(settings.siem_ca_file) if settings.siem_ca_file else None)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                if settings.siem_certificate_file is not None:
                    context.load_cert_chain(settings.siem_certificate_file, settings.siem_key_file)
            except (ssl.SSLError, OSError) as error:
                raise Misconfigured([f"WEIR_SIEM_CA_FILE, _CERTIFICATE_FILE or _KEY_FILE cannot be used: {error}"]) from error
            self._context = context
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="siem-watch", daemon=True)
            self._watcher.start()

    def table(self, topic: str) -> str:
        """The format; a SIEM's tables are its own affair."""
        return "cef"

    def send(self, topic: str, rows: Sequence[Row]) -> list[Rejected]:
        """Write the rows and wait until the receiver's TCP has acknowledged them. Raises Retry."""
        frames: list[bytes] = []
        rejected: list[Rejected] = []
        for row in rows:
            try:
                frames.append(frame(self._message(topic, row), self._settings.siem_framing))
            except Exception as error:  # whatever it is, it is this record's, and the others must not wait for it
                rejected.append(Rejected(row, f"cannot be written as CEF: {type(error).__name__}: {error}"))
        with self._lock:
            try:
                wire = self._connected()
                self._put(wire, frames)
            except OSError as error:
                self._drop()
                raise Retry(f"{self._settings.siem_host}:{self._settings.siem_port}: {error}", rejected=rejected) from error
            self._remember(frames)
        return rejected

    def close(self) -> None:
        """Close the connection."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join(timeout=self._settings.siem_timeout_seconds)
        with self._lock:
            if self._wire is not None:
                self._wire.close()
                self._wire = None
        _log.info("wan-bytes", sent=self.counters.bytes_sent, received=self.counters.bytes_received)

    # --- the connection; all below under the lock ----------------------------------------------------------------------------

    def _message(self, topic: str, row: Row) -> bytes:
        settings = self._settings
        if topic == "alerts":
            return alert_message(row.record, max_bytes=settings.siem_max_bytes, max_evidence=settings.siem_max_evidence)
        return event_message(topic, row.record, max_bytes=settings.siem_max_bytes, site=settings.site)

    def _connected(self) -> Wire:
        """A connection that stands as far as can be told, with nothing owed on it. Raises OSError."""
        if self._wire is not None and self._wire.closed_by_peer():
            self._drop()
        if self._wire is None:
            settings = self._settings
            self._wire = Wire(
                settings.siem_host,
                settings.siem_port,
                context=self._context,
                timeout=settings.siem_timeout_seconds,
                counters=self.counters,
            )
            self.counters.add(requests=1)
        if self._owed:
            again = [data for _, data in self._recent]
            if again:
                _log.warning("sent-again", alerts=len(again), reason="the connection broke shortly after they were sent")
            self._put(self._wire, again)
            self._owed = False
            self._recent.clear()
            self._recent_bytes = 0
            self._remember(again)
        return self._wire

    def _put(self, wire: Wire, frames: Sequence[bytes]) -> None:
        if not frames:
            return
        stream = b"".join(frames)
        for start in range(0, len(stream), _WRITE_BYTES):
            wire.write(stream[start : start + _WRITE_BYTES])
        wire.settle(self._settings.siem_settle_seconds)
        self._good_at = time.monotonic()

    def _drop(self) -> None:
        """The connection is lost: keep what was sent over it so recently that it may not have been read."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
            if not self._owed:
                self._prune()
                self._owed = bool(self._recent)

    def _remember(self, frames: Sequence[bytes]) -> None:
        for data in frames:
            self._recent.append((self._good_at, data))
            self._recent_bytes += len(data)
        self._prune()

    def _prune(self) -> None:
        oldest = self._good_at - self._settings.siem_resend_seconds
        while self._recent and (self._recent[0][0] <= oldest or self._recent_bytes > _MAX_RECENT_BYTES):
            self._recent_bytes -= len(self._recent.popleft()[1])

    def _watch(self) -> None:
        """Notice a break while nothing is being sent, and make good for it at once."""
        next_try = 0.0
        while not self._closing.wait(_WATCH_SECONDS):
            with self._lock:
                if self._wire is not None and self._wire.closed_by_peer():
                    _log.warning("connection-lost", host=self._settings.siem_host, port=self._settings.siem_port)
                    self._drop()
                elif self._wire is not None and not self._owed:
                    self._good_at = time.monotonic()
                    self._prune()
                if self._owed and time.monotonic() >= next_try:
                    next_try = time.monotonic() + _RECONNECT_SECONDS
                    try:
                        self._connected()
                    except (OSError, ValueError) as error:  # a name that is none is a UnicodeError
                        self._drop()
                        _log.warning("not-connected", host=self._settings.siem_host, reason=str(error))


def main(settings: SiemSettings) -> None:
    """Run the SIEM forwarder until SIGTERM. Raises as `weir.sinks.runtime.run_sink`."""
    run_main(settings, SiemDestination(settings), settings.topics, wan_site=settings.siem_site)
