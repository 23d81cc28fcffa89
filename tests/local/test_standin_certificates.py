"""The stand-ins' certificates: trusted by those who are told to, renewed in time, keys kept private."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest
from cryptography import x509

from weir.local.standins import certificates
from weir.local.standins.certificates import CertificateFiles, ensure_certificates


async def _greet(files: CertificateFiles, host: str, client: ssl.SSLContext, *, need_client: bool = False) -> bytes:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(answer, host, 0, ssl=files.server_context(client_certificate=need_client))
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(host, port, ssl=client)
        try:
            return await reader.read()
        finally:
            writer.close()


def test_a_client_that_trusts_our_authority_connects_by_address_and_by_name(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path)
    for host in ("127.0.0.1", "localhost"):
        assert asyncio.run(_greet(files, host, files.client_context())) == b"hello"


def test_the_chain_holds_under_strict_verification(tmp_path: Path) -> None:
    """Python 3.13 verifies strictly by default; earlier ones are told to here."""
    files = ensure_certificates(tmp_path)
    context = files.client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert asyncio.run(_greet(files, "127.0.0.1", context)) == b"hello"


def test_a_client_that_trusts_the_public_authorities_only_is_refused(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(_greet(files, "127.0.0.1", ssl.create_default_context(cafile=certifi.where())))


def test_the_bundle_holds_the_public_authorities_and_ours(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path)
    public, bundle = Path(certifi.where()).read_text(), files.bundle.read_text()
    assert bundle.count("BEGIN CERTIFICATE") == public.count("BEGIN CERTIFICATE") + 1
    context = ssl.create_default_context(cafile=str(files.bundle))
    assert asyncio.run(_greet(files, "127.0.0.1", context)) == b"hello"


def test_a_client_certificate_is_accepted_where_one_is_demanded(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path)
    context = files.client_context(client_certificate=True)
    assert asyncio.run(_greet(files, "127.0.0.1", context, need_client=True)) == b"hello"


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path)
    assert [path.stat().st_mode & 0o777 for path in (files.server_key, files.client_key)] == [0o600, 0o600]


def test_certificates_are_reused_while_valid_for_more_than_a_day(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path)
    before = files.server.read_bytes()
    assert ensure_certificates(tmp_path).server.read_bytes() == before
    end = x509.load_pem_x509_certificate(before).not_valid_after_utc
    assert timedelta(days=29) < end - datetime.now(UTC) <= timedelta(days=30)


def test_certificates_are_renewed_before_their_last_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "VALID_FOR", timedelta(hours=23))
    before = ensure_certificates(tmp_path).server.read_bytes()
    monkeypatch.undo()
    assert ensure_certificates(tmp_path).server.read_bytes() != before


@pytest.mark.parametrize("damage", ["missing", "garbage", "other authority"])
def test_a_damaged_directory_is_repaired(tmp_path: Path, damage: str) -> None:
    files = ensure_certificates(tmp_path / "here")
    if damage == "missing":
        files.bundle.unlink()
    elif damage == "garbage":
        files.server.write_text("not a certificate")
    else:
        files.ca.write_bytes(ensure_certificates(tmp_path / "there").ca.read_bytes())
    files = ensure_certificates(tmp_path / "here")
    assert asyncio.run(_greet(files, "127.0.0.1", files.client_context())) == b"hello"
