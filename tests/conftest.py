"""A real Kafka and a real Azurite for a whole session, and names that no two tests share."""

from __future__ import annotations

import itertools
import os
import re
import uuid
from collections.abc import Iterator

import pytest

from weir.local.azurite import Azurite
from weir.local.downloads import fetch_azurite, fetch_kafka
from weir.local.kafka import Kafka

# Some hundred services are started as processes. Where nothing compiled is kept, each would compile all of Weir once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_numbers = itertools.count(1)
_session = uuid.uuid4().hex[:6]


def _quiet(_: str) -> None: ...


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("WEIR_", "KAFKA_"))}


@pytest.fixture(autouse=True)
def _leaves_the_environment_alone() -> Iterator[None]:
    """A setting that one test leaves behind would reach every service that a later one starts."""
    before = _settings()
    yield
    after = _settings()
    for name in after.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
    assert after == before, "the test has left settings in the environment"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of the session's broker: KAFKA_BOOTSTRAP_SERVERS, else one started on free ports for this session."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield servers
        return
    fetch_kafka(_quiet)
    # Bound: a run that is killed leaves no broker behind.
    with Kafka(tmp_path_factory.mktemp("kafka"), bound=True) as broker:
        yield broker.bootstrap_servers


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """The session's Azurite, in memory, on free ports."""
    fetch_azurite(_quiet)
    with Azurite(output=tmp_path_factory.mktemp("azurite") / "azurite.log", bound=True) as server:
        yield server


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """A prefix for topics and groups of this test alone, also on a cluster that outlives the session."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")[:40]
    return f"t{_session}-{next(_numbers)}-{name}"
