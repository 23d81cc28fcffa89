"""Whether the destinations can be reached, are who they should be, and give us a token."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from weir.ops.settings import ServiceSettings
from weir.tools.doctor.finding import Finding, failed, good, skipped

__all__ = ["examine"]

_AREA = "destinations"
_SECONDS = 5.0


def examine(services: Mapping[str, ServiceSettings]) -> list[Finding]:
    """Each configured sink's destination: name, connection, certificate, credential. Nothing is written there."""
    findings: list[Finding] = []
    sentinel: Any = services.get("sink.sentinel")
    adx: Any = services.get("sink.adx")
    siem: Any = services.get("sink.siem")
    if sentinel is not None:
        findings.append(_url("Sentinel", sentinel.sentinel_endpoint, sentinel.sentinel_ca_file))
        findings.append(_token("Sentinel", sentinel, "sentinel", "https://monitor.azure.com/.default"))
    if adx is not None:
        for what, url in (("ADX ingestion", adx.adx_ingest_url), ("ADX engine", adx.adx_engine_url)):
            findings.append(_url(what, url, None))
        if adx.adx_auth == "none":
            findings.append(skipped(_AREA, "ADX credential", "WEIR_ADX_AUTH is none: for an emulator on this machine"))
        else:
            findings.append(_token("ADX", adx, "adx", f"{adx.adx_engine_url.rstrip('/')}/.default"))
    if siem is not None:
        findings.append(_siem(siem))
    return findings or [skipped(_AREA, "all", "no sink is configured here")]


def _url(what: str, url: str, ca_file: Path | None) -> Finding:
    parts = urlsplit(url)
    try:
        context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
    except (OSError, ValueError) as error:
        return _unreadable(what, f"{ca_file}", error)
    return _reach(
        what, parts.hostname or "", parts.port or (443 if context else 80), context, "the CA file setting, or SSL_CERT_FILE"
    )


def _siem(siem: Any) -> Finding:
    context = None
    file = siem.siem_ca_file
    try:
        if siem.siem_transport == "tls":
            context = ssl.create_default_context(cafile=file)
            if siem.siem_certificate_file is not None:
                file = siem.siem_certificate_file
                # An encrypted key is refused: OpenSSL would ask on the terminal, and wait there.
                context.load_cert_chain(file, siem.siem_key_file, password="")
    except (OSError, ValueError) as error:
        return _unreadable("SIEM", f"{file}", error)
    return _reach("SIEM", siem.siem_host, siem.siem_port, context, "WEIR_SIEM_CA_FILE")


def _unreadable(what: str, file: str, error: Exception) -> Finding:
    told = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return failed(_AREA, what, f"{file} cannot be used: {told}", "it must hold PEM, and a certificate its own key, not encrypted")


def _reach(what: str, host: str, port: int, context: ssl.SSLContext | None, trust: str) -> Finding:
    begun = time.monotonic()
    try:
        with socket.create_connection((host, port), _SECONDS) as plain:
            if context is None:
                return good(
                    _AREA, what, f"{host}:{port} accepts connections ({(time.monotonic() - begun) * 1000:.0f} ms), without TLS"
                )
            with context.wrap_socket(plain, server_hostname=host) as tls:
                return good(
                    _AREA, what, f"{host}:{port}: {tls.version()}, certificate trusted ({(time.monotonic() - begun) * 1000:.0f} ms)"
                )
    except socket.gaierror as error:
        return failed(
            _AREA,
            what,
            f"{host} cannot be resolved: {error.strerror}",
            "a typing error, or DNS (Private Link needs its private zone)",
        )
    except ssl.SSLCertVerificationError as error:
        return failed(
            _AREA,
            what,
            f"{host}:{port}: its certificate is not trusted: {error.verify_message}",
            f"an inspecting proxy? Name its CA by {trust}",
        )
    except TimeoutError:
        return failed(
            _AREA, what, f"{host}:{port}: no answer within {_SECONDS:.0f} s", "a firewall on the way, or the wrong address"
        )
    except OSError as error:
        return failed(_AREA, what, f"{host}:{port}: {error.strerror or error}", "is it up, and does it speak TLS where we do?")


def _token(what: str, settings: Any, prefix: str, scope: str) -> Finding:
    from weir.sinks.credentials import make_credential  # noqa: PLC0415 - half a second of Azure libraries

    secret = getattr(settings, f"{prefix}_client_secret")
    auth = getattr(settings, f"{prefix}_auth")
    try:
        credential = make_credential(
            "client-secret" if auth == "app-key" else auth,
            token_file=getattr(settings, f"{prefix}_token_file"),
            tenant_id=getattr(settings, f"{prefix}_tenant_id"),
            client_id=getattr(settings, f"{prefix}_client_id"),
            client_secret=secret.get_secret_value() if secret is not None else None,
        )
        token = credential.get_token(scope)
    except Exception as error:  # the libraries raise many kinds
        # The first line says it; what follows is a page of everything that was tried.
        told = (str(error).splitlines() or [type(error).__name__])[0]
        return failed(
            _AREA,
            f"{what} credential",
            f"no token by {auth}: {told}",
            f"see the WEIR_{prefix.upper()}_AUTH, _TENANT_ID, _CLIENT_ID settings",
        )
    minutes = max(0, round((token.expires_on - time.time()) / 60))
    return good(
        _AREA,
        f"{what} credential",
        f"a token by {auth}, valid for {minutes} minutes; whether its roles suffice shows when rows arrive",
    )
