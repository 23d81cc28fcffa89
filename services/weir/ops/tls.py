"""TLS for ports that listen: settings, a context that follows its files, and the name in a client's certificate.

Certificates are replaced without a restart. A context that listeners hold cannot be made anew in place: of its authorities,
OpenSSL can add some but remove none. So the context stays, and while a client says hello, with a server name or without, the
connection is moved to the context made of the newest files; certificate, key and authorities are then those of the new one, while
version, options and verify mode stay those of the first, which the settings fix anyway. Open connections notice nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self
from weakref import WeakValueDictionary

from cryptography import x509
from pydantic import Field, SecretStr, model_validator

from weir.ops.certificates import Judgement, der_subject, judge_authorities, judge_identity
from weir.ops.logging import get
from weir.ops.settings import ServiceSettings, SettingsError
from weir.ops.telemetry import meter

__all__ = ["ServerTls", "TlsSettings", "subject_of"]

_SETTLE_SECONDS = 0.2
_SETTLE_TRIES = 25
_RETRY_SECONDS = 60.0
_REMIND_SECONDS = 86_400.0

log = get("weir.tls")

_Signature = tuple[tuple[int, ...] | None, ...]


class TlsSettings(ServiceSettings):
    """What every service that listens with TLS reads; one identity for all its ports."""

    tls_certificate_file: Path | None = Field(
        None, description="certificate chain of this service, PEM, its own certificate first; without it no port speaks TLS"
    )
    tls_key_file: Path | None = Field(
        None, description="private key, PEM (PKCS#8 or traditional); unset: it is in the certificate's file"
    )
    tls_key_password: SecretStr | None = Field(None, description="password of an encrypted private key")
    tls_client_ca_file: Path | None = Field(
        None, description="certificate authorities of clients, PEM; one that is not self-signed is trusted as well"
    )
    tls_client_certificates: str = Field(
        "none", pattern="^(none|optional|required)$", description="whether clients must present a certificate"
    )
    tls_minimum_version: str = Field("1.2", pattern=r"^1\.[23]$", description="lowest TLS version spoken")
    tls_reload_seconds: float = Field(
        5.0, ge=0.05, le=3600, description="how often the files are looked at for changes; SIGHUP does it at once"
    )

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if mistakes := _judge(self)[2].mistakes:
            raise ValueError("\n".join(mistakes))
        return self


def _password(settings: TlsSettings) -> str | None:
    return settings.tls_key_password.get_secret_value() if settings.tls_key_password else None


def _judge(settings: TlsSettings) -> tuple[list[x509.Certificate], list[x509.Certificate], Judgement]:
    """The server's chain, the authorities of clients, and what is wrong with either or with the settings."""
    found = Judgement()
    chain: list[x509.Certificate] = []
    authorities: list[x509.Certificate] = []
    verifies = settings.tls_client_certificates != "none"
    if settings.tls_certificate_file is not None:
        chain, judged = judge_identity(settings.tls_certificate_file, settings.tls_key_file, _password(settings))
        found.mistakes += judged.mistakes
        found.warnings += judged.warnings
    else:
        if settings.tls_key_file is not None:
            found.mistakes.append("WEIR_TLS_KEY_FILE is set, but WEIR_TLS_CERTIFICATE_FILE is not")
        if verifies:
            found.mistakes.append(
                f"WEIR_TLS_CLIENT_CERTIFICATES is {settings.tls_client_certificates}, but no port speaks TLS without "
                "WEIR_TLS_CERTIFICATE_FILE"
            )
    if settings.tls_client_ca_file is not None:
        authorities, judged = judge_authorities(settings.tls_client_ca_file)
        found.mistakes += judged.mistakes
        found.warnings += judged.warnings
        if not verifies:
            found.warnings.append("WEIR_TLS_CLIENT_CA_FILE is set, but WEIR_TLS_CLIENT_CERTIFICATES is none: no client is verified")
    elif verifies:
        found.mistakes.append(
            f"WEIR_TLS_CLIENT_CERTIFICATES is {settings.tls_client_certificates}, but WEIR_TLS_CLIENT_CA_FILE does not name whose"
        )
    return chain, authorities, found


