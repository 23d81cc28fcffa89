"""Reading a folder of rules whole, as it stood at one moment."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["MAX_FILES", "MAX_FILE_BYTES", "SUPPRESSIONS", "Contents", "Signature", "read_folder", "signature_of"]

SUPPRESSIONS: Final = "suppressions.yml"
"""A file at the top of a folder that may be kept beside the rules and holds none."""

MAX_FILE_BYTES: Final = 1_000_000
"""Of one file; of a longer one no more than one byte beyond that is read, so that it can be told."""

MAX_FILES: Final = 20_000
"""A folder with more is refused as a whole: it is more likely the root of a disk than one of rules."""

MAX_ATTEMPTS: Final = 5
"""Times a folder is read before it is said to be changing all the while."""

Contents = Mapping[str, bytes | OSError]
"""By path within the folder, with `/`: a file's bytes, or why it cannot be read."""

Signature = frozenset[tuple[str, int, int, int, int]]
"""What differs once a file was changed, replaced, added or removed: path, time of change and of the inode, inode, size."""


def read_folder(root: Path) -> dict[str, bytes | OSError]:
    """The YAML files of a folder and its sub-folders.

    What begins with a dot is left out: a volume of a ConfigMap shows each file a second time in such a folder. The folder is read
    until two readings agree, so that what a deployment replaces meanwhile is seen as it was or as it is, never half of each.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: it cannot be listed, has more than MAX_FILES, or does not stand still.
    """
    before = _read(root)
    for _ in range(MAX_ATTEMPTS):
        now = _read(root)
        if _comparable(now) == _comparable(before):
            return now
        before = now
    raise OSError(f"{root}: its files change while they are read")


def signature_of(root: Path) -> tuple[Signature, int]:
    """What to compare before a folder is read again, and its latest time of change in nanoseconds UTC.

    A change within the granularity of the file system's clock may leave it as it was: one so recent proves nothing.

    Raises:
        OSError: there is no such folder, or it cannot be listed.
    """
    found, latest = set(), 0
    for path, name in _files(root):
        try:
            status = os.stat(path)
        except OSError:
            found.add((name, 0, 0, 0, 0))
            continue
        found.add((name, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size))
        latest = max(latest, status.st_mtime_ns, status.st_ctime_ns)
    return frozenset(found), latest


def _read(root: Path) -> dict[str, bytes | OSError]:
    contents: dict[str, bytes | OSError] = {}
    for path, name in _files(root):
        try:
            contents[name] = _content(path)
        except OSError as error:
            contents[name] = error
    return contents


def _content(path: str) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):
        # A pipe would keep its reader waiting.
        raise OSError(errno.EINVAL, "not a regular file")
    with open(path, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _files(root: Path) -> Iterator[tuple[str, str]]:
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of rules; WEIR_RULES_DIR must name one with Sigma files (*.yml)")

    def unlisted(error: OSError) -> None:
        raise error

    found = []
    top = len(os.path.join(root, ""))
    for folder, folders, names in os.walk(root, onerror=unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in names if name.endswith((".yml", ".yaml")) and not name.startswith(".")]
        if len(found) > MAX_FILES:
            raise OSError(f"{root}: has more than {MAX_FILES} YAML files; WEIR_RULES_DIR must name a folder of rules")
    for path in sorted(found):
        yield path, path[top:].replace(os.sep, "/")


def _comparable(contents: Contents) -> dict[str, bytes | str]:
    return {name: content if isinstance(content, bytes) else str(content) for name, content in contents.items()}
