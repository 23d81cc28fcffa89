"""TLS for ports that listen: settings, context, and the name in a client's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from pydantic import Field, SecretStr

from weir.ops.settings import ServiceSettings

__all__ = ["ServerTls", "TlsSettings", "subject_of"]


class TlsSettings(ServiceSettings):
    """What every service that listens with TLS reads; one identity for all its ports."""

    tls_certificate_file: Path | None = Field(
        None, description="certificate chain of this service, PEM; without it no port speaks TLS"
    )
    tls_key_file: Path | None = Field(None, description="private key, PEM (PKCS#8 or traditional)")
    tls_key_password: SecretStr | None = Field(None, description="password of an encrypted private key")
    tls_client_ca_file: Path | None = Field(None, description="certificate authorities of clients, PEM")
    tls_client_certificates: str = Field(
        "none", pattern="^(none|optional|required)$", description="whether clients must present a certificate"
    )
    tls_minimum_version: str = Field("1.2", pattern=r"^1\.[23]$", description="lowest TLS version spoken")


class ServerTls:
    """A server's TLS, made from settings.

    Raises:
        OSError, ssl.SSLError: a file cannot be read or does not fit.
    """

    def __init__(self, settings: TlsSettings) -> None:
        if settings.tls_certificate_file is None:
            raise ValueError("WEIR_TLS_CERTIFICATE_FILE is not set")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2 if settings.tls_minimum_version == "1.2" else ssl.TLSVersion.TLSv1_3
        password = settings.tls_key_password.get_secret_value() if settings.tls_key_password else None
        context.load_cert_chain(settings.tls_certificate_file, settings.tls_key_file, password)
        if settings.tls_client_certificates != "none":
            context.verify_mode = ssl.CERT_REQUIRED if settings.tls_client_certificates == "required" else ssl.CERT_OPTIONAL
            context.load_verify_locations(settings.tls_client_ca_file)
        self.context = context

    @classmethod
    def of(cls, settings: TlsSettings) -> ServerTls | None:
        """The TLS that the settings ask for; None where no certificate is set."""
        return None if settings.tls_certificate_file is None else cls(settings)


def subject_of(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> str | None:
    """Subject of the certificate that the peer has shown and that was verified, as RFC 4514 text; None without one."""
    certificate = ssl_object.getpeercert() if ssl_object is not None else None
    if not certificate:
        return None
    names = certificate.get("subject", ())
    return ",".join("+".join(f"{key}={value}" for key, value in part) for part in reversed(names)) or None