def _context(settings: TlsSettings, certificate_file: Path) -> ssl.SSLContext:
    """A context of what the files hold now. Raises OSError, of which ssl.SSLError is one, where OpenSSL does not like them."""
    # Python's own choices: forward-secret ciphers only, the server's order of preference, no compression.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if settings.tls_minimum_version == "1.2" else ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_RENEGOTIATION
    # An empty password: OpenSSL would otherwise ask for one on the terminal.
    context.load_cert_chain(certificate_file, settings.tls_key_file, _password(settings) or "")
    if settings.tls_client_certificates != "none":
        context.verify_mode = ssl.CERT_REQUIRED if settings.tls_client_certificates == "required" else ssl.CERT_OPTIONAL
        # An issuing authority may be named without its root; without this OpenSSL wants the root.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(settings.tls_client_ca_file)
        # A resumed session is not verified again: a client whose authority is trusted no longer would come in with its ticket.
        context.options |= ssl.OP_NO_TICKET
    # TLS 1.3 sends tickets after the handshake. A sender that only sends never reads them: its closing resets the connection, and
    # what it had sent last is lost.
    context.num_tickets = 0
    return context


class _Newest:
    """The context to move connections to; None while the first one is the newest."""

    __slots__ = ("context",)

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None

    def __call__(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _first: ssl.SSLContext) -> int | None:
        if self.context is None:
            return None
        if connection.session_reused and connection.context.verify_mode != ssl.CERT_NONE:
            # The session cache of TLS 1.2 cannot be turned off from Python. Refused, the client comes again without its session.
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        connection.context = self.context
        return None


