"""One name for a user whom every source calls differently: AD\\alice, alice@corp.example, S-1-5-21-…, uid:1000.

Names are compared without case. A number is a UID, and a UID means the same user wherever it comes from: where hosts number their
users each in its own way, leave UIDs out of the table. A bare name counts where the event names no domain and only one user has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from weir.enrich.rows import Row

__all__ = ["USER_KEYS", "User", "UserTable", "compile_users", "identity"]

USER_KEYS: Final = frozenset({"entity", "name", "domain", "upn", "email", "sid", "uid", "aliases", "roles", "criticality"})

_SID: Final = re.compile(r"s-1-\d{1,14}(-\d{1,10}){1,15}")
_UID: Final = re.compile(r"[0-9]{1,10}")


class User(NamedTuple):
    """A user by the operator's table."""

    entity: str
    roles: tuple[str, ...] = ()
    criticality: str | None = None


class UserTable:
    """Users by every form of their names.

    Args:
        exact: by names that mean one user: domain\\name, name@domain, SID, uid:number; all in lower case.
        bare: by names without a domain that one user alone has.
    """

    def __init__(self, exact: dict[str, User], bare: dict[str, User]) -> None:
        self._exact = exact
        self._bare = bare
        self.entities = len({user.entity for user in exact.values()} | {user.entity for user in bare.values()})

    def __len__(self) -> int:
        return len(self._exact) + len(self._bare)

    def find(self, name: str | None, domain: str | None, user_id: str | None) -> User | None:
        """The user whom an event means: by id first, then by name with domain, then by bare name."""
        exact = self._exact
        for form in _forms(name, domain, user_id):
            if (found := exact.get(form)) is not None:
                return found
        bare = _bare_name(name if name else user_id, domain)
        return None if bare is None else self._bare.get(bare)


def identity(name: str | None, domain: str | None, user_id: str | None) -> str | None:
    """A key for a user who is in no table: the most telling form of what the event has."""
    return next(_forms(name, domain, user_id), None) or _bare_name(name if name else user_id, domain)


def _forms(name: str | None, domain: str | None, user_id: str | None) -> Iterator[str]:
    """Forms of a user that no other user has, in lower case."""
    if user_id and (form := _form(user_id)) is not None:
        yield form
    if name:
        if (form := _form(name)) is not None:
            yield form
        elif domain:
            folded, where = name.strip().casefold(), domain.strip().casefold()
            yield f"{where}\\{folded}"
            yield f"{folded}@{where}"


def _form(text: str) -> str | None:
    """The one form of a name that needs no domain beside it; None where it is a bare name."""
    folded = text.strip().casefold()
    if _UID.fullmatch(folded):
        return f"uid:{int(folded)}"
    for prefix in ("uid:", "sid:"):
        if folded.startswith(prefix):
            return _form(folded.removeprefix(prefix))
    if "\\" in folded:
        domain, _, name = folded.rpartition("\\")
        return f"{domain}\\{name}" if domain and name else None
    return folded if "@" in folded.strip("@") or _SID.fullmatch(folded) else None


def _bare_name(name: str | None, domain: str | None) -> str | None:
    if not name or (domain and domain.strip()):
        return None
    folded = name.strip().casefold()
    # ".\alice" is alice of this computer, whose name is not known here.
    return None if not folded or "\\" in folded or _form(folded) is not None else folded


def compile_users(rows: Iterable[Row], mistakes: list[str], more: Iterable[tuple[str, User]] = ()) -> UserTable:
    """The table of these rows.

    Args:
        mistakes: gets a sentence for each row that cannot be used, or that says of a name what another has said otherwise.
        more: names and users from elsewhere, such as the assets' file; what the rows say goes before them.
    """
    exact: dict[str, User] = {}
    places: dict[str, tuple[str, str]] = {}
    bare: dict[str, set[User]] = {}

    def add(form: str, user: User, place: str) -> None:
        known = places.setdefault(form, (user.entity, place))
        if known[0] != user.entity:
            mistakes.append(f"{place}: {form} is {known[0]} in {known[1]} already, and cannot be {user.entity} as well")
        else:
            exact[form] = user

    for row in rows:
        entity = row.text("entity")
        if entity is None:
            mistakes.append(f"{row.place}: 'entity' is missing: the one name that the user is to have")
            continue
        user = User(entity, row.texts("roles"), row.text("criticality"))
        for form in _row_forms(row, entity, mistakes):
            if (whole := _form(form)) is not None:
                add(whole, user, row.place)
            elif (name := _bare_name(form, None)) is not None:
                bare.setdefault(name, set()).add(user)
    for form, user in more:
        if (whole := _form(form)) is not None:
            exact.setdefault(whole, user)
        elif (name := _bare_name(form, None)) is not None and name not in bare:
            bare[name] = {user}
    clear = {name: next(iter(users)) for name, users in bare.items() if len({user.entity for user in users}) == 1}
    return UserTable(exact, clear)


def _row_forms(row: Row, entity: str, mistakes: list[str]) -> Iterator[str]:
    """Every name that a row gives its user."""
    if not _UID.fullmatch(entity.strip()):  # one that is a number is the operator's own, not a UID
        yield entity
    name = row.text("name")
    if name is not None:
        yield name
        for domain in row.texts("domain"):
            yield f"{domain}\\{name}"
            yield f"{name}@{domain}"
    elif row.texts("domain"):
        mistakes.append(f"{row.place}: 'domain' needs 'name' beside it")
    for address in (*row.texts("upn"), *row.texts("email")):
        if "@" not in address.strip("@"):
            mistakes.append(f"{row.place}: {address!r} is no name@domain")
            continue
        yield address
        yield address.partition("@")[0]
    for sid in row.texts("sid"):
        if not _SID.fullmatch(sid.strip().casefold()):
            mistakes.append(f"{row.place}: {sid!r} is no SID such as S-1-5-21-1-2-3-1001")
        yield sid
    for uid in row.texts("uid"):
        number = uid.strip().casefold().removeprefix("uid:")
        if not _UID.fullmatch(number):
            mistakes.append(f"{row.place}: {uid!r} is no UID such as 1000")
        yield f"uid:{number}"
    for alias in row.texts("aliases"):
        yield alias
        if "\\" in alias:
            yield alias.rpartition("\\")[2]
