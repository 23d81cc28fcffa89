"""weir certs: what OpenSSL and TLS peers make of the certificates, and what `show` says of good and bad files."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner, Result

from tests.ops.tls_peers import authority, meet
from weir.cli import app
from weir.tools.certs import (
    CertsError,
    KeyForm,
    KeyKind,
    certificate_pem,
    file_stem,
    key_pem,
    make_authority,
    make_client,
    make_server,
    write_file,
)
from weir.tools.certs_show import examine

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


def weir(*arguments: object, **variables: str) -> Result:
    return CliRunner().invoke(app, ["certs", *map(str, arguments)], env=variables)


def as_json(*arguments: object, **variables: str) -> Any:
    done = weir(*arguments, "--json", **variables)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def openssl(*arguments: object) -> str:
    assert OPENSSL is not None
    command = [OPENSSL, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An authority, a server of a name and two addresses, and a client."""
    directory = tmp_path / "certs"
    done = weir(
        "init", directory, "--server", "syslog.example.net", "--server", "127.0.0.1", "--server", "2001:db8::1", "--client", "fb-1"
    )
    assert done.exit_code == 0, done.output
    return directory


# What others make of them


@needs_openssl
@pytest.mark.parametrize("kind", list(KeyKind))
def test_openssl_verifies_server_and_client_strictly(tmp_path: Path, kind: KeyKind) -> None:
    as_json("init", tmp_path, "--server", "a.example", "--client", "c", "--key", kind)
    strict = ("verify", "-x509_strict", "-CAfile", tmp_path / "ca.pem")
    openssl(*strict, "-purpose", "sslserver", "-verify_hostname", "a.example", tmp_path / "server.pem")
    openssl(*strict, "-purpose", "sslclient", tmp_path / "c.pem")
    text = openssl("x509", "-in", tmp_path / "server.pem", "-noout", "-text")
    assert ("id-ecPublicKey" if kind is KeyKind.EC else f"({kind.value[4:]} bit)") in text


@needs_openssl
@pytest.mark.parametrize("kind", [KeyKind.EC, KeyKind.RSA_2048])
@pytest.mark.parametrize("form", list(KeyForm))
@pytest.mark.parametrize("password", [None, "se cret"])
def test_openssl_reads_keys_of_each_form(tmp_path: Path, kind: KeyKind, form: KeyForm, password: str | None) -> None:
    options = ("--password-env", "SECRET") if password else ()
    as_json("init", tmp_path, "--server", "a", "--key", kind, "--format", form, *options, SECRET=password or "")
    key = tmp_path / "server.key"
    openssl("pkey", "-in", key, "-passin", f"pass:{password or ''}", "-noout", "-check")
    first = key.read_text().splitlines()[0]
    if form is KeyForm.TRADITIONAL:
        assert first == f"-----BEGIN {'EC' if kind is KeyKind.EC else 'RSA'} PRIVATE KEY-----"
    else:
        assert first == f"-----BEGIN {'ENCRYPTED ' if password else ''}PRIVATE KEY-----"


