"""TLS peers for tests: certificates in a directory, and a handshake without sockets."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from weir.ops.tls import subject_of
from weir.tools.certs import Pair, certificate_pem, key_pem, make_authority, make_client, make_server

__all__ = ["Met", "authority", "client_context", "meet", "put", "put_client", "put_server"]


def authority(name: str = "Test CA") -> Pair:
    """A new authority."""
    return make_authority(name)


def put(path: Path, content: bytes) -> Path:
    """Replace a file in one step, as careful tools do."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def put_server(directory: Path, ca: Pair, name: str = "localhost") -> Path:
    """A server's certificate and key in one file, server.pem."""
    pair = make_server(ca, [name, "127.0.0.1"])
    return put(directory / "server.pem", certificate_pem(pair.certificate) + key_pem(pair.key))


def put_client(directory: Path, ca: Pair, name: str) -> Path:
    """A client's certificate and key in one file."""
    pair = make_client(ca, name)
    return put(directory / f"{name}.pem", certificate_pem(pair.certificate) + key_pem(pair.key))


def client_context(file: Path | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that shows the certificate in `file` and does not look at the server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if file is not None:
        context.load_cert_chain(file)
    if version is not None:
        context.maximum_version = version
    return context


@dataclass(slots=True)
class Met:
    """Two ends after a handshake. `shown` is the common name of the server, `subject` what the server made of the client."""

    client: ssl.SSLObject
    server: ssl.SSLObject
    _pipes: tuple[ssl.MemoryBIO, ssl.MemoryBIO, ssl.MemoryBIO, ssl.MemoryBIO]
    shown: str = ""
    subject: str | None = None

    def move(self) -> None:
        """Carry what each has written to the other."""
        to_server, from_server, to_client, from_client = self._pipes
        to_server.write(from_client.read())
        to_client.write(from_server.read())

    def talk(self) -> bytes:
        """One byte each way; what the client received."""
        self.client.write(b"?")
        self.move()
        assert self.server.read(1) == b"?"
        self.server.write(b"!")
        self.move()
        return self.client.read(1)


def meet(server: ssl.SSLContext, client: ssl.SSLContext, *, name: str | None = None, session: ssl.SSLSession | None = None) -> Met:
    """A handshake. Raises ssl.SSLError where either end refuses the other."""
    pipes = (ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO())
    ends = Met(
        client.wrap_bio(pipes[2], pipes[3], server_hostname=name, session=session),
        server.wrap_bio(pipes[0], pipes[1], server_side=True),
        pipes,
    )
    waiting = [ends.client, ends.server]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
            ends.move()
    assert not waiting, "the handshake does not end"
    ends.talk()
    certificate = x509.load_der_x509_certificate(ends.client.getpeercert(binary_form=True) or b"")
    ends.shown = certificate.subject.rfc4514_string()
    ends.subject = subject_of(ends.server)
    return ends
