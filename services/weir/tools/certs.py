"""An own certificate authority, with certificates for receivers and for those who send to them.

For sites without a PKI, and for trying things. The authority issues directly (path length 0); its key stays where it was made and
belongs into a safe. Subject and authority key identifiers, key usage and purposes are set, since Python 3.13, Go and Java verify
strictly.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from weir.ops.certificates import fits, read_certificates, read_key

__all__ = [
    "CertsError",
    "KeyForm",
    "KeyKind",
    "Pair",
    "certificate_pem",
    "file_stem",
    "key_pem",
    "make_authority",
    "make_client",
    "make_server",
    "read_authority",
    "write_file",
]

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_BACKDATED = timedelta(hours=1)
_LONGEST_COMMON_NAME = 64  # RFC 5280, appendix A: ub-common-name
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class CertsError(ValueError):
    """What was asked for cannot be done; the message says why and what to do."""


class KeyKind(enum.StrEnum):
    """Kinds of keys: EC is P-256."""

    EC = "ec"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


class KeyForm(enum.StrEnum):
    """How a key is written: PKCS#8 (RFC 5958), or the older form of its own kind, which old forwarders want."""

    PKCS8 = "pkcs8"
    TRADITIONAL = "traditional"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: Key


def _make_key(kind: KeyKind) -> Key:
    if kind is KeyKind.EC:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65_537, key_size=int(kind.value.partition("-")[2]))


def _name(common_name: str, organization: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    if len(common_name) <= _LONGEST_COMMON_NAME:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _host(text: str) -> str | None:
    """A host name in ASCII, perhaps with a wildcard as its first label; None for what is none."""
    rest = text.removeprefix("*.").removesuffix(".")
    try:
        ascii_name = rest.encode("idna").decode("ascii") if not rest.isascii() else rest
    except UnicodeError:
        return None
    if len(ascii_name) > 253 or not all(_LABEL.fullmatch(label) for label in ascii_name.split(".")):
        return None
    return ("*." if text.startswith("*.") else "") + ascii_name


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _usage(key: Key, *, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=not authority and isinstance(key, rsa.RSAPrivateKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(subject: x509.Name, key: Key, issuer: x509.Name, issuer_key: Key, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of senders go wrong.
        .not_valid_before(datetime.now(UTC) - _BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def make_authority(
    name: str, *, kind: KeyKind = KeyKind.EC, valid_for: timedelta = timedelta(days=3650), organization: str | None = None
) -> Pair:
    """A self-signed authority. Raises CertsError where its name is longer than 64 characters."""
    if not name or len(name) > _LONGEST_COMMON_NAME:
        raise CertsError(f"{name!r}: the name of an authority has 1 to {_LONGEST_COMMON_NAME} characters")
    key = _make_key(kind)
    subject = _name(name, organization)
    builder = _builder(subject, key, subject, key, datetime.now(UTC) + valid_for)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return Pair(builder.add_extension(_usage(key, authority=True), critical=True).sign(key, hashes.SHA256()), key)


def _issue(
    authority: Pair,
    subject: x509.Name,
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    kind: KeyKind,
    valid_for: timedelta,
) -> Pair:
    key = _make_key(kind)
    # None outlives its authority: it would be refused from then on, and nobody would know why.
    ends = min(datetime.now(UTC) + valid_for, authority.certificate.not_valid_after_utc)
    builder = _builder(subject, key, authority.certificate.subject, authority.key, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(key, authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        # Critical where there is no subject (RFC 5280, 4.2.1.6).
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not list(subject))
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def make_server(
    authority: Pair,
    names: Sequence[str],
    *,
    kind: KeyKind = KeyKind.EC,
    valid_for: timedelta = timedelta(days=825),
    organization: str | None = None,
) -> Pair:
    """A server's certificate for host names, wildcards ("*.example.net") and addresses; the first is its common name, too.

    Raises:
        CertsError: none are given, or one is neither.
    """
    if not names:
        raise CertsError("a server needs at least one name or address by which its senders call it")
    general: list[x509.GeneralName] = []
    for text in dict.fromkeys(names):
        if (address := _address(text)) is not None:
            general.append(x509.IPAddress(address))
        elif (host := _host(text)) is not None:
            general.append(x509.DNSName(host))
        else:
            raise CertsError(f"{text!r} is neither a host name nor an address")
    subject = _name(str(general[0].value), organization)
    return _issue(authority, subject, general, ExtendedKeyUsageOID.SERVER_AUTH, kind, valid_for)


def make_client(
    authority: Pair,
    name: str,
    *,
    kind: KeyKind = KeyKind.EC,
    valid_for: timedelta = timedelta(days=825),
    organization: str | None = None,
) -> Pair:
    """A sender's certificate; its name becomes the common name, and an alternative name where it is a host name or an address.

    Raises:
        CertsError: the name is empty or longer than 64 characters.
    """
    if not name.strip() or len(name) > _LONGEST_COMMON_NAME:
        raise CertsError(f"{name!r}: the name of a client has 1 to {_LONGEST_COMMON_NAME} characters")
    general: list[x509.GeneralName] = []
    if (address := _address(name)) is not None:
        general.append(x509.IPAddress(address))
    elif (host := _host(name)) is not None:
        general.append(x509.DNSName(host))
    return _issue(authority, _name(name, organization), general, ExtendedKeyUsageOID.CLIENT_AUTH, kind, valid_for)


# Files


def certificate_pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as PEM, one after the other."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def key_pem(key: Key, form: KeyForm = KeyForm.PKCS8, password: str | None = None) -> bytes:
    """A private key as PEM, encrypted where there is a password."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8 if form is KeyForm.PKCS8 else serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption(),
    )


def file_stem(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name.replace("*", "wildcard")).lstrip(".-") or "unnamed"


def write_file(path: Path, content: bytes, *, private: bool) -> None:
    """Write a file whole or not at all; a private one is never readable by others, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    mode = 0o600 if private else 0o644
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    # A service that watches the file sees the old one or the new one.
    temporary.replace(path)


def read_authority(directory: Path, password: str | None) -> Pair:
    """The authority in ca.pem and ca.key of a directory.

    Raises:
        CertsError: it is not there, or the key cannot be read with this password.
    """
    try:
        certificate = read_certificates(directory / "ca.pem")[0]
        key = read_key(directory / "ca.key", password)
    except ValueError as error:
        raise CertsError(f"{error}; `weir certs init` or `weir certs ca` makes an authority") from error
    if not isinstance(key, Key) or not fits(certificate, key):
        raise CertsError(f"{directory / 'ca.key'} is not the key of {directory / 'ca.pem'}")
    return Pair(certificate, key)
