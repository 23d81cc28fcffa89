"""`weir certs …`: an own authority, certificates from it, and what is in the files one already has."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from weir.tools.certs import (
    CertsError,
    KeyForm,
    KeyKind,
    Pair,
    certificate_pem,
    file_stem,
    key_pem,
    make_authority,
    make_client,
    make_server,
    read_authority,
    write_file,
)
from weir.tools.certs_show import Shown, examine

__all__ = ["certs_app"]

EXIT_DIFFERS = 1
EXIT_SETTINGS = 2

certs_app = typer.Typer(help="Make and show certificates for receivers and forwarders.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="where the files are; made if it is not there")]
Kind = Annotated[KeyKind, typer.Option("--key", help="kind of the keys; ec is P-256")]
Form = Annotated[KeyForm, typer.Option("--format", help="form of the keys; traditional for old forwarders")]
Days = Annotated[int, typer.Option(min=1, max=36_500, help="days until the certificates end")]
CaDays = Annotated[int, typer.Option(min=1, max=36_500, help="days until the authority ends")]
CaName = Annotated[str, typer.Option(help="name of the authority")]
Organization = Annotated[str | None, typer.Option(help="organization in the subjects")]
PasswordEnv = Annotated[str | None, typer.Option(metavar="VARIABLE", help="encrypt the keys; the variable holds the password")]
PasswordFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="encrypt the keys; the file's first line is the password")
]
Force = Annotated[bool, typer.Option("--force", help="write over files that are there")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def _fail(code: int, message: object) -> NoReturn:
    Console(stderr=True, highlight=False).print(f"weir: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _password(variable: str | None, file: Path | None) -> str | None:
    if variable is not None and file is not None:
        _fail(EXIT_SETTINGS, "give either --password-env or --password-file")
    if variable is not None:
        return os.environ.get(variable) or _fail(EXIT_SETTINGS, f"--password-env: the variable {variable} is empty")
    if file is not None:
        lines = file.read_text(encoding="utf-8").splitlines()
        return (lines[0] if lines else "") or _fail(EXIT_SETTINGS, f"--password-file: the first line of {file} is empty")
    return None


@dataclass(frozen=True, slots=True)
class _Made:
    """A pair on its way into two files."""

    stem: str
    pair: Pair


class _Writer:
    """Puts pairs into a directory: all or none, and over nothing that is there."""

    def __init__(self, directory: Path, form: KeyForm, password: str | None, *, force: bool) -> None:
        self.directory = directory.absolute()
        self._form = form
        self._password = password
        self._force = force

    def claim(self, stems: Sequence[str], *, issued: bool = False) -> None:
        """Raises CertsError where a name is used twice, a file is there, or what is `issued` would replace its authority."""
        if issued and "ca" in stems:
            raise CertsError("a certificate named ca would take the authority's place")
        if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
            raise CertsError(f"two certificates would be written to {twice[0]}.pem")
        there = [path for stem in stems for path in self.paths(stem) if path.exists()]
        if there and not self._force:
            raise CertsError(f"{', '.join(map(str, there))} exists; --force writes over it")

    def paths(self, stem: str) -> tuple[Path, Path]:
        return self.directory / f"{stem}.pem", self.directory / f"{stem}.key"

    def write(self, made: Sequence[_Made]) -> list[Shown]:
        """What is in the files now."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for one in made:
            certificate, key = self.paths(one.stem)
            write_file(key, key_pem(one.pair.key, self._form, self._password), private=True)
            write_file(certificate, certificate_pem(one.pair.certificate), private=False)
        files = [path for one in made for path in self.paths(one.stem)]
        ca = self.directory / "ca.pem"
        return examine(files, authorities=[ca] if ca.exists() else [], password=self._password)


def _settings(writer: _Writer, server: str | None, *, clients: bool, encrypted: bool) -> dict[str, str]:
    if server is None:
        return {}
    certificate, key = writer.paths(server)
    found = {"WEIR_TLS_CERTIFICATE_FILE": str(certificate), "WEIR_TLS_KEY_FILE": str(key)}
    if encrypted:
        found["WEIR_TLS_KEY_PASSWORD"] = "…"  # noqa: S105  a place to put it
    if clients:
        found["WEIR_TLS_CLIENT_CA_FILE"] = str(writer.directory / "ca.pem")
        found["WEIR_TLS_CLIENT_CERTIFICATES"] = "required"
    return found


