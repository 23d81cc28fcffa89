"""TLS of listening ports: settings judged whole, files followed while connections are open, names of clients."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.ops.tls_peers import authority, client_context, meet, put, put_client, put_server
from weir.ops import tls as tls_module
from weir.ops.certificates import name_text
from weir.ops.settings import SettingsError, load
from weir.ops.tls import ServerTls, TlsSettings, subject_of
from weir.tools.certs import KeyForm, KeyKind, certificate_pem, key_pem, make_authority, make_server

BOTH = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
NAMED = pytest.mark.parametrize("name", [None, "localhost"], ids=["without a server name", "with a server name"])


def settings(**values: Any) -> TlsSettings:
    return TlsSettings(kafka_bootstrap_servers="localhost:9092", **{f"tls_{name}": value for name, value in values.items()})


def mistakes(monkeypatch: pytest.MonkeyPatch, **values: object) -> str:
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    for name, value in values.items():
        monkeypatch.setenv(f"WEIR_TLS_{name.upper()}", str(value))
    with pytest.raises(SettingsError) as caught:
        load(TlsSettings)
    return "\n".join(caught.value.mistakes)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "_SETTLE_SECONDS", 0.001)


class Log:
    """What was logged, as text."""

    def __init__(self) -> None:
        self.text = ""

    def _say(self, event: str, **values: Any) -> None:
        self.text += f"{event} {values}\n"

    info = warning = error = _say


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    written = Log()
    monkeypatch.setattr(tls_module, "log", written)
    return written


# Settings


def test_without_a_certificate_there_is_no_tls() -> None:
    assert ServerTls.of(settings()) is None


def test_every_mistake_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = authority()
    server = tmp_path / "server.pem"
    server.write_bytes(certificate_pem(make_server(ca, ["a"]).certificate))
    other = tmp_path / "other.key"
    other.write_bytes(key_pem(make_server(ca, ["b"]).key))
    said = mistakes(monkeypatch, certificate_file=server, key_file=other, client_certificates="required")
    assert f"{other} is not the key of CN=a" in said
    assert "WEIR_TLS_CLIENT_CA_FILE does not name whose" in said


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("cert", None), "holds no private key either"),
        ((None, "key"), "but WEIR_TLS_CERTIFICATE_FILE is not"),
        (("cert", "garbage"), "holds no private key in PEM"),
        (("garbage", "key"), "holds no certificate that can be read"),
        (("cert", "encrypted"), "set WEIR_TLS_KEY_PASSWORD"),
        (("turned", "key"), "must come first, but is number 2"),
    ],
)
def test_files_that_do_not_work_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str | None, str | None], expected: str
) -> None:
    ca = authority()
    pair = make_server(ca, ["a"])
    contents = {
        "cert": certificate_pem(pair.certificate),
        "turned": certificate_pem(ca.certificate, pair.certificate),
        "key": key_pem(pair.key),
        "encrypted": key_pem(pair.key, password="secret"),
        "garbage": b"nothing",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    given = {f"{what}_file": tmp_path / name for what, name in zip(("certificate", "key"), files, strict=True) if name}
    assert expected in mistakes(monkeypatch, **given)


def test_a_wrong_password_is_named_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_server(authority(), ["a"])
    (tmp_path / "c").write_bytes(certificate_pem(pair.certificate))
    (tmp_path / "k").write_bytes(key_pem(pair.key, password="right"))
    said = mistakes(monkeypatch, certificate_file=tmp_path / "c", key_file=tmp_path / "k", key_password="wrongone")
    assert "the password is not that of the key" in said
    assert "wrongone" not in said


def test_client_certificates_without_tls_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no port speaks TLS" in mistakes(monkeypatch, client_certificates="optional")


@pytest.mark.parametrize("kind", [KeyKind.EC, KeyKind.RSA_2048])
@pytest.mark.parametrize("form", list(KeyForm))
@pytest.mark.parametrize("password", [None, "secret"])
def test_keys_of_each_kind_and_form_are_read(tmp_path: Path, kind: KeyKind, form: KeyForm, password: str | None) -> None:
    pair = make_server(authority(), ["localhost"], kind=kind)
    (tmp_path / "c").write_bytes(certificate_pem(pair.certificate))
    (tmp_path / "k").write_bytes(key_pem(pair.key, form, password))
    made = ServerTls(settings(certificate_file=tmp_path / "c", key_file=tmp_path / "k", key_password=password))
    assert meet(made.context, client_context()).shown == "CN=localhost"


def test_an_expired_certificate_is_used_and_complained_about(tmp_path: Path, log: Log) -> None:
    """A restart must not cost those senders that do not speak TLS."""
    ca = make_authority("Old CA", valid_for=timedelta(minutes=-5))
    made = ServerTls(settings(certificate_file=put_server(tmp_path, ca)))
    assert meet(made.context, client_context()).shown == "CN=localhost"
    assert "expired on" in log.text


def test_a_chain_out_of_order_and_authorities_that_nobody_asks_are_complained_about(tmp_path: Path, log: Log) -> None:
    pair = make_server(authority(), ["a"])
    file = put(tmp_path / "c", certificate_pem(pair.certificate, authority("Other").certificate) + key_pem(pair.key))
    ServerTls(settings(certificate_file=file, client_ca_file=put(tmp_path / "ca", certificate_pem(authority().certificate))))
    assert "certificate 2 has not issued certificate 1" in log.text
    assert "no client is verified" in log.text


def test_old_versions_are_refused(tmp_path: Path) -> None:
    made = ServerTls(settings(certificate_file=put_server(tmp_path, authority()), minimum_version="1.3"))
    with pytest.raises(ssl.SSLError):
        meet(made.context, client_context(version=ssl.TLSVersion.TLSv1_2))
    assert meet(made.context, client_context()).client.version() == "TLSv1.3"


def test_an_issuing_authority_is_enough_to_verify_clients(tmp_path: Path) -> None:
    """A client's own certificate may be named as well: pinned."""
    ca = authority()
    client = put_client(tmp_path, ca, "pinned")
    (tmp_path / "trusted").write_bytes(client.read_bytes())
    made = ServerTls(
        settings(certificate_file=put_server(tmp_path, ca), client_ca_file=tmp_path / "trusted", client_certificates="required")
    )
    assert meet(made.context, client_context(client)).subject == "CN=pinned"
    with pytest.raises(ssl.SSLError):
        meet(made.context, client_context(put_client(tmp_path, ca, "another")))


