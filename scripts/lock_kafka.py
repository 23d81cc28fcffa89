"""Print the lock of Kafka's jars, `sha256  path in a Maven repository`, for services/weir/local/kafka-<version>.sha256.

    .venv/bin/python scripts/lock_kafka.py 4.1.2 > services/weir/local/kafka-4.1.2.sha256

Read what changed before committing it: these sums are what every later download is held against.
"""
# ruff: noqa: T201 - it prints, that is all it is for

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext


def lock(version: str, folder: Path) -> list[str]:
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    context = MavenContext(repo_cache=folder, remote_repos=repositories, timeout=30)
    # Kafka alone: whatever is resolved beside it is taken for a bill of materials, and log4j's brings Kafka's older client.
    inputs, others = context.resolver.resolve([context.create_dependency(f"org.apache.kafka:kafka_2.13:{version}")])
    artifacts = [item.artifact for item in inputs]
    artifacts += [item.artifact for item in others if item.scope in {"compile", "runtime"}]
    log4j = next(artifact.version for artifact in artifacts if artifact.artifactId == "log4j-core")
    artifacts.append(context.create_dependency(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}").artifact)
    paths = sorted(Path(artifact.resolve()) for artifact in artifacts)
    return [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}" for path in paths]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: lock_kafka.py VERSION")
    with tempfile.TemporaryDirectory() as temporary:
        print("\n".join(lock(sys.argv[1], Path(temporary))))
