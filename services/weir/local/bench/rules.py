"""Sigma rules for measuring: as many as are asked for, made from templates of the kinds that collections of rules consist of.

Names, addresses and paths in them are drawn anew for each rule, by the seed alone, so no two rules are alike and the same number of
rules is always the same rules. Hardly any event matches one: in a network where all is well, hardly any does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import yaml

__all__ = ["rule_documents", "write_rules"]

_Detection = tuple[dict[str, str], dict[str, Any]]
_PARTS: Final = [
    "bal",
    "cor",
    "dex",
    "fil",
    "gar",
    "hum",
    "jol",
    "kev",
    "lim",
    "mor",
    "nus",
    "pek",
    "quo",
    "rad",
    "sul",
    "tam",
    "vex",
    "wyn",
    "yar",
    "zot",
]


class _Words:
    """Made-up names."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def word(self, least: int = 2) -> str:
        return "".join(self.chance.choices(_PARTS, k=self.chance.randint(least, least + 2)))

    def words(self, most: int, make: Callable[[], str] | None = None) -> list[str]:
        return [(make or self.word)() for _ in range(self.chance.randint(1, most))]

    def domain(self) -> str:
        return f".{self.word()}.{self.chance.choice(('com', 'net', 'xyz', 'top', 'io'))}"

    def address(self) -> str:
        return ".".join(str(self.chance.randint(1, 254)) for _ in range(4))

    def network(self) -> str:
        return f"{self.chance.randint(11, 223)}.{self.chance.randint(0, 255)}.{self.chance.randint(0, 255)}.0/24"

    def path(self) -> str:
        return f"/{self.word()}/{self.word()}.{self.chance.choice(('php', 'aspx', 'jsp', 'cgi'))}"


def _weir(dataset: str) -> dict[str, str]:
    return {"product": "weir", "service": dataset}


# One function for each kind of rule: the log source and the detection.
def _domains(w: _Words) -> _Detection:
    return {"category": "dns"}, {"sel": {"query|endswith": w.words(12, w.domain)}, "condition": "sel"}


def _tunnel(w: _Words) -> _Detection:
    pattern = rf"^[a-z0-9]{{30,}}\.{w.word()}\.(?:com|net)$"
    return {"category": "dns"}, {"sel": {"query|re": pattern, "record_type": "TXT"}, "condition": "sel"}


def _agents(w: _Words) -> _Detection:
    return {"category": "proxy"}, {"sel": {"c-useragent|contains": w.words(8)}, "condition": "sel"}


def _downloads(w: _Words) -> _Detection:
    sel = {"c-uri-extension": w.words(5), "cs-host|endswith": w.words(8, w.domain)}
    return {"category": "proxy"}, {"sel": sel, "condition": "sel"}


def _command(w: _Words) -> _Detection:
    sel = {"cs-method": "POST", "c-uri|contains": w.path(), "c-useragent|startswith": w.word()}
    filtered = {"dst_ip|cidr": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]}
    return {"category": "proxy"}, {"sel": sel, "filter": filtered, "condition": "sel and not filter"}


def _exploit(w: _Words) -> _Detection:
    sel = {"cs-method": ["GET", "POST"], "cs-uri-query|contains|all": [w.path(), f"{w.word()}="]}
    return {"category": "webserver"}, {"sel": sel, "gone": {"sc-status": 404}, "condition": "sel and not gone"}


def _payloads(w: _Words) -> _Detection:
    keywords = [f"={w.word()}(" for _ in range(w.chance.randint(2, 12))]
    return {"category": "webserver"}, {"sel": {"cs-method": "GET"}, "keywords": keywords, "condition": "sel and keywords"}


def _indicator(w: _Words) -> _Detection:
    return {"service": "netflow"}, {"sel": {"destination.ip": w.words(20, w.address)}, "condition": "sel"}


def _network(w: _Words) -> _Detection:
    sel = {"destination.ip|cidr": w.words(4, w.network), "destination.port": w.chance.sample(range(1, 65_536), 3)}
    return {"service": "netflow"}, {"sel": sel, "condition": "sel"}


def _volume(w: _Words) -> _Detection:
    sel = {"network.bytes|gt": w.chance.randint(1, 50) * 10**9, "destination.port": w.chance.randint(1, 65_535)}
    return {"service": "netflow"}, {"sel": sel, "inner": {"destination.ip|cidr": "10.0.0.0/8"}, "condition": "sel and not inner"}


def _signature(w: _Words) -> _Detection:
    sel = {"rule.name|contains|all": [w.word(), w.word()]}
    return _weir("ids-alert"), {"sel": sel, "low": {"event.severity|gte": 3}, "condition": "sel and not low"}