# Reload


@BOTH
@NAMED
def test_new_connections_get_the_new_certificate_and_open_ones_live_on(
    tmp_path: Path, version: ssl.TLSVersion, name: str | None
) -> None:
    ca = authority()
    made = ServerTls(settings(certificate_file=put_server(tmp_path, ca, "first.example")))
    context = made.context
    before = meet(context, client_context(version=version), name=name)
    assert before.shown == "CN=first.example"
    assert not made.check(), "nothing has changed"
    put_server(tmp_path, ca, "second.example")
    assert made.check()
    assert made.context is context
    assert meet(context, client_context(version=version), name=name).shown == "CN=second.example"
    assert before.talk() == b"!"


@BOTH
@NAMED
@pytest.mark.parametrize("wanted", ["required", "optional"])
def test_when_the_authority_of_clients_is_replaced_the_old_ones_are_refused(
    tmp_path: Path, version: ssl.TLSVersion, name: str | None, wanted: str
) -> None:
    old, new = authority("Old"), authority("New")
    ca_file = put(tmp_path / "clients.pem", certificate_pem(old.certificate))
    made = ServerTls(settings(certificate_file=put_server(tmp_path, old), client_ca_file=ca_file, client_certificates=wanted))
    olds = client_context(put_client(tmp_path, old, "old"), version)
    news = client_context(put_client(tmp_path, new, "new"), version)
    before = meet(made.context, olds, name=name)
    assert before.subject == "CN=old"
    with pytest.raises(ssl.SSLError):
        meet(made.context, news, name=name)
    put(ca_file, certificate_pem(new.certificate))
    assert made.check()
    assert meet(made.context, news, name=name).subject == "CN=new"
    with pytest.raises(ssl.SSLError):
        meet(made.context, olds, name=name)
    assert before.talk() == b"!"
    # What was verified once must not come back by resuming its session.
    with pytest.raises(ssl.SSLError):
        meet(made.context, olds, name=name, session=before.client.session)


