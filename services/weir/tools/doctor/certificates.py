"""The certificate that receivers show, and how long it lasts."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from weir.ops.certificates import SOON, fits, name_text, read_certificates, read_key
from weir.ops.settings import ServiceSettings
from weir.tools.doctor.finding import Finding, failed, good, skipped, warning
from weir.tools.doctor.machine import Listener

__all__ = ["examine"]

_AREA = "certificates"
_MAKE = "`weir certs` makes a CA, server and client certificates"


def examine(
    services: Mapping[str, ServiceSettings],
    ports: list[Listener],
    target: Callable[[Listener], str],
    now: datetime | None = None,
) -> list[Finding]:
    """The configured certificates, and a handshake with each TLS port; `target` says on which host."""
    now = now or datetime.now(UTC)
    findings: list[Finding] = []
    seen: set[Path] = set()
    for service, settings in services.items():
        file: Path | None = getattr(settings, "tls_certificate_file", None)
        if file is not None and file not in seen:
            seen.add(file)
            findings += _files(service, file, getattr(settings, "tls_key_file", None), settings, now)
    if not seen:
        findings.append(
            skipped(
                _AREA, "receivers", f"no service that would start has WEIR_TLS_CERTIFICATE_FILE, so no port speaks TLS; {_MAKE}"
            )
        )
    findings += [_handshake(one, target(one)) for one in ports if one.tls]
    return findings


def _files(service: str, file: Path, key: Path | None, settings: ServiceSettings, now: datetime) -> list[Finding]:
    try:
        leaf = read_certificates(file)[0]
    except ValueError as error:
        return [failed(_AREA, str(file), str(error), f"it must hold PEM certificates, the server's first; {_MAKE}")]
    findings = [_validity(str(file), leaf, now)]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        told = [str(name.value) for name in names]
        findings.append(good(_AREA, "names", f"valid for {', '.join(told)}"))
    except x509.ExtensionNotFound:
        findings.append(warning(_AREA, "names", "no subject alternative name: today's clients refuse it", _MAKE))
    if key is not None:
        findings.append(_key(service, key, leaf, settings))
    return findings


def _validity(name: str, leaf: x509.Certificate, now: datetime) -> Finding:
    ends, begins = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    days = (ends - now).days
    if ends <= now:
        return failed(_AREA, name, f"expired on {ends:%Y-%m-%d}", "put a new one in its place: receivers take it without a restart")
    if begins > now:
        return failed(_AREA, name, f"not valid before {begins:%Y-%m-%d %H:%M} UTC", "is this host's clock right?")
    if ends - now < SOON:
        return warning(_AREA, name, f"expires in {days} days", "put a new one in its place: receivers take it without a restart")
    return good(_AREA, name, f"{name_text(leaf.subject)}, valid for {days} days more")


def _key(service: str, key: Path, leaf: x509.Certificate, settings: ServiceSettings) -> Finding:
    secret = getattr(settings, "tls_key_password", None)
    try:
        ours = read_key(key, secret.get_secret_value() if secret is not None else None)
    except ValueError as error:
        return failed(_AREA, str(key), str(error), f"{service} needs it readable, and WEIR_TLS_KEY_PASSWORD where encrypted")
    if not fits(leaf, ours):
        return failed(_AREA, str(key), "is not the key of that certificate", "name the pair that belongs together")
    if key.stat().st_mode & 0o077:
        return warning(_AREA, str(key), f"may be read by others (mode {key.stat().st_mode & 0o777:o})", f"chmod 600 {key}")
    return good(_AREA, str(key), "belongs to the certificate")


def _handshake(listener: Listener, host: str) -> Finding:
    name = f"TLS on {listener.port}"
    context = ssl.create_default_context()
    # Which authority signed it is not the question here, but what the port shows and until when.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, listener.port), 3.0) as plain, context.wrap_socket(plain) as tls:
            shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
            return good(
                _AREA, name, f"{tls.version()}, shows {name_text(shown.subject)} until {shown.not_valid_after_utc:%Y-%m-%d}"
            )
    except ConnectionRefusedError:
        return skipped(_AREA, name, "nothing listens there now")
    except (OSError, ValueError) as error:
        return failed(
            _AREA, name, f"no handshake: {error}", "is it Weir that listens there, and was it started with these settings?"
        )
