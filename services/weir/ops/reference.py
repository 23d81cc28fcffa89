"""The reference of all settings, made from the classes that read them."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticUndefined

from weir.ops.settings import PREFIX, ServiceSettings

__all__ = ["settings_markdown", "settings_records"]


def _classes(cls: type[ServiceSettings] = ServiceSettings) -> list[type[ServiceSettings]]:
    found = [cls]
    for sub in sorted(cls.__subclasses__(), key=lambda c: c.__name__):
        if sub.__module__.startswith("weir."):
            found += _classes(sub)
    return found


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "made at start"
    if value is None or value == "":
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings_records() -> list[dict[str, str]]:
    """One record a setting of every class imported so far: name, variable, read by, default, description."""
    records = []
    for cls in _classes():
        inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "model_fields", {})}
        for name, field in cls.model_fields.items():
            if name not in inherited:
                records.append(
                    {
                        "name": name,
                        "variable": PREFIX + name.upper(),
                        "read_by": cls.__name__.removesuffix("Settings"),
                        "default": _default(field.default),
                        "description": field.description or "",
                    }
                )
    return records


def settings_markdown() -> str:
    """The page docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made by `weir settings`. Each is an environment variable, or a key of the same name in lower case without `WEIR_`",
        "in the YAML file that `WEIR_CONFIG` names; the environment wins. Wrong ones stop the start, all of them named at once.",
    ]
    group = ""
    for record in settings_records():
        if record["read_by"] != group:
            group = record["read_by"]
            who = {
                "Service": "every service",
                "Tls": "every service that listens",
                "Sources": "every receiver",
                "Receiver": "every receiver",
                "Sink": "every sink",
                "Processor": "every processor",
            }
            lines += ["", f"## {group}: read by {who.get(group, f'the {group.lower()} service')}", ""]
            lines += ["| variable | default | meaning |", "|---|---|---|"]
        default = f"`{record['default']}`" if record["default"] else ""
        lines.append(f"| `{record['variable']}` | {default} | {record['description'].replace('|', '/')} |")
    return "\n".join(lines) + "\n"
