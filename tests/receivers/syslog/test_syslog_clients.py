"""The syslog receiver and the clients that people have: logger, loggen, rsyslogd, syslog-ng, curl, openssl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.receivers.syslog.syslog_support import AtWork, at_work, made_certificates
from tests.support import eventually
from weir.local.standins.certificates import CertificateFiles


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return made_certificates(tmp_path_factory.mktemp("certificates"))


def run(program: str, *arguments: str, stdin: bytes = b"") -> str:
    """Run a client to its end; what it said."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([path, *arguments], input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


class TestLogger:
    @pytest.mark.parametrize("options", [("-d",), ("-T",), ("-T", "--octet-count"), ("-T", "--rfc3164")])
    def test_each_line_is_a_message(self, options: tuple[str, ...]) -> None:
        lines = [f"line {number} {'ä' * number}" for number in range(40)]
        with at_work() as work:
            port = work.udp[1] if "-d" in options else work.tcp[1]
            run("logger", "-n", "127.0.0.1", "-P", str(port), "-p", "auth.notice", *options, stdin="\n".join(lines).encode())
            eventually(lambda: len(work.units()) == len(lines))
        assert [unit.decode().rpartition("line ")[2] for unit in work.units()] == [line.removeprefix("line ") for line in lines]
        assert all(unit.startswith(b"<37>") for unit in work.units())
        assert not work.refused