class ServerTls:
    """A server's TLS, made from settings. `context` stays the same object, whatever becomes of the files.

    Raises:
        SettingsError: with every mistake in settings and files.
    """

    _made: ClassVar[WeakValueDictionary[tuple[object, ...], ServerTls]] = WeakValueDictionary()
    _making: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, settings: TlsSettings) -> None:
        if settings.tls_certificate_file is None:
            raise SettingsError(["WEIR_TLS_CERTIFICATE_FILE is not set"])
        self._settings = settings
        self._certificate_file = settings.tls_certificate_file
        self._lock = threading.Lock()
        self._newest = _Newest()
        self._retry_at: float | None = None
        self._remind_at = 0.0
        m = meter("weir.tls")
        self._reloads = m.create_counter("weir.tls.reloads", "{reload}", "Times that changed certificates were taken into use")
        self._failures = m.create_counter(
            "weir.tls.reload_failures", "{reload}", "Times that changed certificates could not be used; those before stay in use"
        )
        self._expiry = m.create_gauge(
            "weir.tls.certificate_expiry", "s", "When the certificate, or the first of the authorities, ends: seconds since 1970"
        )
        self._failures.add(0)
        self._seen = self._signatures()
        self.context = self._load()
        self.context.sni_callback = self._newest

    @classmethod
    def of(cls, settings: TlsSettings) -> ServerTls | None:
        """The TLS that the settings ask for; None where no certificate is set.

        One object for all who ask with the same TLS settings while somebody holds it, so that one watch serves them all.

        Raises:
            SettingsError: as the class.
        """
        if settings.tls_certificate_file is None:
            return None
        key = tuple(getattr(settings, name) for name in sorted(TlsSettings.model_fields) if name.startswith("tls_"))
        with cls._making:
            made = cls._made.get(key)
            if made is None:
                made = cls._made[key] = cls(settings)
        return made

    async def watch(self, hangup: asyncio.Event | None = None) -> None:
        """Look at the files every WEIR_TLS_RELOAD_SECONDS, and at once when `hangup` is set, until cancelled."""
        hangup = hangup or asyncio.Event()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.tls_reload_seconds):
                    await hangup.wait()
            asked = hangup.is_set()
            hangup.clear()
            try:
                await asyncio.to_thread(self.check, at_once=asked)
            except Exception:
                # Nothing else follows the files.
                log.exception("certificates cannot be looked at; those in use stay")

    def check(self, *, at_once: bool = False) -> bool:
        """Take new files into use where they have changed, or where `at_once`; whether that was done. From any thread.

        Files that cannot be used are counted and logged, and tried again every minute; what was in use stays so.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._remind_at:
                self._remind()
            signatures = self._signatures()
            if signatures == self._seen and not at_once and (self._retry_at is None or now < self._retry_at):
                return False
            if signatures != self._seen:
                signatures = self._settled(signatures)
            self._seen = signatures
            try:
                context = self._load()
            except SettingsError as error:
                self._failures.add(1)
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                log.error("new certificates cannot be used; those before stay", mistakes=error.mistakes)  # noqa: TRY400
                return False
            self._retry_at = None
            self._newest.context = context
            self._reloads.add(1)
            log.info("certificates were read anew", certificate_file=str(self._certificate_file))
            return True

    def _files(self) -> list[Path]:
        files = (self._certificate_file, self._settings.tls_key_file, self._settings.tls_client_ca_file)
        return [file for file in files if file is not None]

    def _signatures(self) -> _Signature:
        """What differs once a file, or what its symbolic links lead to, was changed, replaced or made readable."""
        found: list[tuple[int, ...] | None] = []
        for file in self._files():
            try:
                at = file.stat()
                found.append((at.st_dev, at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
            except OSError:
                found.append(None)
        return tuple(found)

    def _settled(self, signatures: _Signature) -> _Signature:
        """Certificate and key are two files: wait until nobody writes any more."""
        for _ in range(_SETTLE_TRIES):
            time.sleep(_SETTLE_SECONDS)
            again = self._signatures()
            if again == signatures:
                break
            signatures = again
        return signatures

    def _load(self) -> ssl.SSLContext:
        chain, authorities, found = _judge(self._settings)
        if found.mistakes:
            raise SettingsError(found.mistakes)
        try:
            context = _context(self._settings, self._certificate_file)
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise SettingsError([f"TLS: OpenSSL refuses {self._certificate_file} or its key: {reason}"]) from error
        self._warn(found.warnings)
        for whose, ends in (("server", chain[:1]), ("client_ca", authorities)):
            if ends:
                self._expiry.set(min(one.not_valid_after_utc for one in ends).timestamp(), {"certificate": whose})
        return context

    def _remind(self) -> None:
        """Expiry comes without a change of files: look once a day."""
        self._warn(_judge(self._settings)[2].warnings)

    def _warn(self, warnings: list[str]) -> None:
        for text in warnings:
            log.warning("certificates", problem=text)
        self._remind_at = time.monotonic() + _REMIND_SECONDS


@lru_cache(maxsize=1024)
def _subject(der: bytes) -> str | None:
    return der_subject(der) or None


def subject_of(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> str | None:
    """Subject of the certificate that the peer has shown and that was verified, as RFC 4514 text; None without one.

    Raises:
        ValueError: the handshake is not done yet.
    """
    if ssl_object is None or ssl_object.context.verify_mode == ssl.CERT_NONE:
        return None
    der = ssl_object.getpeercert(binary_form=True)
    if not der:
        return None
    try:
        return _subject(der)
    except ValueError:
        # OpenSSL reads certificates that cryptography does not, such as ones with a negative serial number.
        names = (ssl_object.getpeercert() or {}).get("subject", ())
        escaped = str.maketrans({c: f"\\{c}" for c in '\\"+,;<>'})
        return ",".join("+".join(f"{k}={v.translate(escaped)}" for k, v in part) for part in reversed(names)) or None
