"""Lists of indicators in every format, and what is left out of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.intel import IntelError, Report, read_list
from weir.enrich.intel.stix import PatternError, pattern_values
from weir.enrich.intel.values import Indicator, classify, normal_domain, normal_url, time_us

MD5, SHA1, SHA256 = "a" * 32, "b" * 40, "C" * 64


def read(text: str | bytes | dict[str, Any] | list[Any], name: str = "list") -> tuple[list[Indicator], Report]:
    report = Report()
    content = json.dumps(text).encode() if isinstance(text, (dict, list)) else text.encode() if isinstance(text, str) else text
    return list(read_list(name, content, report)), report


def pairs(text: str | dict[str, Any] | list[Any], name: str = "list") -> list[tuple[str, str]]:
    return [(found.kind, found.value) for found in read(text, name)[0]]


# --- values ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("203.0.113.9", ("ip", "203.0.113.9")),
        ("203.0.113.9:443", ("ip", "203.0.113.9")),
        ("203[.]0[.]113[.]9", ("ip", "203.0.113.9")),
        ("2001:DB8::0:1", ("ip", "2001:db8::1")),
        ("[2001:db8::1]:443", ("ip", "2001:db8::1")),
        ("203.0.113.0/24", ("cidr", "203.0.113.0/24")),
        ("203.0.113.9/32", ("ip", "203.0.113.9")),
        ("Evil.Example.", ("domain", "evil.example")),
        ("*.evil.example", ("domain", "evil.example")),
        ("evil[.]example:8080", ("domain", "evil.example")),
        ("bücher.example", ("domain", "xn--bcher-kva.example")),
        ("hxxps://Evil.example:443/A?b#c", ("url", "https://evil.example/A?b")),
        ("http://203.0.113.9:8080/x.sh", ("url", "http://203.0.113.9:8080/x.sh")),
        ("evil.example/path", ("url", "evil.example/path")),
        ("203.0.113.9/bins/x.sh", ("url", "203.0.113.9/bins/x.sh")),
        (MD5.upper(), ("md5", MD5)),
        (SHA1, ("sha1", SHA1)),
        (SHA256, ("sha256", SHA256.lower())),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, found: tuple[str, str]) -> None:
    assert classify(text) == found


@pytest.mark.parametrize(
    "text", ["", "evil", "1.2.3", "10.0.0.0/8", "224.0.0.0/4", "1.2.3.4/24", "1.0.0.0/7", "http://", "a b.c", "x" * 5000, "zz" * 16]
)
def test_what_cannot_be_looked_up_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        classify(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a.example", "HTTP://user@A.EXAMPLE:80/#x"),
        ("http://a.example/%7Eb/%c3%a9", "a.example/~b/%C3%A9"),
        ("https://a.example/b?c", "http://a.example/b?c"),
        ("http://a.example?q=http://b.example", "a.example/?q=http://b.example"),
    ],
)
def test_urls_that_mean_the_same_are_the_same(one: str, other: str) -> None:
    assert normal_url(one) == normal_url(other) is not None


def test_urls_that_differ_stay_different() -> None:
    urls = [
        "http://a.example/b",
        "http://a.example/B",
        "http://a.example:81/b",
        "https://a.example:80/b",
        "http://b.example/b",
        "a.example/%2f",
    ]
    assert len({normal_url(url) for url in urls}) == len(urls)


@pytest.mark.parametrize("text", ["2026-01-02 03:04:05", "2026-01-02 03:04:05 UTC", "2026-01-02T04:04:05+01:00", "1767323045"])
def test_times_are_read_as_lists_write_them(text: str) -> None:
    assert time_us(text) == 1_767_323_045_000_000


@settings(max_examples=150)
@given(st.text(st.sampled_from("a.:/?#@[]%-1xF \\é\ud800\u3002"), max_size=40))
def test_any_text_is_a_value_or_refused_in_its_own_way(text: str) -> None:
    try:
        kind, value = classify(text)
    except ValueError:
        return
    assert classify(value) == (kind, value)
    value.encode()


@settings(max_examples=100)
@given(st.text(st.sampled_from("aB.-_é\u3002*"), max_size=30))
def test_a_normal_domain_stays_as_it_is(text: str) -> None:
    domain = normal_domain(text)
    assert domain is None or normal_domain(domain) == domain


# --- plain -------------------------------------------------------------------------------------------------------------------


def test_a_plain_list_may_have_comments_notes_and_hosts() -> None:
    found, report = read(
        "# a list\n; another comment\n\n203.0.113.9\n203.0.113.0/28 ; SBL123\nevil.example # phishing kit\n"
        "hxxp://bad.example/a;b C2\n0.0.0.0 ads.example tracker.example\n127.0.0.1 localhost\nnonsense\n"
    )
    assert [(one.kind, one.value, one.description) for one in found] == [
        ("ip", "203.0.113.9", None),
        ("cidr", "203.0.113.0/28", "SBL123"),
        ("domain", "evil.example", "phishing kit"),
        ("url", "http://bad.example/a;b", "C2"),
        ("domain", "ads.example", None),
        ("domain", "tracker.example", None),
    ]
    assert report.left_out == 1
    assert report.examples == ["line 10: 'nonsense' is no address, network, domain, URL or hash"]


# --- CSV ---------------------------------------------------------------------------------------------------------------------

URLHAUS = """################
# abuse.ch URLhaus Database Dump (CSV - recent URLs)
#
# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter
"7","2026-01-02 03:04:05","http://203.0.113.9:8080/i","online","2026-01-03 00:00:00 UTC","malware_download","elf,mozi",\
"https://urlhaus.example/url/7/","x"
"""
THREATFOX = """# "first_seen_utc","ioc_id","ioc_value","ioc_type","threat_type","fk_malware","malware_alias","malware_printable",\
"last_seen_utc","confidence_level","reference","tags","anonymous","reporter"
"2026-01-02 03:04:05", "1", "203.0.113.9:4443", "ip:port", "botnet_cc", "win.x", "None", "XRat", "", "75", "None", "xrat", "0", "me"
"2026-01-02 03:04:05", "2", "evil.example", "domain", "payload_delivery", "win.x", "None", "XRat", "", "100", "", "", "0", "me"
# Number of entries: 2
"""
FEODO = """# Feodo Tracker
"first_seen_utc","dst_ip","dst_port","c2_status","last_online","malware"
"2026-01-02 03:04:05","203.0.113.9","443","online","2026-01-03","Emotet"
"""
SSLBL_IP = "# SSLBL\n# Firstseen,DstIP,DstPort\n2026-01-02 03:04:05,203.0.113.9,443\n"
BAZAAR = f"""# "first_seen_utc","sha256_hash","md5_hash","sha1_hash","reporter","file_name","signature"
"2026-01-02 03:04:05","{SHA256}","{MD5}","{SHA1}","me","a.exe","XRat"
"""


def test_urlhaus() -> None:
    (found,), report = read(URLHAUS, "urlhaus.csv")
    assert found == Indicator(
        *("url", "http://203.0.113.9:8080/i", 1_767_323_045_000_000, 1_767_398_400_000_000, None, None),
        *("https://urlhaus.example/url/7/", "malware_download, elf,mozi"),
    )
    assert report.left_out == 0


def test_threatfox_with_its_spaces_behind_commas() -> None:
    (first, second), report = read(THREATFOX)
    assert (first.kind, first.value, first.confidence) == ("ip", "203.0.113.9", 75)
    assert first.description == "botnet_cc, XRat, xrat, port 4443"
    assert (second.kind, second.value, second.confidence, second.reference) == ("domain", "evil.example", 100, None)
    assert report.left_out == 0


@pytest.mark.parametrize("text", [FEODO, SSLBL_IP], ids=["feodo", "sslbl"])
def test_lists_of_addresses_with_ports(text: str) -> None:
    (found,), _ = read(text)
    assert (found.kind, found.value, found.first_seen) == ("ip", "203.0.113.9", 1_767_323_045_000_000)
    assert "port 443" in str(found.description)


def test_malwarebazaar_has_three_hashes_a_row() -> None:
    assert pairs(BAZAAR) == [("sha256", SHA256.lower()), ("sha1", SHA1), ("md5", MD5)]


def test_certificates_of_sslbl_are_left_out_because_no_event_has_them() -> None:
    found, report = read(f"# Listingdate,SHA1,Listingreason\n2026-01-02 03:04:05,{SHA1},XRat C&C\n", "sslbl.csv")
    assert found == []
    assert "certificates" in report.examples[0]


def test_any_csv_with_a_column_of_indicators_is_read_and_broken_rows_are_counted() -> None:
    found, report = read("indicator;confidence;expires\nevil.example;50;2026-02-01\n??;1;\n;;\n", "own.csv")
    assert found == [Indicator("domain", "evil.example", None, None, 1_769_904_000_000_000, 50, None, None)]
    assert report.left_out == 2
    assert report.examples[0].startswith("line 3: '??'")


def test_a_csv_without_a_known_column_is_an_error() -> None:
    with pytest.raises(IntelError, match="no header"):
        read("a,b\n1,2\n", "x.csv")


# --- MISP --------------------------------------------------------------------------------------------------------------------


def attribute(kind: str, value: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "value": value, "to_ids": True, "timestamp": "1767323045", **more}


def test_a_misp_event_gives_what_is_for_detection() -> None:
    attributes = [
        attribute("ip-dst|port", "203.0.113.9|443", comment="C2"),
        attribute("domain|ip", "evil.example|203.0.113.10"),
        attribute("filename|sha256", f"a.exe|{SHA256}"),
        attribute("ip-src", "203.0.113.11", to_ids=False),
        attribute("mutex", "x"),
        attribute("url", "http://bad.example/", deleted=True),
    ]
    event = {
        "Event": {"info": "Campaign", "uuid": "e-1", "Attribute": attributes, "Object": [{"Attribute": [attribute("md5", MD5)]}]}
    }
    found, report = read(event)
    assert [(one.kind, one.value) for one in found] == [
        ("ip", "203.0.113.9"),
        ("domain", "evil.example"),
        ("ip", "203.0.113.10"),
        ("sha256", SHA256.lower()),
        ("md5", MD5),
    ]
    assert (found[0].description, found[0].reference, found[0].last_seen) == (
        "C2 - Campaign",
        "misp:event:e-1",
        1_767_323_045_000_000,
    )
    assert report.left_out == 2  # not for detection, and a type that no field has; what is deleted was none
    assert pairs({"response": [event, event]}) == 2 * pairs(event)
    assert pairs([event]) == pairs(event)


@pytest.mark.parametrize("text", ['{"a": 1}', "{", '[{"Event": 5}]', '{"response": []}'])
def test_json_that_is_neither_misp_nor_stix_is_an_error(text: str) -> None:
    with pytest.raises(IntelError):
        read(text)


# --- STIX --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("[ipv4-addr:value = '203.0.113.9']", [("ip", "203.0.113.9")]),
        ("[ipv4-addr:value ISSUBSET '203.0.113.0/24']", [("cidr", "203.0.113.0/24")]),
        ("[ipv6-addr:value = '2001:DB8::1']", [("ip", "2001:db8::1")]),
        (
            "[domain-name:value='evil.example' OR url:value = 'http://a.example/x']",
            [("domain", "evil.example"), ("url", "http://a.example/x")],
        ),
        ("([domain-name:value IN ('a.example', 'b.example')] OR [ipv4-addr:value = '203.0.113.9'])", None),
        (f"[file:hashes.'SHA-256' = '{SHA256}' AND file:name = 'a\\'b.exe']", [("sha256", SHA256.lower())]),
        (f"[file:hashes.MD5 = '{MD5}' AND file:hashes.'SHA-1' = '{SHA1}']", [("md5", MD5), ("sha1", SHA1)]),
        (f"[(file:hashes.MD5 = '{MD5}')]", [("md5", MD5)]),
        ("[network-traffic:dst_ref.value = '203.0.113.9']", [("ip", "203.0.113.9")]),
    ],
)
def test_a_pattern_of_equalities_becomes_indicators(pattern: str, values: list[tuple[str, str]] | None) -> None:
    expected = values or [("domain", "a.example"), ("domain", "b.example"), ("ip", "203.0.113.9")]
    assert pattern_values(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("[ipv4-addr:value = '203.0.113.9' AND domain-name:value = 'a.example']", "AND"),
        ("[ipv4-addr:value = '203.0.113.9' AND network-traffic:dst_port = 443]", "AND"),
        ("[ipv4-addr:value = '203.0.113.9'] AND [domain-name:value = 'a.example']", "only OR"),
        ("[ipv4-addr:value = '203.0.113.9'] FOLLOWEDBY [domain-name:value = 'a.example']", "only OR"),
        ("[ipv4-addr:value = '203.0.113.9'] WITHIN 300 SECONDS", "only OR"),
        ("[domain-name:value LIKE '%.example']", "operator"),
        ("[NOT domain-name:value = 'a.example']", "."),
        ("[domain-name:value != 'a.example']", "operator"),
        ("[file:size = 5]", "no field"),
        ("[process:name = 'x' OR ipv4-addr:value = '203.0.113.9']", "no field"),
        ("[ipv4-addr:value = 'a.example']", "no value of"),
        ("[ipv4-addr:value = ", "."),
        ("(" * 100, "deeper"),
        ("[" + "(" * 100, "deeper"),
        ("", "."),
        ("x" * 30_000, "longer"),
    ],
)
def test_a_pattern_that_would_match_more_than_it_means_is_left_out(pattern: str, words: str) -> None:
    with pytest.raises(PatternError, match=words):
        pattern_values(pattern)


def test_a_bundle_gives_its_indicators_with_confidence_and_end() -> None:
    one = {
        "type": "indicator",
        "id": "indicator--1",
        "pattern_type": "stix",
        "pattern": "[domain-name:value = 'evil.example']",
        "valid_from": "2026-01-02T03:04:05Z",
        "valid_until": "2026-02-01T00:00:00.000Z",
        "confidence": 80,
        "name": "Evil",
        "external_references": [{"source_name": "x"}, {"source_name": "y", "url": "https://intel.example/1"}],
    }
    others = [{**one, "revoked": True}, {**one, "pattern_type": "snort"}, {**one, "pattern": "[a:b = 'c']"}, {"type": "malware"}, 5]
    found, report = read({"objects": [one, *others], "type": "bundle", "id": "bundle--1"})
    assert found == [
        Indicator(
            *("domain", "evil.example", 1_767_323_045_000_000, None, 1_769_904_000_000_000, 80, "https://intel.example/1", "Evil")
        )
    ]
    assert report.left_out == 3
    assert pairs({"objects": [one]}) == [("domain", "evil.example")]  # a TAXII envelope


# --- anything ----------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "bundle", "indicator", "ip-src", "203.0.113.9|1", "[a:b='c']", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "objects",
                    "pattern",
                    "Event",
                    "Attribute",
                    "Object",
                    "value",
                    "to_ids",
                    "response",
                    "valid_until",
                    "confidence",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=150)
@given(JSON)
def test_no_json_raises_anything_but_the_lists_own_error(document: Any) -> None:
    try:
        found, _ = read(json.dumps(document).encode())
    except IntelError:
        return
    for one in found:
        assert classify(one.value)[0] == one.kind


@settings(max_examples=100)
@given(st.sampled_from([URLHAUS, THREATFOX, FEODO, BAZAAR, "203.0.113.9 # x\n"]), st.data())
def test_no_mutation_of_a_list_raises_anything_but_the_lists_own_error(text: str, data: st.DataObject) -> None:
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        read(bytes(content), data.draw(st.sampled_from(["x.csv", "x.txt", "x"])))
    except IntelError:
        return


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            ["[", "]", "(", ")", "'a'", "=", "OR", "AND", "IN", ",", "file:hashes.'MD5'", "domain-name:value", "'a.b'", "\\"]
        )
    )
)
def test_no_pattern_raises_anything_but_its_own_error(tokens: list[str]) -> None:
    try:
        found = pattern_values(" ".join(tokens))
    except PatternError:
        return
    assert all(classify(value)[0] == kind for kind, value in found)


def test_a_quotation_mark_that_is_not_closed_is_told_since_it_takes_the_rest_of_the_list() -> None:
    rows = ['198.51.100.1,"open', *(f"198.51.100.{number},x" for number in range(2, 60))]
    report = Report()
    found = list(read_list("a.csv", "\n".join(["indicator,comment", *rows]).encode(), report))
    assert len(found) == 1
    assert report.left_out == 1
    assert report.examples == ["line 2: a row of 59 lines: a quotation mark is not closed, and what is behind it is lost"]