class TestLoggen:
    """syslog-ng's load generator; its messages carry a running number."""

    @pytest.mark.parametrize(
        ("options", "connections"),
        [
            pytest.param(("--inet", "--stream"), 1, id="tcp lines"),
            pytest.param(("--inet", "--stream", "--syslog-proto"), 1, id="tcp octet counting"),
            pytest.param(("--inet", "--stream", "--active-connections", "20", "--idle-connections", "20"), 20, id="many"),
            pytest.param(("--inet", "--dgram"), 1, id="udp"),
            pytest.param(("--use-ssl",), 1, id="tls lines"),
            pytest.param(("--use-ssl", "--syslog-proto"), 1, id="tls octet counting"),
            pytest.param(("--use-ssl", "--syslog-proto", "--active-connections", "5"), 5, id="tls many"),
        ],
    )
    def test_every_message_arrives(self, certificates: CertificateFiles, options: tuple[str, ...], connections: int) -> None:
        messages = 2_000 // connections
        arguments = (*options, "--quiet", "--rate", "100000", "--number", str(messages), "--interval", "10", "--size", "300")
        with at_work(certificates, receiver_udp_buffer_bytes=4_000_000) as work:
            port = work.tls[1] if "--use-ssl" in options else work.udp[1] if "--dgram" in options else work.tcp[1]
            said = run("loggen", *arguments, "127.0.0.1", str(port))
            sent = int(said.rpartition("count=")[2].partition(",")[0])
            eventually(lambda: len(work.units()) == sent, message=said)
        assert sent >= messages * connections
        assert len(set(work.units())) == sent
        assert not work.refused

    def test_its_proxy_header_is_none_by_the_specification(self) -> None:
        """It ends in LF alone, as of version 4; a receiver must not tolerate that (section 2.1)."""
        with at_work(syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.1") as work:
            run("loggen", "--inet", "--stream", "--proxied", "--quiet", "--number", "1", "127.0.0.1", str(work.tcp[1]))
            eventually(lambda: work.refused)
        assert set(work.refused) == {"proxy header invalid"}


def forward(work: AtWork, messages: int, program: str, *arguments: str) -> None:
    """Let a daemon run until so many messages have arrived."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    with subprocess.Popen([path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as daemon:
        try:
            eventually(lambda: len(work.units()) >= messages, timeout=20)
        finally:
            daemon.terminate()
            sys.stderr.write(daemon.communicate(timeout=20)[0].decode())


LINES = [f"line {number} {'ö' * (number % 90)}" for number in range(500)]


def texts(work: AtWork) -> list[str]:
    """What follows the headers."""
    return ["line " + unit.decode().partition("line ")[2].removesuffix("\n") for unit in work.units()]


class TestRsyslog:
    @pytest.mark.parametrize("framing", ["traditional", "octet-counted"])
    def test_a_file_that_it_forwards_arrives_whole(self, tmp_path: Path, framing: str) -> None:
        """Counting octets, it counts the line end of its template as part of the message."""
        (tmp_path / "in.log").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
        with at_work() as work:
            configuration = f"""
module(load="imfile" mode="polling" pollingInterval="1")
global(workDirectory="{tmp_path}")
input(type="imfile" file="{tmp_path}/in.log" tag="app:" facility="local0" severity="notice" addMetadata="off")
action(type="omfwd" target="127.0.0.1" port="{work.tcp[1]}" protocol="tcp" TCP_Framing="{framing}"
       template="RSYSLOG_SyslogProtocol23Format")
"""
            (tmp_path / "rsyslog.conf").write_text(configuration)
            forward(work, len(LINES), "rsyslogd", "-n", "-f", str(tmp_path / "rsyslog.conf"), "-i", str(tmp_path / "pid"))
        assert texts(work) == LINES
        assert all(unit.endswith(b"\n") == (framing == "octet-counted") for unit in work.units())
        assert not work.refused


class TestSyslogNg:
    @pytest.mark.parametrize("transport", ["tcp", "tls", "udp"])
    @pytest.mark.parametrize("driver", ["syslog", "network"])
    def test_a_file_that_it_forwards_arrives_whole(
        self, certificates: CertificateFiles, tmp_path: Path, driver: str, transport: str
    ) -> None:
        """The driver "syslog" counts octets over TCP and TLS, and its line ends as part of the message; "network" sends lines."""
        (tmp_path / "in.log").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
        with at_work(certificates, tls_client_certificates="required", receiver_udp_buffer_bytes=4_000_000) as work:
            port = {"tcp": work.tcp, "tls": work.tls, "udp": work.udp}[transport][1]
            tls = f'tls(ca-file("{certificates.ca}") cert-file("{certificates.client}") key-file("{certificates.client_key}"))'
            target = f'"127.0.0.1" port({port}) transport("{transport}") {tls if transport == "tls" else ""}'
            configuration = f"""@version: 3.35
source s {{ file("{tmp_path}/in.log" flags(no-parse) follow-freq(1) program-override("app")); }};
destination d {{ {driver}({target}); }};
log {{ source(s); destination(d); }};
"""
            (tmp_path / "syslog-ng.conf").write_text(configuration)
            state = ("-R", str(tmp_path / "persist"), "-c", str(tmp_path / "control"), "-p", str(tmp_path / "pid"))
            forward(work, len(LINES), "syslog-ng", "-F", "-e", "--no-caps", "-f", str(tmp_path / "syslog-ng.conf"), *state)
            subjects = {batch.tls_subject for batch in work.batches()}
        assert texts(work) == LINES
        assert all(subjects) == (transport == "tls")
        assert not work.refused


class TestCurl:
    @pytest.mark.parametrize("transport", ["tcp", "tls"])
    def test_its_proxy_header_is_read_before_all_else(self, certificates: CertificateFiles, transport: str) -> None:
        """It sends version 1 with its own addresses, before the TLS handshake, and then HTTP, whose lines are as good as others."""
        path = shutil.which("curl")
        if path is None:
            pytest.skip("curl is not installed")
        with at_work(certificates, syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.1") as work:
            url = f"https://localhost:{work.tls[1]}/x" if transport == "tls" else f"http://localhost:{work.tcp[1]}/x"
            ours = ("--silent", "--max-time", "0.5", "-4", "--haproxy-protocol", "--cacert", str(certificates.ca))
            # It waits for an answer that syslog never gives.
            subprocess.run([path, *ours, url], timeout=30, check=False)
            eventually(lambda: b"GET /x HTTP/1.1" in work.units())
            assert {(batch.transport, batch.source_ip) for batch in work.batches()} == {(transport, "127.0.0.1")}
        assert not work.refused


class TestOpenssl:
    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_s_client_sends_what_it_is_given(self, certificates: CertificateFiles, version: str) -> None:
        with at_work(certificates, tls_client_certificates="required") as work:
            identity = ("-cert", str(certificates.client), "-key", str(certificates.client_key))
            trust = ("-CAfile", str(certificates.ca), "-verify_return_error")
            target = ("-connect", f"127.0.0.1:{work.tls[1]}", version, "-quiet", "-no_ign_eof")
            run("openssl", "s_client", *target, *trust, *identity, stdin=b"<13>one\n<13>two\n")
            eventually(lambda: work.units() == [b"<13>one", b"<13>two"])
            assert all(batch.tls_subject for batch in work.batches())
        assert not work.refused
