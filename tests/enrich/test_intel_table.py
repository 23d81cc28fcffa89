"""All lists as one table: what holds a value, for how long, and how many there may be."""

from __future__ import annotations

import pytest

from weir.enrich.addresses import parse_address
from weir.enrich.intel import IntelError, IntelList, IntelTable, Match, Report, as_record, compile_intel, read_list

DAY = 86_400_000_000
AS_OF = 20_000 * DAY


def table(*lists: tuple[str, str], limit: int = 1000, max_age_days: float = 90) -> IntelTable:
    read = []
    for provider, text in lists:
        report = Report()
        read.append(IntelList(provider, AS_OF, read_list(provider, text.encode(), report), report))
    return compile_intel(read, limit=limit, max_age_days=max_age_days)


def said(matches: tuple[Match, ...]) -> list[tuple[str, str]]:
    return [(match.indicator, match.details.provider) for match in matches]


def at(found: IntelTable, text: str) -> tuple[Match, ...]:
    address = parse_address(text)
    assert address is not None
    return found.of_address(address)


def test_an_address_is_held_by_itself_and_by_networks_the_longest_first() -> None:
    found = table(("a", "203.0.113.9\n203.0.113.0/24\n203.0.112.0/23\n2001:db8::/32"))
    assert said(at(found, "203.0.113.9")) == [("203.0.113.9", "a"), ("203.0.113.0/24", "a"), ("203.0.112.0/23", "a")]
    assert said(at(found, "2001:db8::5")) == [("2001:db8::/32", "a")]
    assert at(found, "198.51.100.1") == ()
    assert found.counts() == {"cidr": 3, "ip": 1}


def test_a_domain_is_held_by_the_domains_above_it_but_not_by_their_likes() -> None:
    found = table(("a", "evil.example\nwww.evil.example"))
    assert said(found.of_domain("A.www.EVIL.example.")) == [("www.evil.example", "a"), ("evil.example", "a")]
    assert found.of_domain("notevil.example") == ()
    assert found.of_domain("example") == ()
    assert said(found.of_domain("a." * 100 + "evil.example")) == [("evil.example", "a")]


def test_urls_and_hashes_are_held_by_themselves_in_any_spelling() -> None:
    found = table(("a", f"https://evil.example/A\n{'a' * 32}"))
    assert said(found.of_url("HTTP://Evil.example:80/A#x")) == [("https://evil.example/A", "a")]
    assert found.of_url("http://evil.example/a") == ()
    assert said(found.of_hash("A" * 32)) == [("a" * 32, "a")]
    assert found.of_hash("nonsense") == ()


def test_every_list_that_names_a_value_is_told_and_each_once() -> None:
    found = table(("a", "203.0.113.9\n203.0.113.9 # again"), ("b", "203.0.113.9"))
    assert said(at(found, "203.0.113.9")) == [("203.0.113.9", "a"), ("203.0.113.9", "b")]
    assert len(found) == 1


def test_an_indicator_ends_when_its_list_says_else_by_age_and_hashes_do_not_age() -> None:
    text = (
        "indicator,last_seen,expires\n203.0.113.1,2026-01-01,2026-01-05\n203.0.113.2,2026-01-01,\n203.0.113.3,,\n"
        + f"{'a' * 32},,\n"
    )
    found = table(("a", text), max_age_days=10)
    first_of_january = 1_767_225_600_000_000
    ends = [at(found, f"203.0.113.{n}")[0].details.expires for n in (1, 2, 3)]
    assert ends == [first_of_january + 4 * DAY, first_of_january + 10 * DAY, AS_OF + 10 * DAY]
    assert found.of_hash("a" * 32)[0].details.expires is None
    forever = table(("a", "203.0.113.3"), max_age_days=0)
    assert at(forever, "203.0.113.3")[0].details.expires is None


def test_of_two_entries_of_one_list_the_longer_one_holds() -> None:
    rows = ["203.0.113.1,2026-01-05", "203.0.113.1,2026-03-05", "203.0.113.1,2026-02-05"]
    found = table(("a", "indicator,expires\n" + "\n".join(rows)))
    (match,) = at(found, "203.0.113.1")
    assert as_record(match, "source_ip") == {
        "indicator": "203.0.113.1",
        "type": "ip",
        "field": "source_ip",
        "provider": "a",
        "expires": "2026-03-05T00:00:00Z",
    }


def test_more_indicators_than_may_be_are_refused_with_the_way_out() -> None:
    with pytest.raises(IntelError, match=r"more than 2 indicators .* WEIR_ENRICH_INTEL_MAX_INDICATORS"):
        table(("a", "203.0.113.1\n203.0.113.2"), ("b", "203.0.113.1\n203.0.113.3"), limit=2)
    assert len(table(("a", "203.0.113.1\n203.0.113.2"), ("b", "203.0.113.1"), limit=2)) == 2
