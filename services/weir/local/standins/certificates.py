"""An own certificate authority, with server and client certificates for this machine only.

Azure's SDKs refuse to send a bearer token over plain http, so the stand-ins need TLS that a client can be told to trust.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509

from weir.ops.certificates import issued_by
from weir.tools.certs import certificate_pem, key_pem, make_authority, make_client, make_server, write_file

__all__ = ["VALID_FOR", "CertificateFiles", "ensure_certificates"]

VALID_FOR = timedelta(days=30)
_RENEW_BEFORE = timedelta(days=1)
_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Paths of what `ensure_certificates` wrote; keys are readable by their owner only.

    `bundle` is certifi's public authorities plus ours: the file for REQUESTS_CA_BUNDLE and SSL_CERT_FILE of a process
    that talks to the stand-ins and to the world.
    """

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    bundle: Path

    def server_context(self, *, client_certificate: bool = False) -> ssl.SSLContext:
        """TLS 1.2 or later, as Azure; with `client_certificate` the peer must present one of ours."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.server, self.server_key)
        if client_certificate:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self, *, client_certificate: bool = False) -> ssl.SSLContext:
        """Trusts our authority only; with `client_certificate` presents the client's."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if client_certificate:
            context.load_cert_chain(self.client, self.client_key)
        return context


def ensure_certificates(directory: Path) -> CertificateFiles:
    """Write an authority and its certificates into `directory`, or reuse them while all are valid for more than a day.

    Keys are EC P-256. The authority's key is not kept: a renewal makes a new authority, so nothing on disk can sign.
    """
    files = CertificateFiles(
        ca=directory / "ca.pem",
        server=directory / "server.pem",
        server_key=directory / "server.key",
        client=directory / "client.pem",
        client_key=directory / "client.key",
        bundle=directory / "bundle.pem",
    )
    if not _still_good(files):
        directory.mkdir(parents=True, exist_ok=True)
        _write_all(files)
    return files


def _still_good(files: CertificateFiles) -> bool:
    keys = (files.server_key, files.client_key, files.bundle)
    if not all(path.is_file() for path in keys):
        return False
    horizon = datetime.now(UTC) + _RENEW_BEFORE
    try:
        certificates = [x509.load_pem_x509_certificate(path.read_bytes()) for path in (files.ca, files.server, files.client)]
    except (OSError, ValueError):
        return False
    authority, *issued = certificates
    # A half-written renewal must not be reused.
    if not all(issued_by(certificate, authority) for certificate in issued):
        return False
    return all(certificate.not_valid_after_utc > horizon for certificate in certificates)


def _write_all(files: CertificateFiles) -> None:
    authority = make_authority("Weir local stand-ins", valid_for=VALID_FOR)
    server = make_server(authority, _NAMES, valid_for=VALID_FOR)
    client = make_client(authority, "weir", valid_for=VALID_FOR)
    for path, key_path, pair in ((files.server, files.server_key, server), (files.client, files.client_key, client)):
        write_file(path, certificate_pem(pair.certificate), private=False)
        write_file(key_path, key_pem(pair.key), private=True)
    pem = certificate_pem(authority.certificate)
    write_file(files.ca, pem, private=False)
    write_file(files.bundle, Path(certifi.where()).read_bytes().rstrip(b"\n") + b"\n" + pem, private=False)