@needs_openssl
def test_openssl_speaks_mutual_tls_with_them(made: Path) -> None:
    """s_client as a forwarder, with its certificate, against Python's TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / "server.pem", made / "server.key")
    context.load_verify_locations(made / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    subjects: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with context.wrap_socket(plain, server_side=True) as tls:
                subjects.append((tls.getpeercert() or {})["subject"])
                tls.sendall(b"hello\n")
                with contextlib.suppress(OSError):
                    tls.unwrap()

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        identity = ("-cert", made / "fb-1.pem", "-key", made / "fb-1.key", "-CAfile", made / "ca.pem")
        checks = ("-verify_return_error", "-verify_hostname", "syslog.example.net", "-x509_strict")
        out = openssl("s_client", "-connect", f"127.0.0.1:{port}", *identity, *checks, "-quiet")
        thread.join(20)
    assert "hello" in out
    assert subjects == [((("commonName", "fb-1"),),)]


@pytest.mark.parametrize("host", ["syslog.example.net", "127.0.0.1", "2001:db8::1"])
def test_a_strict_client_finds_each_name_and_address(made: Path, host: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made / "server.pem", made / "server.key")
    client = ssl.create_default_context(cafile=str(made / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    meet(server, client, name=host)
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(server, client, name="other.example.net")


def test_a_client_certificate_does_for_no_server(made: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made / "fb-1.pem", made / "fb-1.key")
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        meet(server, ssl.create_default_context(cafile=str(made / "ca.pem")), name="fb-1")


# Files


def test_keys_are_for_their_owner_only_and_nothing_is_left_over(made: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in made.iterdir()}
    assert modes == {
        "ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o644, "server.key": 0o600, "fb-1.pem": 0o644, "fb-1.key": 0o600,
    }  # fmt: skip


def test_nothing_is_written_over_without_force(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.iterdir()}
    for arguments in (("init", made, "--server", "a"), ("ca", made), ("server", made, "a"), ("client", made, "new", "fb-1")):
        done = weir(*arguments)
        assert done.exit_code == 2
        assert "--force" in done.stderr
    assert {path: path.read_bytes() for path in made.iterdir()} == before


def test_a_server_certificate_is_renewed_under_the_same_authority(made: Path) -> None:
    ca, old = (made / "ca.pem").read_bytes(), (made / "server.pem").read_bytes()
    as_json("server", made, "syslog.example.net", "--force")
    assert (made / "ca.pem").read_bytes() == ca
    assert (made / "server.pem").read_bytes() != old
    assert weir("show", made / "server.pem", made / "server.key", "--ca", made / "ca.pem").exit_code == 0


def test_the_authority_is_never_replaced_by_what_it_issues(made: Path) -> None:
    for arguments in (("client", made, "ca", "--force"), ("server", made, "a", "--file", "ca", "--force")):
        assert "authority's place" in weir(*arguments).stderr


def test_two_clients_of_one_file_name_are_refused(tmp_path: Path) -> None:
    done = weir("init", tmp_path, "--server", "a", "--client", "a b", "--client", "a/b")
    assert done.exit_code == 2
    assert "a_b.pem" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "stem"), [("fb-1", "fb-1"), ("../../etc/x", "_.._etc_x"), ("*.a", "wildcard.a"), ("ü", "_"), ("..", "unnamed")]
)
def test_names_cannot_leave_the_directory(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_issuing_without_an_authority_says_how_to_make_one(tmp_path: Path) -> None:
    done = weir("client", tmp_path, "a")
    assert done.exit_code == 2
    assert "weir certs init" in done.stderr


def test_a_password_is_asked_for_where_the_key_of_the_authority_has_one(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    as_json("ca", tmp_path / "c", "--password-file", secret)
    assert "encrypted" in weir("client", tmp_path / "c", "a").stderr
    assert "the password is not that of the key" in weir("client", tmp_path / "c", "a", "--password-env", "P", P="no").stderr
    as_json("client", tmp_path / "c", "a", "--password-file", secret)
    assert "variable P is empty" in weir("client", tmp_path / "c", "b", "--password-env", "P", P="").stderr
    assert "either" in weir("client", tmp_path / "c", "b", "--password-env", "P", "--password-file", secret, P="x").stderr


# What is in them


def test_none_outlives_its_authority() -> None:
    ca = make_authority("Short", valid_for=timedelta(days=3))
    assert make_server(ca, ["a"]).certificate.not_valid_after_utc == ca.certificate.not_valid_after_utc


@pytest.mark.parametrize("name", ["", "a b", "-a.example", "a..b", "x" * 64, "*.*.a", "a/b", "1.2.3.4/24"])
def test_what_is_neither_name_nor_address_is_no_server(name: str) -> None:
    with pytest.raises(CertsError, match="neither a host name nor an address"):
        make_server(authority(), [name])


def test_names_beyond_ascii_are_written_as_idna() -> None:
    names = make_server(authority(), ["bücher.example", "*.b.example", "[2001:db8::1]"]).certificate.extensions
    found = [str(one.value) for one in names.get_extension_for_class(x509.SubjectAlternativeName).value]
    assert found == ["xn--bcher-kva.example", "*.b.example", "2001:db8::1"]


def test_a_long_host_name_stands_in_the_alternative_names_only() -> None:
    name = ".".join(["label"] * 15) + ".example"
    made = make_server(authority(), [name]).certificate
    assert not list(made.subject)
    extension = made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert extension.critical
    assert [one.value for one in extension.value] == [name]


@pytest.mark.parametrize("name", ["", " ", "x" * 65])
def test_names_that_no_client_can_have(name: str) -> None:
    with pytest.raises(CertsError):
        make_client(authority(), name)


# What is said


def test_what_to_paste_is_said(made: Path, tmp_path: Path) -> None:
    found = as_json("init", tmp_path / "x", "--server", "syslog.example.net", "--client", "fb-1")
    there = tmp_path / "x"
    assert found["settings"] == {
        "WEIR_TLS_CERTIFICATE_FILE": str(there / "server.pem"),
        "WEIR_TLS_KEY_FILE": str(there / "server.key"),
        "WEIR_TLS_CLIENT_CA_FILE": str(there / "ca.pem"),
        "WEIR_TLS_CLIENT_CERTIFICATES": "required",
    }
    import yaml

    filebeat = yaml.safe_load("\n".join(found["forwarders"]["filebeat"]))["output.logstash"]
    assert filebeat["hosts"] == ["syslog.example.net:5044"]
    assert filebeat["ssl.key"] == str(there / "fb-1.key")
    assert [one["what"] for one in found["files"]] == ["authority", "key", "certificate", "key", "certificate", "key"]
    text = weir("init", tmp_path / "y", "--server", "a").stdout
    assert "WEIR_TLS_KEY_FILE=" in text
    assert "keep it in a safe" in text


def test_receivers_take_what_is_printed(made: Path) -> None:
    from weir.ops.tls import ServerTls, TlsSettings

    found = as_json("server", made, "localhost", "--file", "second")["settings"]
    values = {name.removeprefix("WEIR_").lower(): value for name, value in found.items()}
    tls = ServerTls.of(TlsSettings(kafka_bootstrap_servers="a:1", **values))
    assert tls is not None


# show


def test_show_tells_all_there_is(made: Path) -> None:
    server, key = as_json("show", made / "server.pem", made / "server.key", "--ca", made / "ca.pem")
    assert server["subject"] == "CN=syslog.example.net"
    assert server["names"] == ["syslog.example.net", "127.0.0.1", "2001:db8::1"]
    assert server["key"] == "EC secp256r1"
    assert server["chain"] == "CN=Weir CA"
    assert server["days_left"] in (823, 824)
    assert "problem" not in server
    assert key["what"] == "key"
    assert key["subject"] == "CN=syslog.example.net"


def test_show_reads_der_and_both_in_one_file(tmp_path: Path) -> None:
    pair = make_server(authority(), ["a"])
    (tmp_path / "der").write_bytes(pair.certificate.public_bytes(serialization.Encoding.DER))
    write_file(tmp_path / "both", certificate_pem(pair.certificate) + key_pem(pair.key), private=True)
    assert [one.what for one in examine([tmp_path / "der", tmp_path / "both"])] == ["certificate", "certificate", "key"]


def test_show_tells_what_is_useless(tmp_path: Path) -> None:
    ca, namesake = authority(), authority()
    (tmp_path / "ca").write_bytes(certificate_pem(ca.certificate))
    (tmp_path / "namesake").write_bytes(certificate_pem(namesake.certificate))
    (tmp_path / "s").write_bytes(certificate_pem(make_server(ca, ["a"], valid_for=timedelta(days=30)).certificate))
    write_file(tmp_path / "k", key_pem(make_server(ca, ["b"]).key), private=True)

    def problems(*files: str, ca: str | None = None, now: datetime | None = None) -> list[str | None]:
        roots = [tmp_path / ca] if ca else []
        return [one.problem for one in examine([tmp_path / name for name in files], authorities=roots, now=now)]

    assert problems("s") == [None], "whose authority is not given cannot be judged"
    assert problems("s", "ca") == [None, None]
    assert problems("s", ca="ca") == [None]
    assert problems("s", ca="namesake") == ["does not verify"]
    assert problems("s", "namesake") == ["does not verify", None]
    assert problems("s", "k") == [None, "belongs to none of the certificates"]
    now = datetime.now(UTC)
    assert problems("s", ca="ca", now=now + timedelta(days=31)) == ["expired"]
    assert problems("s", ca="ca", now=now - timedelta(days=1)) == ["not valid yet"]
    (soon,) = examine([tmp_path / "s"], now=now + timedelta(days=20))
    assert soon.problem is None
    assert soon.warning == "expires soon"


def test_show_warns_of_keys_that_others_may_read(tmp_path: Path) -> None:
    pair = make_server(authority(), ["a"])
    (tmp_path / "k").write_bytes(key_pem(pair.key))
    (tmp_path / "k").chmod(0o640)
    (key,) = examine([tmp_path / "k"])
    assert key.warning == "may be read by others (mode 640)"
    assert key.problem is None


def test_exit_codes_of_show(made: Path, tmp_path: Path) -> None:
    assert weir("show", made / "server.pem").exit_code == 0
    other = tmp_path / "other"
    other.write_bytes(certificate_pem(authority().certificate))
    assert weir("show", made / "server.pem", "--ca", other).exit_code == 1
    (tmp_path / "garbage").write_bytes(b"\0")
    done = weir("show", tmp_path / "garbage")
    assert done.exit_code == 2
    assert str(tmp_path / "garbage") in done.stderr
    assert weir("show", tmp_path / "none").exit_code == 2
