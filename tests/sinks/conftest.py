"""Stand-ins for what sinks talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.local.standins.dcr import Stream
from weir.local.standins.logs_ingestion import LogsIngestionStandIn
from weir.local.standins.siem import SiemStandIn
from weir.model.mappings import projectable_topics, projection

from .kafka_bench import KafkaBench

DCR = "dcr-0123456789abcdef"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"))


def dcr_streams() -> dict[str, Stream]:
    """Stream declarations as the mappings need them."""
    found = [projection("sentinel", topic) for topic in projectable_topics()]
    return {p.stream: Stream(p.stream, p.table, {c.name: c.type for c in p.columns}, p.id_column) for p in found}


@pytest.fixture
def logs_ingestion(certificates: CertificateFiles, tmp_path: Path) -> Iterator[LogsIngestionStandIn]:
    with LogsIngestionStandIn({DCR: dcr_streams()}, certificates, data=tmp_path / "tables") as server:
        yield server


@pytest.fixture
def siem(certificates: CertificateFiles, tmp_path: Path) -> Iterator[SiemStandIn]:
    with SiemStandIn(certificates=certificates, data=tmp_path / "siem", receive_buffer=4096) as server:
        yield server


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("a-token\n")
    return path


@pytest.fixture
def bench(kafka: str, topic_prefix: str) -> Iterator[KafkaBench]:
    made = KafkaBench(kafka, topic_prefix)
    yield made
    made.close()