def _extension(w: _Words) -> _Detection:
    sel = {"event.action": ["fs_create_file", "fs_rename"], "file.path|endswith": [f".{w.word()}" for _ in range(3)]}
    return {"category": "file_audit", "product": "qumulo"}, {"sel": sel, "condition": "sel"}


def _folder(w: _Words) -> _Detection:
    sel = {"event.action": "fs_delete", "file.path|startswith": f"/{w.word()}/{w.word()}/"}
    return _weir("file-audit"), {"sel": sel, "backup": {"user.name": w.word()}, "condition": "sel and not backup"}


def _person(w: _Words) -> _Detection:
    sel = {"user.name": w.words(6), "event.outcome": "failure"}
    return _weir(w.chance.choice(("file-audit", "cef", "authentication"))), {"sel": sel, "condition": "sel"}


def _balancer(w: _Words) -> _Detection:
    sel = {"event.module": "kemp", "url.original|re|i": rf"{w.path()}\?(?:id|q)=[0-9]+"}
    return _weir("cef"), {"sel": sel, "condition": "sel"}


def _appliance(w: _Words) -> _Detection:
    return _weir("cef"), {"sel": {"cef.name|contains": w.word(3), "device.action": w.words(3)}, "condition": "sel"}


def _daemon(w: _Words) -> _Detection:
    return _weir("syslog"), {"sel": {"process.name": w.words(3), "message|contains": w.words(4)}, "condition": "sel"}


def _sentence(w: _Words) -> _Detection:
    return _weir("syslog"), {"sel": {"message|contains|all": [f"{w.word()} {w.word()}", w.word()]}, "condition": "sel"}


def _device_command(w: _Words) -> _Detection:
    return {"product": "cisco", "service": "aaa"}, {
        "keywords": [f"{w.word()} {w.word()}" for _ in range(4)],
        "condition": "keywords",
    }


def _configuration(w: _Words) -> _Detection:
    sel = {"action": w.chance.choice(("Add", "Edit", "Delete")), "cfgpath": f"{w.word()}.{w.word()}"}
    return {"product": "fortigate", "service": "event"}, {"sel": sel, "condition": "sel"}


def _pipe(w: _Words) -> _Detection:
    return {"product": "zeek", "service": "smb_files"}, {"sel": {"path|endswith": "IPC$", "name": w.words(4)}, "condition": "sel"}


def _call(w: _Words) -> _Detection:
    one, two = ({"endpoint": w.word(), "operation": w.word()} for _ in range(2))
    return {"product": "zeek", "service": "dce_rpc"}, {"op1": one, "op2": two, "condition": "1 of op*"}


_TEMPLATES: Final = (
    _domains, _tunnel, _agents, _downloads, _command, _exploit, _payloads, _indicator, _network, _volume, _signature, _extension,
    _folder, _person, _balancer, _appliance, _daemon, _sentence, _device_command, _configuration, _pipe, _call,
)  # fmt: skip


# What no clue leads to, or only one that most events have: an index must try these with every event of their kind.
def _shape(w: _Words) -> _Detection:
    pattern = rf"/[0-9a-f]{{{w.chance.randint(20, 40)}}}\.[a-z]{{{w.chance.randint(5, 9)}}}$"
    return _weir("file-audit"), {"sel": {"file.path|re": pattern}, "condition": "sel"}


def _stranger(w: _Words) -> _Detection:
    known = {"source.ip|cidr": ["0.0.0.0/1", "128.0.0.0/1", w.network()]}
    return _weir(w.chance.choice(("network-flow", "cef", "network-log"))), {"known": known, "condition": "not known"}


def _anywhere(w: _Words) -> _Detection:
    return _weir(w.chance.choice(("syslog", "network-log"))), {"keywords": w.words(5), "condition": "keywords"}


_RARE: Final = (_shape, _stranger, _anywhere)
_RARELY: Final = 250
"""So many rules for one that is hard to find."""


def rule_documents(amount: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """So many rules, as a Sigma file has them."""
    for number in range(amount):
        chance = random.Random(f"{seed} {number}")  # noqa: S311  # not for secrets
        rare, common = divmod(number, _RARELY)
        make = _TEMPLATES[common % len(_TEMPLATES)] if common else _RARE[rare % len(_RARE)]
        logsource, detection = make(_Words(chance))
        yield {
            "title": f"Rule {number} ({make.__name__.strip('_')})",
            "id": str(UUID(int=chance.getrandbits(128), version=4)),
            "logsource": logsource,
            "detection": detection,
            "level": "medium",
        }


def write_rules(folder: Path, amount: int, seed: int = 1) -> None:
    """Write so many rules to a folder, fifty in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = list(rule_documents(amount, seed))
    for first in range(0, amount, 50):
        text = yaml.safe_dump_all(documents[first : first + 50], sort_keys=False)
        (folder / f"{first:05d}.yml").write_text(text, encoding="utf-8")
