"""Syslog lines: Qumulo audit in both of its dialects, Kemp ESP and other vendors' CEF, plain daemons; one burst of deletes.

Every source has an address, a transport and a form of its own, as machines in a network have. Which source a number belongs
to, and what it says, depends only on the seed, the number and the amount.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from weir.local.generate.units import (
    EMPTY,
    MALFORMED,
    NAMES,
    Dice,
    Unit,
    bsd_time,
    iso_second,
    mark,
    sample_lines,
    vary_address,
)
from weir.protocols import cef, qumulo

__all__ = [
    "MASS_DELETE_CLIENT",
    "SOURCES",
    "Source",
    "SyslogUnits",
    "Transport",
    "kemp_body",
    "plain_line",
    "qumulo_body",
    "qumulo_head",
    "vendor_body",
]

Transport = Literal["udp", "counted", "lines"]
"""A datagram each; TCP with octet counting (RFC 6587 section 3.4.1); TCP with line feeds (section 3.4.2)."""


class Source(NamedTuple):
    """One sender: the loopback address it binds to, how it sends, what it says, and its share of the lines."""

    address: str
    host: str
    transport: Transport
    form: str
    share: int


SOURCES: Final = (
    Source("127.0.0.2", "qumulo-1", "udp", "qumulo-5424", 2),
    Source("127.0.0.3", "qumulo-2", "udp", "qumulo-3164", 2),
    Source("127.0.0.4", "qumulo-3", "counted", "qumulo-5424", 2),
    Source("127.0.0.5", "qumulo-4", "lines", "qumulo-3164", 2),
    Source("127.0.0.6", "lm-1", "udp", "kemp-3164", 3),
    Source("127.0.0.7", "lm-2", "lines", "kemp-3339", 2),
    Source("127.0.0.8", "pal-fw-1", "udp", "vendor-3164", 2),
    Source("127.0.0.9", "cef-relay", "counted", "vendor-5424", 1),
    Source("127.0.0.10", "bastion1", "udp", "plain-5424", 1),
    Source("127.0.0.11", "bastion2", "udp", "plain-3164", 1),
    Source("127.0.0.12", "app01", "counted", "plain-5424", 1),
    Source("127.0.0.13", "app03", "lines", "plain-3164", 1),
)

MASS_DELETE_CLIENT: Final = "10.66.6.6"
"""The one client address from which the mass delete comes, and nothing else."""

_DELETES_SPREAD: Final = 10
"""Every so many lines one is of the mass delete: 5,000 lines for 500, which is under two seconds of the demo's traffic."""

_AT_WORK: Final = 20
_TURN: Final = 200
"""So many of Qumulo's users are at work during so many lines, then others, as they come and go: four lines each, by one client."""

_DATASETS: Final = {"qumulo": "file-audit", "kemp": "cef", "vendor": "cef", "plain": "syslog"}


