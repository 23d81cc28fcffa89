"""A catalogue of sources from the socket to the alert: labels, quarantine and release, copies by two receivers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.receivers.harness import TopicReader, free_port, running
from tests.support import eventually
from weir.bus import topics
from weir.model.ledger import minute_of
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings
from weir.receivers.syslog.receiver import SERVICE, SyslogSettings, build

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

WEIR = str(Path(sys.executable).with_name("weir"))
ZONE = "Asia/Kathmandu"
DELETES = 110
CATALOGUE = f"""
sources:
  - name: nas-1
    address: 127.0.0.2
    vendor: Example
    site: hki
    tenant: acme
    time_zone: {ZONE}
    expected_silence: 1h
    copies: true
"""
NEWCOMER = """
  - name: newcomer
    address: 127.0.0.9
    tenant: other
"""


class Site:
    """Two syslog receivers with a catalogue, a processor and a detector, and eyes on their topics."""

    def __init__(self, servers: str, prefix: str, folder: Path, stack: ExitStack) -> None:
        self.names = TopicNames(prefix)
        self.servers = servers
        self.catalogue = folder / "sources.yaml"
        self.catalogue.write_text(CATALOGUE)
        topics.apply(ServiceSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")} | {
            "WEIR_KAFKA_BOOTSTRAP_SERVERS": servers,
            "WEIR_TOPIC_PREFIX": prefix,
            "WEIR_SOURCES_FILE": str(self.catalogue),
            "WEIR_SOURCES_UNKNOWN": "quarantine",
            "WEIR_PROCESSOR_COMMIT_SECONDS": "0.1",
            "NO_COLOR": "1",
        }
        self.ports = {}
        for instance in ("left", "right"):
            port = self.ports[instance] = free_port(socket.SOCK_DGRAM)
            settings = SyslogSettings(
                kafka_bootstrap_servers=servers,
                topic_prefix=prefix,
                instance=instance,
                site="lab",
                syslog_host="127.0.0.1",
                syslog_udp_port=port,
                syslog_tcp_port=0,
                receiver_linger_ms=20,
                receiver_udp_buffer_bytes=262_144,
                receiver_ledger_seconds=0.2,
                sources_file=self.catalogue,
                sources_unknown="quarantine",
                sources_poll_seconds=0.05,
            )
            stack.enter_context(running(settings, SERVICE, build))
        for kind in ("syslog", "detector"):
            with (folder / f"{kind}.log").open("wb") as output:
                worker = subprocess.Popen([WEIR, "process", kind], env=self.environment, stdout=output, stderr=output)
            stack.callback(worker.wait, 20)
            stack.callback(worker.kill)
        self.stack = stack

    def send(self, source: str, receiver: str, *lines: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            for number, line in enumerate(lines):
                sock.sendto(line.encode(), ("127.0.0.1", self.ports[receiver]))
                if number % 50 == 49:
                    time.sleep(0.01)

    def read(self, short: str) -> TopicReader:
        reader = TopicReader(self.servers, self.names[short], 4 if short.startswith(("raw.s", "events")) else 1)
        self.stack.callback(reader.close)
        return reader

    def weir(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [WEIR, "sources", *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def site(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(kafka, topic_prefix, tmp_path, stack)


def test_an_unknown_sender_waits_in_quarantine_until_it_is_released_and_labelled(site: Site) -> None:
    raw, quarantine, events = site.read("raw.syslog"), site.read("raw.quarantine"), site.read("events.syslog")
    local = datetime.now(ZoneInfo(ZONE)).replace(microsecond=0)
    site.send("127.0.0.2", "left", f"<13>{local:%b %d %H:%M:%S} nas app: known")
    (event,) = eventually(events.poll, 60)
    assert (event["log_source_name"], event["organization_id"], event["site"]) == ("nas-1", "acme", "hki")
    assert (event["observer_vendor"], event["message"]) == ("Example", "known")
    assert event["timestamp"] == int(local.timestamp()) * 1_000_000, "Kathmandu's clock, 5:45 ahead"
    assert event["event_hash"]

    site.send("127.0.0.9", "left", *[f"<13>Nov 21 04:00:0{i} h app: unknown {i}" for i in range(5)])
    eventually(lambda: len(quarantine.units()) == 5)
    waiting = quarantine.batches()
    assert len(raw.units()) == 1
    found = site.weir("--json", "--unknown")
    rows = eventually(lambda: [r for r in json.loads(site.weir("--json", "--unknown").stdout) if r["units"] == 5], 20)
    assert [(r["address"], r["state"], r["way_in"]) for r in rows] == [("127.0.0.9", "quarantined", "syslog")], found.stdout

    assert "Nothing of 127.0.0.8 waits in quarantine." in site.weir("release", "127.0.0.8").stdout
    site.catalogue.write_text(CATALOGUE + NEWCOMER)
    assert "2 sources, no mistakes" in site.weir("check", str(site.catalogue)).stdout
    done = site.weir("release", "127.0.0.8/30", "--label")
    assert done.returncode == 0, done.stderr
    assert "with 5 units released" in done.stdout
    eventually(lambda: len(events.poll()) == 6, 30)
    released = [e for e in events.records if e["log_source_ip"] == "127.0.0.9"]
    assert {(e["log_source_name"], e["organization_id"]) for e in released} == {("newcomer", "other")}
    assert {e["event_id"][:32] for e in released} == {b.batch_id.hex() for b in waiting}

    again = site.weir("release", "127.0.0.9")
    assert "1 batch released before" in again.stdout
    site.send("127.0.0.9", "left", "<13>Nov 21 04:00:00 h app: known by now")
    eventually(lambda: any(e["message"] == "known by now" for e in events.poll()), 30)
    assert len([r for r in quarantine.poll() if r]) == len(waiting)
    as_it_was = site.weir("release", "127.0.0.9", "--again")
    assert "with 5 units released" in as_it_was.stdout
    eventually(lambda: sum(len(b.units) for b in raw.batches()) == 12, 20)
    unlabelled = [b for b in raw.batches() if b.source_ip == "127.0.0.9" and b.source_name is None]
    assert {b.batch_id for b in unlabelled} == {b.batch_id for b in waiting}


def deletes(user: str, count: int) -> list[str]:
    now = datetime.now(ZoneInfo("UTC")) - timedelta(seconds=30)
    return [
        f"<14>1 {now + timedelta(milliseconds=50 * i):%Y-%m-%dT%H:%M:%S.%fZ} q1 qumulo - - - "
        f'10.1.2.3,"AD\\{user}",smb,fs_delete,ok,{i},"/projects/{i}",""'
        for i in range(count)
    ]


def test_two_receivers_fed_the_same_lines_count_once_in_the_detector(site: Site) -> None:
    audit, alerts = site.read("events.file-audit"), site.read("alerts")
    # Less than the threshold of 100, but not if copies counted; and more than it.
    quiet, loud = deletes("trudy", 60), deletes("mallory", DELETES)
    for receiver in ("left", "right"):
        site.send("127.0.0.2", receiver, *quiet, *loud)
    sent = len(quiet) + len(loud)
    eventually(lambda: len(audit.poll()) == 2 * sent, 60)
    assert len({e["event_id"] for e in audit.records}) == 2 * sent
    assert len({e["event_hash"] for e in audit.records}) == sent, "a view of events drops copies by this"
    eventually(lambda: any(a["event_count"] == DELETES for a in alerts.poll()), 60)
    assert {a["group_by"]["user.id"] for a in alerts.records} == {"AD\\mallory"}
    assert len({a["alert_id"] for a in alerts.records}) == 1
    assert max(a["event_count"] for a in alerts.records) == DELETES


def test_weir_sources_tells_of_clocks_rates_and_silence(site: Site) -> None:
    local = datetime.now(ZoneInfo("UTC")) - timedelta(hours=5, minutes=45)
    site.send("127.0.0.2", "left", *[f"<13>{local + timedelta(hours=1):%b %d %H:%M:%S} nas app: {i}" for i in range(20)])

    def row() -> Any:
        # One hour behind where its zone says it is: the site forgot something.
        rows = json.loads(site.weir("--json").stdout or "[]")
        return next((r for r in rows if r["name"] == "nas-1" and r["units"] == 20 and r["clocks"]), None)

    found = eventually(row, 60)
    assert (found["state"], found["address"], found["datasets"]) == ("known", "127.0.0.2", ["syslog"])
    assert found["clocks"][0]["events"] == 20
    assert found["clocks"][0]["hint"] == "time zone? -10:30"
    assert minute_of(found["last_seen"]) == found["last_seen"]
    assert site.weir().returncode == 0
    site.catalogue.write_text(CATALOGUE + "  - {name: gone, address: 127.0.0.77, expected_silence: 1s}\n")
    late = site.weir()
    assert late.returncode == 1
    assert "Silent beyond what is expected: gone." in late.stdout
    wrong = site.weir("--since", "soon")
    assert (wrong.returncode, "--since: 'soon' is no duration" in wrong.stderr) == (2, True)
    site.catalogue.write_text("sources: [{nmae: x}]")
    for arguments in ((), ("check", str(site.catalogue))):
        wrong = site.weir(*arguments)
        assert wrong.returncode == 2
        assert "did you mean name?" in wrong.stderr.replace("\n", " ")
