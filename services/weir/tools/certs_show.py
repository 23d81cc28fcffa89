"""What is in certificate and key files: whose, for which names, until when, and whether one leads to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from weir.ops.certificates import SOON, fits, issued_by, name_text, read_certificates, read_key, serves

__all__ = ["Shown", "examine"]

_LONGEST_CHAIN = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """One certificate or key of a file. `problem` is what makes it useless; `chain` the way to a root, or where that ends."""

    file: str
    what: str
    """certificate, authority or key"""
    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    key: str = ""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    days_left: int | None = None
    chain: str = ""
    sha256: str = ""
    problem: str | None = None
    warning: str | None = None


def _key_text(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return type(key).__name__.removesuffix("PublicKey")
    return type(key).__name__


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name_text(one.value) if isinstance(one.value, x509.Name) else str(one.value) for one in names)


def _chain(certificate: x509.Certificate, known: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> tuple[str, bool]:
    """The way up, and whether it leads to a root that is trusted (or, where none are given, to any)."""
    way: list[str] = []
    at = certificate
    for _ in range(_LONGEST_CHAIN):
        if at in roots:
            return " ← ".join(way) or "trusted", True
        if issued_by(at, at):
            return " ← ".join(way) or "self-signed", not roots
        upper = next((one for one in (*roots, *known) if one != at and issued_by(at, one)), None)
        if upper is None:
            namesake = any(one.subject == at.issuer for one in (*roots, *known))
            reason = "has not signed it" if namesake else "is not among the files"
            return " ← ".join([*way, f"{name_text(at.issuer)} {reason}"]), not roots and not namesake
        if not _is_authority(upper):
            return " ← ".join([*way, f"{name_text(upper.subject)} is no authority"]), False
        way.append(name_text(upper.subject))
        at = upper
    return " ← ".join([*way, "…"]), False


def _certificate(
    file: Path, one: x509.Certificate, known: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime
) -> Shown:
    begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
    chain, good = _chain(one, known, roots)
    problem = warning = None
    if ends <= now:
        problem = "expired"
    elif begins > now:
        problem = "not valid yet"
    elif not good:
        problem = "does not verify"
    elif ends - now < SOON:
        warning = "expires soon"
    elif serves(one) and not _is_authority(one) and not _names(one):
        warning = "no alternative name: most clients refuse such a server"
    return Shown(
        file=str(file),
        what="authority" if _is_authority(one) else "certificate",
        subject=name_text(one.subject),
        issuer=name_text(one.issuer),
        names=_names(one),
        key=_key_text(one.public_key()),
        valid_from=begins,
        valid_until=ends,
        days_left=(ends - now).days,
        chain=chain,
        sha256=one.fingerprint(hashes.SHA256()).hex(),
        problem=problem,
        warning=warning,
    )


def _key(file: Path, key: PrivateKeyTypes, certificates: Sequence[x509.Certificate]) -> Shown:
    owner = next((one for one in certificates if fits(one, key)), None)
    mode = file.stat().st_mode & 0o777
    return Shown(
        file=str(file),
        what="key",
        subject=name_text(owner.subject) if owner is not None else "",
        key=_key_text(key.public_key()),
        problem="belongs to none of the certificates" if owner is None and certificates else None,
        warning=f"may be read by others (mode {mode:o})" if mode & 0o077 else None,
    )


def examine(
    files: Sequence[Path], *, authorities: Sequence[Path] = (), password: str | None = None, now: datetime | None = None
) -> list[Shown]:
    """What is in the files, in their order.

    Args:
        files: PEM or DER certificates, PEM keys, or both in one.
        authorities: files of roots to verify by; without any, a chain may end at any root, or where the files end.
        password: of encrypted keys.

    Raises:
        ValueError: a file cannot be read; the message names it.
    """
    now = now or datetime.now(UTC)
    roots = [one for file in authorities for one in read_certificates(file)]
    found: dict[Path, tuple[list[x509.Certificate], PrivateKeyTypes | None]] = {}
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ValueError(f"{file}: cannot be read: {error.strerror}") from error
        has_key = b"PRIVATE KEY-----" in content
        only_key = has_key and b"BEGIN CERTIFICATE" not in content
        found[file] = ([] if only_key else read_certificates(file), read_key(file, password) if has_key else None)
    known = [one for certificates, _ in found.values() for one in certificates]
    shown: list[Shown] = []
    for file, (certificates, key) in found.items():
        shown += [_certificate(file, one, known, roots, now) for one in certificates]
        if key is not None:
            shown.append(_key(file, key, known))
    return shown
