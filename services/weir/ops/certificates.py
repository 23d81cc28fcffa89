"""Reading and judging certificates: names as text, keys that fit, chains, validity."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "SOON",
    "Judgement",
    "der_subject",
    "fits",
    "issued_by",
    "judge_authorities",
    "judge_identity",
    "judge_validity",
    "name_text",
    "read_certificates",
    "read_key",
    "serves",
]

SOON = timedelta(days=21)
"""A certificate that ends earlier is worth a warning."""

_KEY = re.compile(rb"-----BEGIN ([A-Z]+ )*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)

# Short names registered with IANA for LDAP (RFC 4519, RFC 2985); RFC 4514 section 3 makes only some of them mandatory, and those
# `cryptography` knows already. OpenSSL writes the same.
_SHORT = {
    NameOID.SURNAME: "sn",
    NameOID.GIVEN_NAME: "givenName",
    NameOID.TITLE: "title",
    NameOID.INITIALS: "initials",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.POSTAL_ADDRESS: "postalAddress",
    NameOID.BUSINESS_CATEGORY: "businessCategory",
    NameOID.EMAIL_ADDRESS: "emailAddress",
}


@dataclass(slots=True)
class Judgement:
    """What is wrong: mistakes make a file unusable, warnings do not. One sentence each."""

    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# Names


def _skip(der: bytes, whole: bool) -> bytes:
    """What follows the header of a DER value, or the whole value where `whole`. Lengths up to 2**32 (X.690, 8.1.3)."""
    length, at = der[1], 2
    if length & 0x80:
        at += length & 0x7F
        length = int.from_bytes(der[2:at], "big")
    return der[at + length :] if whole else der[at:]


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> str:
    if "." not in (known := attribute.rfc4514_string(_SHORT).partition("=")[0]) and isinstance(attribute.value, str):
        text = attribute.rfc4514_string(_SHORT).partition("=")[2]
        # Also allowed to stand as it is, but a line break in a name has no business in a log or a catalogue.
        return f"{known}=" + "".join(c if c >= " " and c != "\x7f" else f"\\{ord(c):02X}" for c in text)
    # A type without a registered short name: its number, and the value as '#' and its BER in hexadecimal (RFC 4514, 2.4).
    value = x509.Name([attribute]).public_bytes()
    for _ in range(3):  # SEQUENCE of SET of SEQUENCE of type and value
        value = _skip(value, whole=False)
    return f"{attribute.oid.dotted_string}=#{_skip(value, whole=True).hex()}"


def name_text(name: x509.Name) -> str:
    """A distinguished name as RFC 4514 text: the last RDN first, short attribute names, escaped values; "" for an empty one."""
    return ",".join("+".join(_attribute(attribute) for attribute in rdn) for rdn in reversed(name.rdns))


def der_subject(der: bytes) -> str:
    """Subject of a certificate in DER, as RFC 4514 text. Raises ValueError for what is no certificate."""
    return name_text(x509.load_der_x509_certificate(der).subject)


# Files


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file, or the one in a DER file.

    Raises:
        ValueError: it cannot be read or holds none; the message names the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        reason = str(error).partition(". See ")[0]  # an address to look it up follows
        raise ValueError(f"{path}: holds no certificate that can be read: {reason}") from error


def read_key(path: Path, password: str | None) -> PrivateKeyTypes:
    """The private key in a PEM file, PKCS#8 or traditional; certificates beside it do no harm.

    Raises:
        ValueError: it cannot be read, or not with this password; the message names the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; may the user of this service read it?") from error
    if (block := _KEY.search(content)) is None:
        raise ValueError(f"{path}: holds no private key in PEM")
    encrypted = b"ENCRYPTED" in block[0]
    if encrypted and not password:
        raise ValueError(f"{path}: the key is encrypted, and no password is set")
    try:
        return serialization.load_pem_private_key(block[0], password.encode() if encrypted and password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "the password is not that of the key, or the key is damaged" if encrypted else f"the key cannot be read: {error}"
        raise ValueError(f"{path}: {reason}") from error


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fits(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    """Whether the private key belongs to the certificate."""
    return _public(key.public_key()) == _public(certificate.public_key())


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's name and signature are on the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


# Judging


def judge_validity(what: str, certificate: x509.Certificate, now: datetime | None = None) -> list[str]:
    """A warning where the certificate is not valid now, or not much longer."""
    now = now or datetime.now(UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= now:
        return [f"{what}: {name_text(certificate.subject)} expired on {ends:%Y-%m-%d %H:%M} UTC"]
    if begins > now:
        return [f"{what}: {name_text(certificate.subject)} is not valid before {begins:%Y-%m-%d %H:%M} UTC; is the clock right?"]
    if ends - now < SOON:
        return [f"{what}: {name_text(certificate.subject)} expires on {ends:%Y-%m-%d %H:%M} UTC"]
    return []


def _has_names(certificate: x509.Certificate) -> bool:
    try:
        return bool(list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value))
    except (x509.ExtensionNotFound, ValueError):
        return False


def serves(certificate: x509.Certificate) -> bool:
    """Whether it was made for servers: its extended key usage, if any, says serverAuth."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def judge_identity(certificate_file: Path, key_file: Path | None, password: str | None) -> tuple[list[x509.Certificate], Judgement]:
    """A server's chain and key.

    An expired certificate is a warning: refusing it would make a restart cost those senders too that do not speak TLS.

    Returns:
        The chain (empty where it cannot be read), and what is wrong.
    """
    found = Judgement()
    chain: list[x509.Certificate] = []
    key: PrivateKeyTypes | None = None
    try:
        chain = read_certificates(certificate_file)
    except ValueError as error:
        found.mistakes.append(f"WEIR_TLS_CERTIFICATE_FILE: {error}")
    if key_file is None and chain and b"PRIVATE KEY-----" not in certificate_file.read_bytes():
        found.mistakes.append("WEIR_TLS_KEY_FILE is not set, and WEIR_TLS_CERTIFICATE_FILE holds no private key either")
    elif key_file is not None or chain:
        try:
            key = read_key(key_file or certificate_file, password)
        except ValueError as error:
            hint = "; set WEIR_TLS_KEY_PASSWORD" if "no password is set" in str(error) else ""
            found.mistakes.append(f"WEIR_TLS_KEY_FILE: {error}{hint}")
    if chain and key is not None and not fits(chain[0], key):
        own = next((number for number, one in enumerate(chain, 1) if fits(one, key)), None)
        if own is None:
            subject = name_text(chain[0].subject)
            found.mistakes.append(
                f"WEIR_TLS_KEY_FILE: {key_file or certificate_file} is not the key of {subject} in {certificate_file}"
            )
        else:
            found.mistakes.append(
                f"WEIR_TLS_CERTIFICATE_FILE: {certificate_file}: the server's own certificate must come first, but is number {own}"
            )
    if chain and not found.mistakes:
        _judge_chain(certificate_file, chain, found)
    return chain, found


def _judge_chain(file: Path, chain: list[x509.Certificate], found: Judgement) -> None:
    what = f"WEIR_TLS_CERTIFICATE_FILE: {file}"
    for one in chain:
        found.warnings += judge_validity(what, one)
    if not _has_names(chain[0]):
        found.warnings.append(f"{what}: no subject alternative name: most clients refuse it")
    if not serves(chain[0]):
        found.warnings.append(f"{what}: not made for servers (extended key usage lacks serverAuth): most clients refuse it")
    for number, (lower, upper) in enumerate(pairwise(chain), 1):
        if not issued_by(lower, upper):
            found.warnings.append(
                f"{what}: certificate {number + 1} has not issued certificate {number}: some clients will not find the chain"
            )
            break


def judge_authorities(file: Path) -> tuple[list[x509.Certificate], Judgement]:
    """The certificate authorities of clients: the list (empty where it cannot be read), and what is wrong."""
    found = Judgement()
    authorities: list[x509.Certificate] = []
    try:
        authorities = read_certificates(file)
    except ValueError as error:
        found.mistakes.append(f"WEIR_TLS_CLIENT_CA_FILE: {error}")
    for one in authorities:
        found.warnings += judge_validity(f"WEIR_TLS_CLIENT_CA_FILE: {file}", one)
    return authorities, found
