"""What audits of the Windows Security log report besides logons, in ECS's words.

Sources: Microsoft, "Audit events" (the page of each event id); the actions are those of Elastic's Winlogbeat module for the log,
and the categories and types are ECS's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["AUDITS", "Audit"]


class Audit(NamedTuple):
    """`categories` and `types` of the event, which an event shares with others: copy before use."""

    action: str
    categories: tuple[str, ...]
    types: tuple[str, ...]


_IAM: Final = ("iam",)
_SET_UP: Final = ("iam", "configuration")


def _group(first: int, kind: str, created: str, changed: str) -> dict[int, Audit]:
    """Windows numbers each kind of group alike: created, changed, member added, member removed, deleted."""
    of = "" if kind == "group" else "distribution-"
    actions = (
        (created, "creation"), (changed, "change"), (f"added-member-to-{of}group", "change"),
        (f"removed-member-from-{of}group", "change"), (f"deleted-{kind}-account", "deletion"),
    )  # fmt: skip
    return {first + number: Audit(action, _IAM, ("group", type_)) for number, (action, type_) in enumerate(actions)}


_DISTRIBUTION: Final = ("distribution-group", "added-distribution-group-account", "changed-distribution-group-account")

AUDITS: Final[dict[int, Audit]] = {
    1100: Audit("logging-service-shutdown", ("process",), ("end",)),
    1102: Audit("audit-log-cleared", _IAM, ("admin", "change")),
    1104: Audit("logging-full", _IAM, ("admin",)),
    1105: Audit("auditlog-archived", _IAM, ("admin",)),
    4672: Audit("logged-in-special", _IAM, ("admin",)),
    4688: Audit("created-process", ("process",), ("start",)),
    4689: Audit("exited-process", ("process",), ("end",)),
    4697: Audit("service-installed", _SET_UP, ("admin", "change")),
    4698: Audit("scheduled-task-created", _SET_UP, ("admin", "creation")),
    4699: Audit("scheduled-task-deleted", _SET_UP, ("admin", "deletion")),
    4700: Audit("scheduled-task-enabled", _SET_UP, ("admin", "change")),
    4701: Audit("scheduled-task-disabled", _SET_UP, ("admin", "change")),
    4702: Audit("scheduled-task-updated", _SET_UP, ("admin", "change")),
    4719: Audit("changed-audit-config", _SET_UP, ("admin", "change")),
    4720: Audit("added-user-account", _IAM, ("user", "creation")),
    4722: Audit("enabled-user-account", _IAM, ("user", "change")),
    4723: Audit("changed-password", _IAM, ("user", "change")),
    4724: Audit("reset-password", _IAM, ("user", "change")),
    4725: Audit("disabled-user-account", _IAM, ("user", "change")),
    4726: Audit("deleted-user-account", _IAM, ("user", "deletion")),
    # Security groups, global and local, whose numbers have an order of their own.
    4727: Audit("added-group-account", _IAM, ("group", "creation")),
    4728: Audit("added-member-to-group", _IAM, ("group", "change")),
    4729: Audit("removed-member-from-group", _IAM, ("group", "change")),
    4730: Audit("deleted-group-account", _IAM, ("group", "deletion")),
    4731: Audit("added-group-account", _IAM, ("group", "creation")),
    4732: Audit("added-member-to-group", _IAM, ("group", "change")),
    4733: Audit("removed-member-from-group", _IAM, ("group", "change")),
    4734: Audit("deleted-group-account", _IAM, ("group", "deletion")),
    4735: Audit("modified-group-account", _IAM, ("group", "change")),
    4737: Audit("modified-group-account", _IAM, ("group", "change")),
    4738: Audit("modified-user-account", _IAM, ("user", "change")),
    4741: Audit("added-computer-account", _IAM, ("creation", "admin")),
    4742: Audit("changed-computer-account", _IAM, ("change", "admin")),
    4743: Audit("deleted-computer-account", _IAM, ("deletion", "admin")),
    # Distribution groups: local, global, universal. Between the last two come universal security groups.
    **_group(4744, *_DISTRIBUTION),
    **_group(4749, *_DISTRIBUTION),
    **_group(4754, "group", "added-group-account", "modified-group-account"),
    **_group(4759, *_DISTRIBUTION),
    4764: Audit("type-changed-group-account", _IAM, ("group", "change")),
    4767: Audit("unlocked-user-account", _IAM, ("user", "change")),
    4781: Audit("renamed-user-account", _IAM, ("user", "change")),
    4798: Audit("group-membership-enumerated", _IAM, ("user", "info")),
    4799: Audit("user-member-enumerated", _IAM, ("group", "info")),
}
"""By event id."""
