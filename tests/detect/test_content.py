"""Rules for Qumulo, Kemp, IDS and sensors find what devices really send: raw lines through the processors, alerts with entities."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.detect.scenes import (
    BEGIN,
    DAY,
    HOUR,
    MINUTE,
    RULE_IDS,
    Unit,
    audit,
    document,
    esp,
    eve,
    every,
    fired,
    line,
    rule_set,
    zeek,
)  # fmt: skip
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.syslog import SyslogUnits

CLIENT = "198.51.100.9"
MALLORY = {"user": "mallory", "source_address": "10.66.6.6"}
FAMILIES = ("qumulo/", "kemp/", "ids/", "across/login_")


@dataclass(frozen=True)
class Scene:
    """What happens, and the alerts of these families that it raises, with some of their entities."""

    name: str
    units: list[Unit]
    raises: dict[str, dict[str, str]]
    more: list[Unit] = field(default_factory=list)


def denied(at: float, number: int, user: str = "nora", client: str = CLIENT) -> Unit:
    return esp(at, "Access Denied", srcip=client, user=user, msg="denied access")


def admin(at: float, operation: str, path: str = "") -> Unit:
    return audit(at, operation, path, protocol="api")


def alert(signature: str, severity: int, **more: Any) -> dict[str, Any]:
    found = {"action": "allowed", "gid": 1, "signature_id": 9000101, "rev": 3, "signature": signature, "severity": severity}
    return {"event_type": "alert", "alert": found | {"category": "Web Application Attack"}, **more}


def sensor(at: float, kind: str, message: str, instrument: str = "netmon_1") -> Unit:
    name = f"{instrument}@harbour-sensor-2"
    envelope = {"source_sensor": "harbour-sensor-2", "source_instrument": name, "type": kind, "message": message}
    return document(at, envelope | {"uuid": "9b1d", "sensor_event_id": 1, "timestamp": at, "data": {"interface": "mirror0"}})


def waf(at: float, rule: str) -> Unit:
    text = (
        f"[client {CLIENT}] ModSecurity: Access denied with code 403 (phase 2). Pattern match at ARGS:id. "
        f'[file "/opt/waf/crs.conf"] [line "12"] [id "{rule}"] [msg "SQL Injection Attack"] [severity "CRITICAL"] '
        '[tag "attack-sqli"] [hostname "shop.example.test"] [uri "/item"]'
    )
    return line(at, "lm-1", "wafd", text)


def denied_in_words(at: float, number: int) -> Unit:
    return line(at, "lm-1", "l7log", f'10.30.0.15:443: User "nora" denied access from 203.0.113.{number}')


DELETIONS = every(0.1, 150, lambda at, n: audit(at, "fs_delete", f"/projects/{n}.xlsx"), after=HOUR)
NIGHT = 12 * HOUR

SCENES = [
    Scene("files are deleted", DELETIONS, {"qumulo_mass_delete": MALLORY}),
    Scene(
        "files are renamed to nothing known",
        every(0.1, 150, lambda at, n: audit(at, "fs_rename", f"/p/{n}.docx", to=f"/p/{n}.docx.k3f9")),
        {"qumulo_mass_rename": MALLORY},
    ),
    Scene(
        "encrypted copies are written beside the originals",
        every(1, 12, lambda at, n: audit(at, "fs_create_file", f"/p/{n}.docx.LockBit")),
        {"qumulo_ransomware_extension": MALLORY},
    ),
    Scene(
        "notes are left in folders",
        every(1, 6, lambda at, n: audit(at, "fs_create_file", f"/p/{n}/7xKq29bWz.README.txt")),
        {"qumulo_ransom_note": MALLORY},
    ),
    Scene(
        "somebody looks into everything",
        every(1, 60, lambda at, n: audit(at, "fs_open", f"/hr/{n}.pdf", status="fs_access_denied_error")),
        {"qumulo_denied_user": MALLORY},
    ),
    Scene(
        "everybody is shut out of a folder",
        every(20, 6, lambda at, n: audit(at, "fs_open", "/board", user=f"EXAMPLE\\u{n}", status="fs_access_denied_error")),
        {"qumulo_denied_path": {"file": "/board"}},
    ),
    Scene(
        "a user comes from elsewhere after three weeks",
        every(DAY, 21, lambda at, n: audit(at, "smb_login", client="10.40.1.11")),
        {"qumulo_new_client": MALLORY},
        [audit(BEGIN + 21 * DAY, "smb_login")],
    ),
    Scene(
        "a stranger on a share after three weeks",
        every(DAY, 21, lambda at, n: audit(at, "share_connect", "/payroll", user="EXAMPLE\\nora", client="10.40.1.11")),
        {"qumulo_new_user_on_share": MALLORY | {"file": "/payroll"}},
        [audit(BEGIN + 21 * DAY, "share_connect", "/payroll")],
    ),
    Scene("snapshots go", every(5, 12, lambda at, n: admin(at, "snapshot_delete_snapshot")), {"qumulo_snapshot_deleted": MALLORY}),
    Scene("a policy is changed", [admin(BEGIN, "snapshot_modify_policy")], {"qumulo_snapshot_changed": MALLORY}),
    Scene(
        "auditing is turned off, of which the beginning arrives",
        [
            admin(BEGIN, "begin_audit_modify_syslog_config"),
            audit(BEGIN + 1, "remote_syslog_shutdown", user="system", protocol="internal"),
        ],
        {"qumulo_audit_tampering": MALLORY},
    ),
    Scene(
        "a tree is read at night",
        every(2, 1100, lambda at, n: audit(at, "fs_read_data", f"/p/{n}.dwg"), after=NIGHT),
        {"qumulo_off_hours_bulk_read": MALLORY},
    ),
    Scene("a share is made", [admin(BEGIN, "smb_create_share", "/projects")], {"qumulo_access_configuration": MALLORY}),
    Scene("a user is made", [admin(BEGIN, "auth_create_user")], {"qumulo_rights_granted": MALLORY}),
    Scene(
        "passwords are guessed at the cluster",
        every(2, 40, lambda at, n: audit(at, "rest_login", user="admin", protocol="api", status="cred_error")),
        {"qumulo_login_failures": {"source_address": "10.66.6.6", "user": "admin"}},
    ),
    Scene(
        "passwords of many users are guessed at the load balancer",
        every(10, 40, lambda at, n: denied(at, n, f"user{n}@example.test")),
        {"kemp_brute_force_source": {"source_address": CLIENT}, "kemp_password_spraying": {"source_address": CLIENT}},
    ),
    Scene(
        "one user's password is guessed from many addresses, told in the LoadMaster's own words",
        every(5, 30, denied_in_words),
        {"kemp_brute_force_user": {"user": "nora"}},
    ),
    Scene(
        "a password is guessed and found",
        every(2, 50, denied),
        {
            "kemp_brute_force_source": {"source_address": CLIENT},
            "kemp_brute_force_user": {"user": "nora"},
            "kemp_success_after_failures": {"source_address": CLIENT},
            "kemp_success_after_failures_user": {"user": "nora"},
        },
        [esp(BEGIN + 5 * MINUTE, "Logged on", srcip=CLIENT, user="nora", msg="logged on")],
    ),
    Scene(
        "SQL in requests to the load balancer",
        every(1, 20, lambda at, n: esp(
            at, "Attempt", srcip=CLIENT, srcport=40000 + n, method="GET",
            url=f"https://shop.example.test/i?id={n}%27%20UNION%20ALL%20SELECT%201--", useragent="Mozilla/5.0",
        )),
        {"web_sql_injection": {"source_address": CLIENT, "domain": "shop.example.test"}},
    ),
    Scene(
        "SQL in requests that Zeek saw",
        every(1, 20, lambda at, n: zeek(
            at, "http", **{"id.orig_h": CLIENT, "id.orig_p": 5000, "id.resp_h": "10.20.0.8", "id.resp_p": 80},
            method="GET", host="shop.example.test", uri=f"/i?id={n}+or+1=1",
        )),
        {"web_sql_injection": {"source_address": CLIENT, "destination_address": "10.20.0.8"}},
    ),
    Scene(
        "paths that climb, as Suricata saw them",
        every(1, 20, lambda at, n: eve(
            at, "http", src_ip=CLIENT, http={"hostname": "shop.example.test", "url": f"/img?n=..%2f..%2fetc%2fpasswd&x={n}"},
        )),
        {"web_path_traversal": {"source_address": CLIENT, "domain": "shop.example.test"}},
    ),
    Scene(
        "a scanner that names itself",
        [esp(BEGIN, "Attempt", srcip=CLIENT, srcport=40190, method="GET", url="https://x.example.test/", useragent="sqlmap/1.8")],
        {"web_scanner_agent": {"source_address": CLIENT}},
    ),
    Scene(
        "the servers of a service are down",
        every(0.5, 320, lambda at, n: esp(
            at, "Connection failed", srcip=f"203.0.113.{n % 250}", srcport=4000, dstip="10.30.1.22", dstport=8443,
        )),
        {"kemp_connection_failures": {"virtual_service": "10.30.0.15", "destination_address": "10.30.1.22"}},
    ),
    Scene(
        "one client fails and fails",
        every(1, 120, lambda at, n: esp(at, "Connection timed out", srcip=CLIENT, srcport=4000, awaiting="10.30.1.21")),
        {"kemp_connection_failures_client": {"source_address": CLIENT, "virtual_service": "10.30.0.15"}},
    ),
    Scene(
        "an administrator comes from elsewhere after three weeks",
        every(DAY, 21, lambda at, n: esp(at, "Logged on", srcip="10.1.1.1", user="EXAMPLE\\nora-adm", msg="logged on")),
        {"kemp_new_admin_source": {"user": "EXAMPLE\\nora-adm", "source_address": CLIENT}},
        [esp(BEGIN + 21 * DAY, "Logged on", srcip=CLIENT, user="EXAMPLE\\nora-adm", msg="logged on")],
    ),
    Scene(
        "the firewall blocks by several rules",
        every(2, 40, lambda at, n: waf(at, f"94210{n % 6}")),
        {
            "kemp_waf_blocks": {"source_address": CLIENT, "domain": "shop.example.test"},
            "kemp_waf_many_rules": {"source_address": CLIENT},
        },
    ),
    Scene(
        "an exploit that Suricata let pass",
        every(60, 3, lambda at, n: eve(at, **alert("EXPLOIT something", 1))),
        {"ids_severe": {"source_address": "198.51.100.23", "destination_address": "10.20.0.8", "signature": "EXPLOIT something"}},
    ),
    Scene(
        "Snort sees the same again and again",
        every(60, 12, lambda at, n: line(at, "ids-2", "snort", (
            "[1:9000102:1] SCAN many SSH connections [Classification: Attempted Information Leak] [Priority: 2] "
            "{TCP} 203.0.113.9:40022 -> 10.20.0.9:22"
        ))),
        {"ids_repeated": {"source_address": "203.0.113.9", "destination_address": "10.20.0.9"}},
    ),
    Scene(
        "several signatures and a notice of one source about one target",
        every(60, 5, lambda at, n: eve(at, **alert(f"WEB attack {n}", 2))),
        {
            "ids_many_signatures": {"destination_address": "10.20.0.8"},
            "ids_many_signatures_source": {"source_address": "198.51.100.23"},
            "zeek_scan": {"source_address": "198.51.100.23", "destination_address": "10.20.0.8"},
        },
        [zeek(BEGIN + 30, "notice", note="Scan::Port_Scan", msg="scanned", src="198.51.100.23", dst="10.20.0.8")],
    ),
    Scene(
        "Zeek sees a guesser, and that the guesser gets in",
        [
            zeek(BEGIN, "notice", note="SSH::Password_Guessing", msg="guessing", src="203.0.113.9"),
            zeek(BEGIN + 60, "notice", note="SSH::Login_By_Password_Guesser", msg="got in", src="203.0.113.9", dst="10.20.0.9"),
        ],
        {"zeek_guessing": {"source_address": "203.0.113.9"}, "zeek_attack": {"destination_address": "10.20.0.9"}},
    ),
    Scene(
        "Zeek loses packets",
        [zeek(BEGIN, "notice", note="CaptureLoss::Too_Much_Loss", msg="lost 12%")],
        {"zeek_blind": {"signature": "CaptureLoss::Too_Much_Loss"}},
    ),
    Scene(
        "a mirror port loses its link",
        every(30, 4, lambda at, n: sensor(at, "instruments.netmon.error", "interface mirror0 has lost its link")),
        {"sensor_instrument_error": {"sensor": "harbour-sensor-2", "application": "netmon_1@harbour-sensor-2"}},
    ),
    Scene(
        "a log forwarder fails for a quarter of an hour",
        every(60, 15, lambda at, n: sensor(
            at, "instruments.logforwarder.pipeline_stats", "pipeline weir processed=184, errors=70", "logforwarder_0",
        )),
        {"sensor_pipeline_errors": {"sensor": "harbour-sensor-2"}},
    ),
    Scene(
        "a password is guessed and then files go, by the same user",
        every(2, 25, lambda at, n: denied(at, n, "EXAMPLE\\mallory")),
        {
            "kemp_brute_force_user": {"user": "EXAMPLE\\mallory"},
            "qumulo_mass_delete": MALLORY,
            "login_failures_then_deletions": {},
        },
        DELETIONS,
    ),
    Scene(
        "the same where the domain is not typed",
        every(2, 25, lambda at, n: denied(at, n, "mallory")),
        {"kemp_brute_force_user": {"user": "mallory"}, "qumulo_mass_delete": MALLORY, "login_failures_then_deletions_name": {}},
        DELETIONS,
    ),
    Scene(
        "passwords are guessed and then files go, from the same address",
        every(2, 35, lambda at, n: denied(at, n, f"user{n % 10}", "10.66.6.6")),
        {
            "kemp_brute_force_source": {"source_address": "10.66.6.6"},
            "qumulo_mass_delete": MALLORY,
            "login_failures_then_deletions_address": {},
        },
        DELETIONS,
    ),
]  # fmt: skip


def ours() -> set[str]:
    """Names of what raises alerts in these families."""
    ids = {one.id for one in rule_set().correlations if one.announce and one.file.startswith(FAMILIES)}
    return {name for name, identity in RULE_IDS.items() if identity in ids}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_what_devices_send_raises_these_alerts_and_no_others(scene: Scene) -> None:
    found = {name: alerts for name, alerts in fired(scene.units + scene.more).items() if name in ours()}
    assert set(found) == set(scene.raises)
    for name, entities in scene.raises.items():
        (told,) = found[name]
        assert entities.items() <= told["entities"].items(), name


def test_every_rule_of_these_families_that_alerts_has_a_scene() -> None:
    assert ours() == {name for scene in SCENES for name in scene.raises}


def test_the_background_that_is_generated_raises_nothing() -> None:
    lines, documents = SyslogUnits(1, 4000, mass_deletes=0, specials=False), BeatsUnits(1, 1000, specials=False)
    # Forty thousand lines in thirteen seconds, as the demo sends them.
    at = [BEGIN + number / 3000 for number in range(lines.amount)]
    units = [Unit(when, lines.unit(number, round(when * 1e6)).data, "syslog") for number, when in enumerate(at)]
    units += [
        Unit(when, documents.unit(number, round(when * 1e6)).data, "beats")
        for number, when in enumerate(at[:: lines.amount // documents.amount])
    ]
    assert fired(units) == {}


def test_every_rule_of_these_families_that_alerts_is_in_the_page_about_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rules-content.md").read_text(encoding="utf-8")
    assert [name for name in sorted(ours()) if f"\n| {name} |" not in page] == []
