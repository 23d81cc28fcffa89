"""An own certificate authority, with server and client certificates for this machine only.

Azure's SDKs refuse to send a bearer token over plain http, so the stand-ins need TLS that a client can be told to trust.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["VALID_FOR", "CertificateFiles", "ensure_certificates"]

VALID_FOR = timedelta(days=30)
_RENEW_BEFORE = timedelta(days=1)
_LOCAL_NAMES = ("localhost",)
_LOCAL_ADDRESSES = ("127.0.0.1", "::1")


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
        authority, *issued = certificates
        for certificate in issued:
            certificate.verify_directly_issued_by(authority)  # a half-written renewal must not be reused
    except (OSError, ValueError, TypeError) as _:
        return False
    except Exception:  # cryptography raises InvalidSignature, which has no common base with the above
        return False
    return all(certificate.not_valid_after_utc > horizon for certificate in certificates)


def _write_all(files: CertificateFiles) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("Weir local stand-ins")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificate_sign=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    for path, key_path, name, purpose in (
        (files.server, files.server_key, "localhost", ExtendedKeyUsageOID.SERVER_AUTH),
        (files.client, files.client_key, "weir", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(name), authority_name, key.public_key(), authority_key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(certificate_sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(_alternative_names(), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(
            key_path,
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
            0o600,
        )
    pem = authority.public_bytes(serialization.Encoding.PEM)
    _write(files.ca, pem, 0o644)
    _write(files.bundle, Path(certifi.where()).read_bytes().rstrip(b"\n") + b"\n" + pem, 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    # Opened with its final mode, so that a key is never readable by others, not even for a moment.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_names() -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in _LOCAL_NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _LOCAL_ADDRESSES]
    return x509.SubjectAlternativeName(names)


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALID_FOR)
        # Both key identifiers: Python 3.13 verifies strictly (VERIFY_X509_STRICT) and refuses a chain without them.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