class SyslogUnits:
    """The lines of one run.

    Args:
        seed: what the values are drawn from.
        amount: lines in all, those below included.
        transports: only sources with one of these send.
        mass_deletes: successful `fs_delete` by `mallory`, from one client, from two fifths of the run on.
        specials: one CEF line whose header breaks off and one blank line.

    Raises:
        ValueError: `amount` has no room for the mass delete amid other lines.
    """

    def __init__(
        self,
        seed: int,
        amount: int,
        *,
        transports: frozenset[Transport] = frozenset({"udp", "counted", "lines"}),
        mass_deletes: int = 500,
        mallory: str = "AD\\mallory",
        specials: bool = True,
    ) -> None:
        if amount < 2 * mass_deletes + 4 * specials:
            raise ValueError(
                f"{amount} syslog lines have no room for {mass_deletes} deletes: ask for {2 * mass_deletes + 4} or more"
            )
        self.seed = seed
        self.amount = amount
        self.mallory = mallory
        # Background users delete about 1 line in 13 of Qumulo's; with so many of them each stays far below any threshold.
        self._users = max(400, amount // 50)
        shares = [source for source in SOURCES if source.transport in transports for _ in range(source.share)]
        # 7 shares no factor with lengths that occur, so that the sources alternate instead of taking turns in blocks.
        self._turns = [shares[index * 7 % len(shares)] for index in range(len(shares))] if len(shares) % 7 else shares
        self._delete_sources = [source for source in SOURCES if source.transport in transports and source.form[:6] == "qumulo"]
        first = amount * 2 // 5
        step = max(1, min(_DELETES_SPREAD, (amount - first) // mass_deletes)) if mass_deletes else 1
        self._deletes = range(first, first + mass_deletes * step, step)
        self._malformed = amount // 4 if specials else -1
        # A blank line is a message in a datagram only: in a stream it is nothing between two line ends.
        self._blank = amount // 4 - 1 if specials and "udp" in transports else -1

    def source(self, number: int) -> Source:
        """Who sends this number."""
        if number in self._deletes:
            return self._delete_sources[self._deletes.index(number) % len(self._delete_sources)]
        if number in {self._malformed, self._blank}:
            return next((source for source in self._turns if source.form == "kemp-3164"), self._turns[0])
        return self._turns[number % len(self._turns)]

    def numbers(self, transports: frozenset[Transport]) -> Iterator[tuple[int, Source]]:
        """The numbers of the sources with one of these transports, in order."""
        for number in range(self.amount):
            source = self.source(number)
            if source.transport in transports:
                yield number, source

    def unit(self, number: int, now_us: int) -> Unit:
        """This number's line as of `now_us` (microseconds UTC)."""
        source = self.source(number)
        second = now_us // 1_000_000
        if number == self._blank:
            return Unit(b"\n", EMPTY)
        if number == self._malformed:
            return Unit(f"<134>{bsd_time(second)} {source.host} CEF:0|Kemp|LM|1.0|11|Request".encode(), MALFORMED)
        dice = Dice(self.seed, "syslog", number)
        name = mark(self.seed, "s", number)
        kind, _, envelope = source.form.partition("-")
        if kind == "qumulo":
            deleted = number in self._deletes
            at_work = number // _TURN * _AT_WORK % self._users
            body = self._mass_delete(name, dice) if deleted else qumulo_body(dice, name, _AT_WORK, at_work)
            head = qumulo_head(source.host, envelope, now_us)
        elif kind == "kemp":
            body = kemp_body(dice, name)
            stamp = bsd_time(second) if envelope == "3164" else f"{iso_second(second)}+00:00"
            head = f"<134>{stamp} {source.host} "
        elif kind == "vendor":
            body = vendor_body(dice, name, now_us)
            stamp = f"<134>{bsd_time(second)}" if envelope == "3164" else f"<134>1 {_iso_us(now_us)}"
            head = f"{stamp} {source.host} " if envelope == "3164" else f"{stamp} {source.host} cef - - - "
        else:
            head, body = plain_line(dice, name, envelope, now_us)
        return Unit(f"{head}{body}".encode(), _DATASETS[kind])

    def _mass_delete(self, name: str, dice: Dice) -> str:
        path = f"/projects/payroll/{2015 + dice.below(10)}/{name}.xlsx"
        file_id = str(200_000 + dice.below(10_000_000))
        return qumulo.format_line(
            qumulo.QumuloAudit(MASS_DELETE_CLIENT, None, self.mallory, "smb", "fs_delete", "ok", file_id, path, "")
        )


def _iso_us(now_us: int) -> str:
    return f"{iso_second(now_us // 1_000_000)}.{now_us % 1_000_000:06d}Z"


# Qumulo

_ALL_AUDITS: Final = tuple(qumulo.parse(line) for line in sample_lines("qumulo-audit.csv"))
# What an administrator does to the cluster is no background: one event of it may be an alert.
_ADMINISTRATION: Final = ("audit_", "begin_audit_", "auth_", "cluster_", "remote_syslog_", "fs_set_quota", "smb_create_share")
_ORDINARY: Final = tuple(audit for audit in _ALL_AUDITS if not audit.operation.startswith(_ADMINISTRATION))
_AUDITS: Final = tuple(audit for audit in _ORDINARY if audit.error_status == "ok")
_REFUSED_AUDITS: Final = tuple(audit for audit in _ORDINARY if audit.error_status != "ok")


def qumulo_head(host: str, envelope: str, now_us: int) -> str:
    """What stands before an audit record; `envelope` is "5424" or "3164"."""
    if envelope == "5424":
        return f"<14>1 {_iso_us(now_us)} {host} qumulo - - - "
    return f"<14>{bsd_time(now_us // 1_000_000)} {host} qumulo "


def qumulo_body(dice: Dice, name: str, users: int, first: int = 0) -> str:
    """An audit record with `name` as a folder of its path, where it has a path, by one of so many users from `first` on."""
    audit = dice.pick_mostly(_AUDITS, _REFUSED_AUDITS)
    user, number = audit.user_id, first + dice.below(users)
    if user.startswith("EXAMPLE\\"):
        user = f"EXAMPLE\\{NAMES[number % len(NAMES)]}{number}"
    elif user.startswith("uid:"):
        user = f"uid:{1000 + number}"
    elif user.startswith("S-1-5-21-"):
        user = f"{user.rpartition('-')[0]}-{1000 + number}"
    path, second = audit.file_path, audit.secondary_file_path
    client = audit.client_ip if audit.protocol == "internal" else vary_address(audit.client_ip, Dice(number, "client", 0))
    file_id = audit.file_id
    if file_id:
        # Objects of S3 have ids of more than 64 bits: those stay so long.
        file_id = f"{file_id[:20]}{dice.below(10**10):010}" if len(file_id) > 20 else str(100_000 + dice.below(10**8))
    folder, slash, leaf = path.rpartition("/")
    path = f"{folder}/{name}/{leaf}" if slash else path
    return qumulo.format_line(
        audit._replace(client_ip=client, user_id=user, file_id=file_id, file_path=path, secondary_file_path=second)
    )


# CEF


class _CefSample(NamedTuple):
    head: str
    pairs: tuple[tuple[str, str], ...]


def _cef_samples(name: str) -> tuple[_CefSample, ...]:
    samples = []
    for line in sample_lines(name):
        extension = cef.parse(line).extension_text
        samples.append(_CefSample(line.removesuffix(extension), tuple(cef.split_pairs(extension))))
    return tuple(samples)


_ALL_KEMP: Final = _cef_samples("kemp-esp.cef")
_REFUSALS: Final = re.compile(r"\|(?:Connection timed out|Connection failed|Access \w+|DT code|Resource \w+|User AAA)\|")
_KEMP: Final = tuple(sample for sample in _ALL_KEMP if not _REFUSALS.search(sample.head))
_KEMP_REFUSALS: Final = tuple(sample for sample in _ALL_KEMP if _REFUSALS.search(sample.head))
_ALL_VENDOR: Final = _cef_samples("vendor.cef")
_BLOCKS: Final = re.compile(r"DENY|FAIL|blocked|quarantined")
_VENDOR: Final = tuple(sample for sample in _ALL_VENDOR if not _BLOCKS.search(sample.head))
_VENDOR_BLOCKS: Final = tuple(sample for sample in _ALL_VENDOR if _BLOCKS.search(sample.head))

_AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:123.0) Gecko/20100101 Firefox/123.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "python-requests/2.31.0",
)


def kemp_body(dice: Dice, name: str) -> str:
    """A CEF record of a Kemp load balancer, with `name` where its keys leave room for text."""
    sample = dice.pick_mostly(_KEMP, _KEMP_REFUSALS)
    return sample.head + " ".join(f"{key}={_kemp_value(key, value, dice, name)}" for key, value in sample.pairs)


def _kemp_value(key: str, value: str, dice: Dice, name: str) -> str:
    """Another value for the key. Nothing is escaped, as the device does not; the mark goes where text is free."""
    if key in {"srcip", "dstip", "awaiting"}:
        return vary_address(value, dice)
    if key == "srcport":
        return str(dice.between(1024, 65535))
    if key == "user":
        person = f"{dice.pick(NAMES)}{dice.below(500)}"
        if "\\" in value:
            return f"EXAMPLE\\{person}"
        return f"{person}@example.test" if "@" in value else person
    if key == "url":
        return f"{value}{'&' if '?' in value else '?'}trace={name}"
    if key == "resource":
        return f"{value}/{name}"
    if key in {"msg", "result"}:
        return f"{value} {name}"
    if key == "useragent":
        return dice.pick(_AGENTS)
    if key == "dtcode":
        return str(dice.below(64))
    return value


def vendor_body(dice: Dice, name: str, now_us: int) -> str:
    """A CEF record of some other device, with `name` as its externalId."""
    sample = dice.pick_mostly(_VENDOR, _VENDOR_BLOCKS)
    pairs = [f"{key}={_vendor_value(key, value, dice, now_us)}" for key, value in sample.pairs if key != "externalId"]
    return f"{sample.head}{' '.join(pairs)} externalId={name}"


def _vendor_value(key: str, value: str, dice: Dice, now_us: int) -> str:
    if key == "rt":
        second = now_us // 1_000_000
        if value.isdigit():
            return str(now_us // 1000)
        return f"{bsd_time(second)[:6].replace('  ', ' 0')} {iso_second(second)[:4]} {bsd_time(second)[7:]} UTC"
    if key == "end":
        return str(now_us // 1000)
    if key == "start":
        return str(now_us // 1000 - dice.between(1, 120_000))
    if key in {"src", "dst"}:
        return vary_address(value, dice)
    if key in {"spt", "sourceTranslatedPort"}:
        return str(dice.between(1024, 65535))
    if key in {"in", "out", "fsize"}:
        return str(dice.between(40, 2_000_000))
    if key in {"cnt", "cn1"}:
        return str(dice.between(1, 99))
    if key in {"spid", "dpid"}:
        return str(dice.between(300, 32_000))
    if key == "fileHash":
        return f"{dice.below(16 ** len(value)):0{len(value)}x}"
    if key == "suser" and value.isalpha():
        return f"{dice.pick(NAMES)}{dice.below(500)}"
    return value


# Plain daemons

_SLOT = re.compile(
    r"(?P<ip>\b(?:10\.[0-9]+|192\.0\.2|198\.51\.100|203\.0\.113)(?:\.[0-9]{1,3}){1,2}\b)"
    r"|(?P<port>(?<=port )[0-9]{4,5}\b|(?<=SPT=)[0-9]+\b|(?<=#)[0-9]{4,5}\b)"
    r"|(?P<user>(?<=for )(?:maija|petra|oracle|backup)\b|(?<=user )(?:oracle|root)\b)"
)


_REFUSED = re.compile(r"Failed password|authenticating user root|SYN flooding|DROP IN|card refused|query failed")


class _PlainSample(NamedTuple):
    """A line cut at what varies: literal text and slots in turns. `pid` of "-" or "" is none."""

    priority: str
    timed: bool
    host: str
    tag: str
    pid: str
    rest: str
    body: tuple[tuple[str, str], ...]


def _cut(body: str) -> tuple[tuple[str, str], ...]:
    """(literal before, name of the slot and its text or nothing) for each part of the body."""
    parts, position = [], 0
    for found in _SLOT.finditer(body):
        parts.append((body[position : found.start()], f"{found.lastgroup}:{found[0]}"))
        position = found.end()
    return (*parts, (body[position:], ""))


@lru_cache(maxsize=2)
def _plain_samples(envelope: str) -> tuple[tuple[_PlainSample, ...], tuple[_PlainSample, ...]]:
    """Lines of daemons at work, and lines about what was refused."""
    samples = []
    for line in sample_lines(f"rfc{envelope}.log"):
        priority, _, rest = line.partition(">")
        if envelope == "5424":
            _, stamp, host, tag, pid, rest = rest.split(" ", 5)
            samples.append(_PlainSample(f"{priority}>", stamp != "-", host, tag, pid, "", _cut(rest)))
        else:
            # The time is the first 15 characters and a space; the rest may have no tag.
            host, _, text = rest[16:].partition(" ")
            found = re.match(r"([^\s:\[]+)\[([0-9]+)\]: ", text)
            tag, pid = (found[1], found[2]) if found else ("", "")
            samples.append(_PlainSample(f"{priority}>", True, host, tag, pid, "", _cut(text[found.end() :] if found else text)))
    refused = tuple(sample for sample in samples if _REFUSED.search("".join(text for text, _ in sample.body)))
    return tuple(sample for sample in samples if sample not in refused), refused


def plain_line(dice: Dice, name: str, envelope: str, now_us: int) -> tuple[str, str]:
    """Head and rest of a daemon's line, `name` at its end; `envelope` is "5424" or "3164"."""
    usual, refused = _plain_samples(envelope)
    sample = dice.pick_mostly(usual, refused)
    pid = str(dice.between(300, 32_000)) if sample.pid.isdigit() and sample.pid != "1" else sample.pid
    if envelope == "5424":
        stamp = _iso_us(now_us) if sample.timed else "-"
        head = f"{sample.priority}1 {stamp} {sample.host} {sample.tag} {pid} "
    else:
        head = f"{sample.priority}{bsd_time(now_us // 1_000_000)} {sample.host} " + (f"{sample.tag}[{pid}]: " if sample.tag else "")
    body = "".join(literal + _FILL[slot[:2]](slot, dice) for literal, slot in sample.body)
    return head, f"{body} {name}"


_FILL: Final[dict[str, Callable[[str, Dice], str]]] = {
    "ip": lambda slot, dice: vary_address(slot[3:], dice),
    "po": lambda _slot, dice: str(dice.between(1024, 65535)),
    "us": lambda _slot, dice: f"{dice.pick(NAMES)}{dice.below(500)}",
    "": lambda _slot, _dice: "",
}
