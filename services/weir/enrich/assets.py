"""What is known of addresses, networks and hosts: name, criticality, owner, and the network they are in.

A row is of one `network` (CIDR), `ip`, `host` or `user`. The name of a network row is the network's; that of an ip or host row is
the asset's. What a row leaves out is taken from the next shorter prefix that says it: an address inherits criticality and owner of
its network, unless a row of its own says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from weir.enrich.addresses import Address, Network, PrefixTable, parse_network
from weir.enrich.rows import Row
from weir.enrich.users import User

__all__ = ["ASSET_KEYS", "Asset", "AssetTable", "asset_of", "compile_assets"]

ASSET_KEYS: Final = frozenset({"network", "ip", "host", "user", "name", "criticality", "owner", "zone", "roles"})
_SUBJECTS: Final = ("network", "ip", "host", "user")


class Asset(NamedTuple):
    """What is known of an address or host; None where nothing says it."""

    name: str | None = None
    criticality: str | None = None
    owner: str | None = None
    network_name: str | None = None


class Subject(NamedTuple):
    """A row, understood: of what it speaks and what it says."""

    place: str
    kind: str
    key: Network | str
    value: Asset | User


class AssetTable:
    """Assets by address and by host name.

    Args:
        networks: addresses are networks of one.
        hosts: by name in lower case.
        users: names of users in lower case and what the table says of them, for the table of users.
    """

    def __init__(self, networks: dict[Network, Asset], hosts: dict[str, Asset], users: dict[str, User]) -> None:
        self._networks = PrefixTable(networks.items())
        self._hosts = hosts
        self.users = users

    def __len__(self) -> int:
        return len(self._networks) + len(self._hosts) + len(self.users)

    @property
    def has_hosts(self) -> bool:
        """Whether any host is known by name."""
        return bool(self._hosts)

    def of_address(self, address: Address) -> Asset | None:
        """What all networks that hold the address say, the longest prefix first."""
        found = self._networks.find_all(address)
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        return Asset(*(next((value for value in values if value is not None), None) for values in zip(*found, strict=True)))

    def of_host(self, name: str) -> Asset | None:
        """The asset of this name: as it is written, else its first label."""
        folded = name.strip().rstrip(".").casefold()
        found = self._hosts.get(folded)
        if found is None and "." in folded:
            found = self._hosts.get(folded.partition(".")[0])
        return found


def asset_of(row: Row, mistakes: list[str]) -> Subject | None:
    """What a row says; None, and a sentence in `mistakes`, where it says nothing that can be used."""
    named = [key for key in _SUBJECTS if key in row.cells]
    if len(named) != 1:
        which = " and ".join(named) if named else "none of them"
        mistakes.append(f"{row.place}: a row is of one of {', '.join(_SUBJECTS)}; this one has {which}")
        return None
    kind = named[0]
    text = row.text(kind) or ""
    name, zone, criticality = row.text("name"), row.text("zone"), row.text("criticality")
    if row.texts("roles") and kind != "user":
        mistakes.append(f"{row.place}: 'roles' belongs to a user")
        return None
    if kind == "user":
        return Subject(row.place, kind, text.casefold(), User(name or text, row.texts("roles"), criticality))
    if kind == "host":
        return Subject(row.place, kind, text.rstrip(".").casefold(), Asset(name or text, criticality, row.text("owner"), zone))
    try:
        network = parse_network(text)
    except ValueError as error:
        mistakes.append(f"{row.place}: {kind}: {error}")
        return None
    if kind == "network":
        if name is not None and zone is not None:
            mistakes.append(f"{row.place}: a network has one name: 'name' or 'zone', not both")
            return None
        return Subject(row.place, kind, network, Asset(None, criticality, row.text("owner"), name or zone))
    if network.prefixlen != network.max_prefixlen:
        mistakes.append(f"{row.place}: ip: {text!r} is a network; write it as 'network'")
        return None
    return Subject(row.place, kind, network, Asset(name, criticality, row.text("owner"), zone))


def compile_assets(rows: Iterable[Row], mistakes: list[str], later: Iterable[Subject] = ()) -> AssetTable:
    """The table of these rows.

    Args:
        mistakes: gets a sentence for each row that cannot be used or that says a second time what another says.
        later: what comes from elsewhere, such as a topic, and holds instead of what the rows say.
    """
    networks: dict[Network, Asset] = {}
    hosts: dict[str, Asset] = {}
    users: dict[str, User] = {}
    places: dict[tuple[bool, Network | str], str] = {}
    for subject in (*_subjects(rows, mistakes), *later):
        if subject.place:
            same = (subject.kind == "user", subject.key)
            if (first := places.setdefault(same, subject.place)) != subject.place:
                mistakes.append(f"{subject.place}: {subject.kind} {subject.key} stands in {first} already")
                continue
        if isinstance(subject.value, User):
            users[str(subject.key)] = subject.value
        elif isinstance(subject.key, str):
            hosts[subject.key] = subject.value
        else:
            networks[subject.key] = subject.value
    return AssetTable(networks, hosts, users)


def _subjects(rows: Iterable[Row], mistakes: list[str]) -> Iterator[Subject]:
    for row in rows:
        if (subject := asset_of(row, mistakes)) is not None:
            yield subject