def _forwarders(writer: _Writer, host: str, clients: Sequence[str], *, encrypted: bool) -> dict[str, list[str]]:
    """What to paste into the configuration of forwarders, line by line; each with the client that has its name, else the first."""
    ca = writer.directory / "ca.pem"
    filebeat = ["output.logstash:", f'  hosts: ["{host}:5044"]', f'  ssl.certificate_authorities: ["{ca}"]']
    rsyslog = [f'global(DefaultNetstreamDriverCAFile="{ca}"']
    if clients:
        certificate, key = writer.paths(next((one for one in clients if "beat" in one.lower()), clients[0]))
        filebeat += [f'  ssl.certificate: "{certificate}"', f'  ssl.key: "{key}"']
        if encrypted:
            filebeat.append('  ssl.key_passphrase: "…"')
        certificate, key = writer.paths(next((one for one in clients if "syslog" in one.lower()), clients[0]))
        rsyslog += [f'       DefaultNetstreamDriverCertFile="{certificate}"', f'       DefaultNetstreamDriverKeyFile="{key}"']
    rsyslog[-1] += ")"
    rsyslog += [
        f'action(type="omfwd" protocol="tcp" target="{host}" port="6514" TCP_Framing="octet-counted"',
        '       StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name"',
        f'       StreamDriverPermittedPeers="{host}")',
    ]
    return {"filebeat": filebeat, "rsyslog": rsyslog}


def _record(one: Shown) -> dict[str, object]:
    record = {name: value for name, value in asdict(one).items() if value not in ("", (), None)}
    for name in ("valid_from", "valid_until"):
        if (at := getattr(one, name)) is not None:
            record[name] = at.isoformat()
    return record


