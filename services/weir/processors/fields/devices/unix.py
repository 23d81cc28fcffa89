"""Logins, sessions and accounts as Unix's programs tell of them (module "system", as Filebeat calls it)."""

from __future__ import annotations

import re
from typing import Any, Final

from weir.processors.fields import Context
from weir.processors.fields.devices.table import Table, address, fill, port, text
from weir.protocols import syslog
from weir.protocols.devices import unix

__all__ = ["fields", "known_program"]

# action: (event_category, event_type)
_KINDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "ssh_login": (("authentication",), ("info",)),
    "ssh_disconnect": (("session",), ("end",)),
    "ssh_refused": (("network",), ("connection", "denied")),
    "ssh_connection": (("network",), ("connection", "start")),
    "ssh_session": (("session",), ("start",)),
    "ssh_session_closed": (("session",), ("end",)),
    "ssh_subsystem": (("session",), ("info",)),
    "session_opened": (("session",), ("start",)),
    "session_closed": (("session",), ("end",)),
    "session_started": (("session",), ("start",)),
    "session_ended": (("session",), ("end",)),
    "authentication": (("authentication",), ("info",)),
    "login": (("authentication",), ("start",)),
    "su": (("authentication",), ("start",)),
    "sudo": (("process",), ("start",)),
    "authorization": (("authentication",), ("info",)),
    "cron_command": (("process",), ("start",)),
    "server_started": (("process",), ("start",)),
    "user_added": (("iam",), ("creation", "user")),
    "user_add_failed": (("iam",), ("creation", "user")),
    "user_deleted": (("iam",), ("deletion", "user")),
    "user_changed": (("iam",), ("change", "user")),
    "user_added_to_group": (("iam",), ("change", "group")),
    "user_removed_from_group": (("iam",), ("change", "group")),
    "password_changed": (("iam",), ("change", "user")),
    "group_added": (("iam",), ("creation", "group")),
    "group_deleted": (("iam",), ("deletion", "group")),
    "group_changed": (("iam",), ("change", "group")),
}

TABLE: Final[Table] = {
    "user": (("user_name", text),),
    "uid": (("user_id", text),),
    "src": (("source_ip", address),),
    "rhost": (("source_ip", address),),
    "port": (("source_port", port),),
    "dst": (("destination_ip", address),),
    "dst_port": (("destination_port", port),),
    "reason": (("event_reason", text),),
    "error": (("event_reason", text),),
    "USER": (("destination_user_name", text),),
    "COMMAND": (("process_command_line", text),),
    "group": (("group_name", text),),
}

# launchd says for which of its services it speaks: "com.apple.xpc.launchd[1] (com.apple.quicklook[2222]): text".
_LAUNCHD_SERVICE = re.compile(r"\(([^()\s]{1,200}+)\): ?")


def fields(message: syslog.SyslogMessage, body: str, context: Context) -> dict[str, Any] | None:
    """Fields of a sentence of sshd, sudo and their kin; None for other programs and sentences."""
    program = message.app_name
    if program is None:
        return None
    event = unix.read_unix(program, body)
    if event is None:
        if program.startswith("com.apple.") and (service := _LAUNCHD_SERVICE.match(body)) is not None:
            return _SYSTEM | {"message": body[service.end() :], "log_syslog_fields": {"service": service[1]}}
        return None
    pairs = event.pairs
    found: dict[str, Any] = _AUTH | fill(pairs, TABLE)
    category, types = _KINDS.get(event.action, (("host",), ("info",)))
    found |= {
        "event_action": event.action,
        "event_category": list(category),
        "event_type": list(types),
        "event_outcome": event.outcome,
        "log_syslog_fields": pairs,
    }
    if event.action == "ssh_login" and event.outcome == "success":
        found["event_category"] = ["authentication", "session"]
    if (target := pairs.get("target")) is not None:
        # Who acts is named after "by"; where nobody is, the session's user stands for both.
        actor = pairs.get("by") or pairs.get("user")
        found["user_name"] = actor or target
        found["destination_user_name"] = target
    if event.action == "password_changed" and "by_user" in pairs:
        found |= {"user_name": pairs["by_user"], "destination_user_name": pairs.get("user")}
    return found


def known_program(message: syslog.SyslogMessage, body: str) -> dict[str, Any] | None:
    """What a sentence that is not known says by its program alone; None for programs that have nothing to do with logins."""
    # sudo sets its sentences in columns.
    return _AUTH | {"message": body.lstrip(" ")} if message.app_name in unix.PROGRAMS else None


_AUTH: Final[dict[str, Any]] = {"event_module": "system", "event_dataset": "system.auth"}
_SYSTEM: Final[dict[str, Any]] = {"event_module": "system", "event_dataset": "system.syslog"}