def test_a_broken_file_keeps_what_is_in_use_and_says_so_once(tmp_path: Path, log: Log) -> None:
    ca = authority()
    file = put_server(tmp_path, ca, "first.example")
    made = ServerTls(settings(certificate_file=file))
    put(file, b"-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    assert not made.check()
    assert not made.check()
    assert log.text.count("those before stay") == 1
    assert str(file) in log.text
    assert meet(made.context, client_context()).shown == "CN=first.example"
    file.unlink()
    assert not made.check()
    put_server(tmp_path, ca, "second.example")
    assert made.check()
    assert meet(made.context, client_context()).shown == "CN=second.example"


def test_a_certificate_without_its_key_yet_waits_for_it(tmp_path: Path) -> None:
    """Tools write two files, one after the other."""
    ca = authority()
    first, second = make_server(ca, ["first.example"]), make_server(ca, ["second.example"])
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    put(cert, certificate_pem(first.certificate))
    put(key, key_pem(first.key))
    made = ServerTls(settings(certificate_file=cert, key_file=key))
    put(cert, certificate_pem(second.certificate))
    assert not made.check()
    assert meet(made.context, client_context()).shown == "CN=first.example"
    put(key, key_pem(second.key))
    assert made.check()
    assert meet(made.context, client_context()).shown == "CN=second.example"


def test_links_that_are_turned_are_noticed(tmp_path: Path) -> None:
    """As Kubernetes replaces secrets: file → ..data/file, and ..data → a new directory, in one step."""
    ca = authority()
    for version in ("first.example", "second.example"):
        (tmp_path / version).mkdir()
        put_server(tmp_path / version, ca, version)
    (tmp_path / "..data").symlink_to("first.example")
    (tmp_path / "server.pem").symlink_to("..data/server.pem")
    made = ServerTls(settings(certificate_file=tmp_path / "server.pem"))
    (tmp_path / "..new").symlink_to("second.example")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert made.check()
    assert meet(made.context, client_context()).shown == "CN=second.example"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_made_readable_is_noticed(tmp_path: Path) -> None:
    ca = authority()
    file = put_server(tmp_path, ca, "first.example")
    made = ServerTls(settings(certificate_file=file))
    put_server(tmp_path, ca, "second.example")
    file.chmod(0)
    assert not made.check()
    file.chmod(0o600)
    assert made.check()


def test_the_watch_follows_the_files_and_a_hangup(tmp_path: Path) -> None:
    ca = authority()
    file = put_server(tmp_path, ca, "first.example")
    quick = ServerTls(settings(certificate_file=file, reload_seconds=0.05))
    patient = ServerTls(settings(certificate_file=file, reload_seconds=3600))

    async def shown(made: ServerTls, name: str) -> None:
        async with asyncio.timeout(20):
            while meet(made.context, client_context()).shown != name:  # noqa: ASYNC110  the watch tells nobody
                await asyncio.sleep(0.01)

    async def main() -> None:
        hangup = asyncio.Event()
        watches = [asyncio.create_task(quick.watch()), asyncio.create_task(patient.watch(hangup))]
        put_server(tmp_path, ca, "second.example")
        await shown(quick, "CN=second.example")
        assert meet(patient.context, client_context()).shown == "CN=first.example"
        hangup.set()
        await shown(patient, "CN=second.example")
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    asyncio.run(main())


def test_listeners_of_asyncio_follow_the_one_context(tmp_path: Path) -> None:
    """The context that was given to a listener when it was opened."""
    ca = authority()
    made = ServerTls(settings(certificate_file=put_server(tmp_path, ca, "first.example")))

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async def shown(port: int) -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=made.context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            assert await shown(port) == "CN=first.example"
            put_server(tmp_path, ca, "second.example")
            assert made.check()
            assert await shown(port) == "CN=second.example"

    asyncio.run(main())


def test_one_object_serves_all_who_ask_with_the_same_settings(tmp_path: Path) -> None:
    file = put_server(tmp_path, authority())
    first = ServerTls.of(settings(certificate_file=file))
    assert first is ServerTls.of(settings(certificate_file=file).model_copy())
    assert first is not ServerTls.of(settings(certificate_file=file, minimum_version="1.3"))
    del first
    gc.collect()
    assert not [one for one in ServerTls._made.values() if one._certificate_file == file], "nobody holds it any more"


# Names


def _name(*rdns: list[tuple[x509.ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for oid, value in rdn]) for rdn in rdns])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (_name(), ""),
        # The examples of RFC 4514, section 4.
        (_name([(NameOID.DOMAIN_COMPONENT, "net")], [(NameOID.DOMAIN_COMPONENT, "example")], [(NameOID.USER_ID, "jsmith")]),
         "UID=jsmith,DC=example,DC=net"),
        (_name([(NameOID.DOMAIN_COMPONENT, "net")], [(NameOID.COMMON_NAME, 'James "Jim" Smith, III')]),
         'CN=James \\"Jim\\" Smith\\, III,DC=net'),
        (_name([(NameOID.COMMON_NAME, "Before\rAfter")]), "CN=Before\\0DAfter"),
        (_name([(NameOID.COMMON_NAME, "Lučić")]), "CN=Lučić"),
        (_name([(NameOID.COMMON_NAME, "#a "), ]), "CN=\\#a\\ "),
        (_name([(NameOID.COMMON_NAME, "a+b<c>;d\\")]), "CN=a\\+b\\<c\\>\\;d\\\\"),
        # Registered short names beyond the nine that must be known.
        (_name([(NameOID.EMAIL_ADDRESS, "a@b.c")], [(NameOID.SERIAL_NUMBER, "7")]), "serialNumber=7,emailAddress=a@b.c"),
        # A type without a short name: number and BER, here a UTF8String of two characters.
        (_name([(x509.ObjectIdentifier("1.3.6.1.4.1.1466.0"), "Hi")]), "1.3.6.1.4.1.1466.0=#0c024869"),
        (_name([(x509.ObjectIdentifier("1.2.3.4"), "x" * 200)]), "1.2.3.4=#0c81c8" + "78" * 200),
    ],
)  # fmt: skip
def test_names_are_written_as_rfc_4514_has_it(name: x509.Name, text: str) -> None:
    assert name_text(name) == text