def _table(shown: Sequence[Shown]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("file", "what", "subject", "names", "key", "valid until", "days", "verified by", "state"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "days" else "left")
    for one in shown:
        state = Text(one.problem, "red") if one.problem else Text(one.warning, "yellow") if one.warning else Text("good", "green")
        table.add_row(
            *map(Text, (one.file, one.what, one.subject, ", ".join(one.names), one.key)),
            Text(f"{one.valid_until:%Y-%m-%d}" if one.valid_until else ""),
            Text("" if one.days_left is None else f"{one.days_left:,}"),
            Text(one.chain),
            state,
        )
    return table


def _console() -> Console:
    # What goes into a file or a pipe is not bound to 80 columns.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _report(shown: Sequence[Shown], settings: dict[str, str], forwarders: dict[str, list[str]], *, as_json: bool) -> None:
    if as_json:
        record = {"files": [_record(one) for one in shown], "settings": settings, "forwarders": forwarders}
        sys.stdout.write(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        return
    console = _console()
    console.print(_table(shown))
    if settings:
        console.print("\nReceivers (for a shell; an EnvironmentFile of systemd takes the lines without `export`):", markup=False)
        for name, value in settings.items():
            console.print(f"  export {name}={shlex.quote(value)}", markup=False, soft_wrap=True)
    for name, lines in forwarders.items():
        console.print(f"\n{name.capitalize()} (paths as on the forwarder):", markup=False)
        for line in lines:
            console.print(f"  {line}", markup=False, soft_wrap=True)
    if any(one.what == "authority" for one in shown):
        console.print("\nca.key can issue certificates that your receivers trust: keep it in a safe.", markup=False)


@certs_app.command(epilog="Example: weir certs init tls --server logs.example.net --server 10.0.0.5 --client filebeat-1")
def init(
    directory: Directory,
    server: Annotated[list[str], typer.Option(help="host name or address by which senders call the receivers; may be repeated")],
    client: Annotated[list[str] | None, typer.Option(help="name of a forwarder; may be repeated")] = None,
    key: Kind = KeyKind.EC,
    form: Form = KeyForm.PKCS8,
    days: Days = 825,
    ca_days: CaDays = 3650,
    ca_name: CaName = "Weir CA",
    organization: Organization = None,
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make an authority, one server certificate for all --server names, and one certificate for each --client."""
    password = _password(password_env, password_file)
    clients = client or []
    writer = _Writer(directory, form, password, force=force)
    stems = [file_stem(name) for name in clients]
    try:
        writer.claim(["ca", "server", *stems])
        authority = make_authority(ca_name, kind=key, valid_for=timedelta(days=ca_days), organization=organization)
        valid_for = timedelta(days=days)
        pair = make_server(authority, server, kind=key, valid_for=valid_for, organization=organization)
        made = [_Made("ca", authority), _Made("server", pair)]
        made += [
            _Made(stem, make_client(authority, name, kind=key, valid_for=valid_for, organization=organization))
            for stem, name in zip(stems, clients, strict=True)
        ]
        shown = writer.write(made)
    except (CertsError, OSError) as error:
        _fail(EXIT_SETTINGS, error)
    encrypted = password is not None
    _report(
        shown,
        _settings(writer, "server", clients=bool(clients), encrypted=encrypted),
        _forwarders(writer, server[0], stems, encrypted=encrypted),
        as_json=as_json,
    )


@certs_app.command()
def ca(
    directory: Directory,
    key: Kind = KeyKind.EC,
    form: Form = KeyForm.PKCS8,
    ca_days: CaDays = 3650,
    ca_name: CaName = "Weir CA",
    organization: Organization = None,
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make an authority only: ca.pem and ca.key."""
    writer = _Writer(directory, form, _password(password_env, password_file), force=force)
    try:
        writer.claim(["ca"])
        authority = make_authority(ca_name, kind=key, valid_for=timedelta(days=ca_days), organization=organization)
        shown = writer.write([_Made("ca", authority)])
    except (CertsError, OSError) as error:
        _fail(EXIT_SETTINGS, error)
    _report(shown, {}, {}, as_json=as_json)


@certs_app.command()
def server(
    directory: Directory,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="host names and addresses by which senders call it")],
    file: Annotated[str, typer.Option(help="name of the files, without .pem and .key")] = "server",
    key: Kind = KeyKind.EC,
    form: Form = KeyForm.PKCS8,
    days: Days = 825,
    organization: Organization = None,
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a server certificate, also as the successor (--force) of one: receivers take it into use without a restart."""
    password = _password(password_env, password_file)
    writer = _Writer(directory, form, password, force=force)
    try:
        stem = file_stem(file)
        writer.claim([stem], issued=True)
        authority = read_authority(directory, password)
        pair = make_server(authority, names, kind=key, valid_for=timedelta(days=days), organization=organization)
        shown = writer.write([_Made(stem, pair)])
    except (CertsError, OSError) as error:
        _fail(EXIT_SETTINGS, error)
    encrypted = password is not None
    _report(
        shown,
        _settings(writer, stem, clients=False, encrypted=encrypted),
        _forwarders(writer, names[0], [], encrypted=encrypted),
        as_json=as_json,
    )


@certs_app.command()
def client(
    directory: Directory,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="forwarders; each gets its own certificate")],
    key: Kind = KeyKind.EC,
    form: Form = KeyForm.PKCS8,
    days: Days = 825,
    organization: Organization = None,
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a certificate for each forwarder."""
    password = _password(password_env, password_file)
    writer = _Writer(directory, form, password, force=force)
    stems = [file_stem(name) for name in names]
    try:
        writer.claim(stems, issued=True)
        authority = read_authority(directory, password)
        made = [
            _Made(stem, make_client(authority, name, kind=key, valid_for=timedelta(days=days), organization=organization))
            for stem, name in zip(stems, names, strict=True)
        ]
        shown = writer.write(made)
    except (CertsError, OSError) as error:
        _fail(EXIT_SETTINGS, error)
    _report(shown, {}, {}, as_json=as_json)


@certs_app.command(epilog="Example: weir certs show tls/*.pem --ca tls/ca.pem")
def show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="certificates (PEM or DER), keys (PEM), or both in one")],
    ca: Annotated[list[Path] | None, typer.Option(help="authorities to verify by; may be repeated")] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="for encrypted keys: the variable that holds the password")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="for encrypted keys: the file whose first line is the password")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show whose they are, for which names, until when, and what verifies them. Exit 1 where one is useless, 2 where unreadable."""
    try:
        shown = examine(files, authorities=ca or [], password=_password(password_env, password_file))
    except ValueError as error:
        _fail(EXIT_SETTINGS, error)
    if as_json:
        sys.stdout.write(json.dumps([_record(one) for one in shown], indent=1, ensure_ascii=False) + "\n")
    else:
        _console().print(_table(shown))
    raise typer.Exit(EXIT_DIFFERS if any(one.problem for one in shown) else 0)
