"""Downloads: checked against our own sums, used without network once verified, and refused with a way out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from weir.local import downloads
from weir.local.downloads import Jar, cache_dir, fetch_kafka, kafka_folder, kafka_jars, locked_jars
from weir.local.errors import Unavailable

_CONTENT = {"a-1.jar": b"first", "b-2.jar": b"second"}


def _quiet(_: str) -> None: ...


def _path(name: str) -> str:
    artifact, version = name.removesuffix(".jar").split("-")
    return f"org/example/{artifact}/{version}/{name}"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of two small jars, an empty cache, an empty Maven repository (returned), and no registry to be reached."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {_path(name)}\n" for name, data in _CONTENT.items()]
    (tmp_path / "lock").write_text("".join(lines))
    monkeypatch.setattr(downloads, "_KAFKA_LOCK", tmp_path / "lock")
    monkeypatch.setenv("WEIR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    (tmp_path / "jgo.conf").write_text("[repositories]\ncentral = http://127.0.0.1:9\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "m2"


def _serve(repository: Path, content: dict[str, bytes] = _CONTENT) -> None:
    for name, data in content.items():
        (repository / _path(name)).parent.mkdir(parents=True, exist_ok=True)
        (repository / _path(name)).write_bytes(data)


def test_the_checked_in_list_has_kafka_its_log_binding_and_each_file_once() -> None:
    jars = locked_jars()
    names = [jar.name for jar in jars]
    assert f"kafka_2.13-{downloads.KAFKA_VERSION}.jar" in names
    assert f"kafka-clients-{downloads.KAFKA_VERSION}.jar" in names
    assert any(name.startswith("log4j-slf4j-impl-") for name in names), "without it the broker logs nothing"
    assert len(set(names)) == len(names)
    assert all(len(jar.sha256) == 64 for jar in jars)


def test_a_line_gives_the_coordinate() -> None:
    jar = Jar("0" * 64, "org/apache/kafka/kafka_2.13/4.1.2/kafka_2.13-4.1.2.jar")
    assert (jar.coordinate, jar.name) == ("org.apache.kafka:kafka_2.13:4.1.2", "kafka_2.13-4.1.2.jar")


def test_the_node_lock_names_no_address_and_every_package_has_a_sum() -> None:
    lock = json.loads((Path(downloads.__file__).parent / "azurite" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages["node_modules/azurite"]["version"] == downloads.AZURITE_VERSION
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert not [name for name, entry in packages.items() if "integrity" not in entry]


def test_the_cache_folder_is_chosen_by_its_variable_then_by_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("WEIR_CACHE_DIR", raising=False)
    assert cache_dir() == tmp_path / "xdg" / "weir"
    monkeypatch.setenv("WEIR_CACHE_DIR", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_what_is_not_fetched_is_said_with_the_command_that_fetches_it(lock: Path) -> None:
    with pytest.raises(Unavailable, match=r"a-1\.jar is missing") as caught:
        kafka_jars()
    assert "weir dev fetch" in caught.value.way_out


def test_jars_of_a_local_maven_repository_are_taken_and_the_second_time_nothing_is_done(lock: Path) -> None:
    _serve(lock)
    assert fetch_kafka(_quiet) is True
    assert [path.read_bytes() for path in kafka_jars()] == list(_CONTENT.values())
    shutil.rmtree(lock)
    assert fetch_kafka(_quiet) is False
    assert sorted(path.name for path in kafka_folder().iterdir()) == [*_CONTENT, "verified.json"]


def test_an_unchanged_jar_is_not_read_again(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(lock)
    fetch_kafka(_quiet)
    monkeypatch.setattr(downloads, "_sha256", lambda path: pytest.fail(f"{path} was read"))
    assert len(kafka_jars()) == 2


def test_a_touched_jar_of_the_same_content_is_verified_anew_and_used(lock: Path) -> None:
    _serve(lock)
    fetch_kafka(_quiet)
    os.utime(kafka_folder() / "a-1.jar", (1, 1))
    assert len(kafka_jars()) == 2


def test_a_changed_jar_is_an_error_and_fetch_replaces_it(lock: Path) -> None:
    _serve(lock)
    fetch_kafka(_quiet)
    (kafka_folder() / "b-2.jar").write_bytes(b"tampered")
    with pytest.raises(Unavailable, match=r"b-2\.jar is not the file .* it is not used"):
        kafka_jars()
    assert fetch_kafka(_quiet) is True
    assert (kafka_folder() / "b-2.jar").read_bytes() == _CONTENT["b-2.jar"]


def test_no_registry_reached_names_proxy_and_mirror_settings_and_the_own_cluster(lock: Path) -> None:
    with pytest.raises(Unavailable, match="no registry reached") as caught:
        fetch_kafka(_quiet)
    for setting in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "JGO_CONFIG_FILE", "KAFKA_BOOTSTRAP_SERVERS"):
        assert setting in caught.value.way_out
    assert not list(kafka_folder().iterdir()), "a failed fetch leaves nothing behind"


def test_a_registry_that_serves_something_else_is_not_believed(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def served(jar: Jar, incoming: Path) -> Path:
        (incoming / jar.name).write_bytes(b"something else")
        return incoming / jar.name

    monkeypatch.setattr(downloads, "_download", served)
    with pytest.raises(Unavailable, match=r"was served with SHA-256 .*expected"):
        fetch_kafka(_quiet)
    assert not list(kafka_folder().glob("*.jar"))


def test_a_wrong_file_in_the_local_maven_repository_is_passed_over(lock: Path) -> None:
    _serve(lock, {"a-1.jar": b"broken transfer", "b-2.jar": _CONTENT["b-2.jar"]})
    with pytest.raises(Unavailable, match=r"org\.example:a:1 cannot be fetched"):
        fetch_kafka(_quiet)


def test_a_full_disk_is_found_before_anything_is_fetched(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 << 20))
    with pytest.raises(Unavailable, match=r"no disk space for Kafka: .* needs 250 MB, 10 MB are free") as caught:
        fetch_kafka(_quiet)
    assert "WEIR_CACHE_DIR" in caught.value.way_out


def test_a_cache_that_is_no_folder_is_named(lock: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WEIR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(Unavailable, match="cannot be written"):
        fetch_kafka(_quiet)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("npm error code ENOTFOUND\nnpm error network request failed", "npm says:\nnpm error code ENOTFOUND"),
        ("npm error code EINTEGRITY", "not the one the lock file names"),
        ("npm error code ENOSPC", "disk of .* is full"),
    ],
)
def test_npm_that_fails_is_quoted_with_a_way_out(lock: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: str) -> None:
    def npm(*_: object, stdout: object, **__: object) -> SimpleNamespace:
        stdout.write(said.encode())  # type: ignore[attr-defined]
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(subprocess, "run", npm)
    with pytest.raises(Unavailable, match=expected) as caught:
        downloads.fetch_azurite(_quiet)
    assert "NPM_CONFIG_REGISTRY" in caught.value.way_out or "WEIR_CACHE_DIR" in caught.value.way_out