def test_an_rdn_of_several_values_is_joined_by_plus() -> None:
    text = name_text(
        _name([(NameOID.ORGANIZATION_NAME, "O")], [(NameOID.COMMON_NAME, "J"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "S")])
    )
    assert text in ("CN=J+OU=S,O=O", "OU=S+CN=J,O=O")


def test_without_a_client_certificate_there_is_no_subject(tmp_path: Path) -> None:
    ca = authority()
    made = ServerTls(
        settings(
            certificate_file=put_server(tmp_path, ca),
            client_ca_file=put(tmp_path / "ca", certificate_pem(ca.certificate)),
            client_certificates="optional",
        )
    )
    assert meet(made.context, client_context()).subject is None
    assert meet(made.context, client_context(put_client(tmp_path, ca, "fb, 1"))).subject == "CN=fb\\, 1"
    assert subject_of(None) is None


def test_expiry_and_failures_are_metrics(tmp_path: Path) -> None:
    """Asked of a process of its own: the meter provider can be set once only."""
    file = put_server(tmp_path, authority())
    code = f"""
from pathlib import Path
from weir.ops import tls
from weir.ops.telemetry import own_metrics, setup_metrics
setup_metrics("test", "one")
tls._SETTLE_SECONDS = 0.001
made = tls.ServerTls(tls.TlsSettings(kafka_bootstrap_servers="a:1", tls_certificate_file=Path({str(file)!r})))
Path({str(file)!r}).write_text("nothing")
assert not made.check()
print(own_metrics())
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    values = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in out.splitlines() if line.startswith("weir_tls")}
    ends = make_server(authority(), ["a"]).certificate.not_valid_after_utc
    assert values["weir_tls_reload_failures_total"] == 1
    assert abs(values["weir_tls_certificate_expiry_seconds"] - ends.timestamp()) < 120
