"""What an event of Windows was about, where its data says so: connections, processes, files, names that were asked for.

Names of the data are those of Sysmon's events (Microsoft, "Sysmon", 1 to 26) and of the Security log's audits of processes (4688),
files (4656, 4663) and the Windows Filtering Platform (5152 to 5159).
"""

from __future__ import annotations

from typing import Any, Final

from weir.protocols._values import address

__all__ = ["base_name", "object_fields"]

_ADDRESSES: Final = (
    ("source_ip", ("SourceIp", "SourceAddress")),
    ("destination_ip", ("DestinationIp", "DestAddress")),
)
_PORTS: Final = (("source_port", ("SourcePort", "IpPort")), ("destination_port", ("DestinationPort", "DestPort")))
_PROCESSES: Final = ("NewProcessName", "ProcessName", "Image", "SourceImage", "Application")
_TRANSPORTS: Final = {"tcp": 6, "udp": 17, "6": 6, "17": 17}
_NAMES: Final = {6: "tcp", 17: "udp"}
_HASHES: Final = {"MD5": ("file_hash_md5", 32), "SHA1": ("file_hash_sha1", 40), "SHA256": ("file_hash_sha256", 64)}
_HEXADECIMAL: Final = frozenset("0123456789abcdef")


def base_name(path: str) -> str | None:
    """The last part of a path."""
    return path.replace("\\", "/").rpartition("/")[2] or None


def object_fields(data: dict[str, str]) -> dict[str, Any]:
    """Fields of events, by the names of an event's data; what is not told, or told in no usable way, is not there.

    Hashes are those of the file that the event is about: of the program that began, the library or driver that was loaded, the file
    that was made or deleted.
    """
    fields: dict[str, Any] = {}
    for field, names in _ADDRESSES:
        if (found := _first(data, names)) and (ip := address(found.partition("%")[0].removeprefix("::ffff:"))) is not None:
            fields[field] = ip
    for field, names in _PORTS:
        port = _first(data, names) or ""
        if port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65_536:
            fields[field] = int(port)
    if len(fields) > 1 and (number := _TRANSPORTS.get(data.get("Protocol", "").lower())) is not None:
        fields["network_iana_number"], fields["network_transport"] = number, _NAMES[number]
    if (program := _first(data, _PROCESSES)) and (name := base_name(program)) is not None:
        fields["process_name"] = name
    if question := data.get("QueryName"):
        fields["dns_question_name"] = question
    path = data.get("TargetFilename") or data.get("ImageLoaded")
    if path is None and data.get("ObjectType") == "File":
        path = data.get("ObjectName")
    if path:
        fields["file_path"] = path
        if (name := base_name(path)) is not None:
            fields["file_name"] = name
    for pair in data.get("Hashes", "").split(",")[:8]:
        kind, _, digest = pair.strip().partition("=")
        field, length = _HASHES.get(kind, ("", 0))
        digest = digest.lower()
        if field and len(digest) == length and _HEXADECIMAL.issuperset(digest):
            fields[field] = digest
    return fields


def _first(data: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((data[name] for name in names if name in data), None)
