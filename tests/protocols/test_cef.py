import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.cef import CefError, CefEvent, find, format_cef, parse, severity_number, split_pairs

HEADER = "CEF:0|Vendor|Product|1.0|100|Name|5|"


class TestParse:
    def test_reads_header_and_extension(self) -> None:
        assert parse(HEADER + "src=10.0.0.1 msg=two words dst=10.0.0.2") == CefEvent(
            "0",
            "Vendor",
            "Product",
            "1.0",
            "100",
            "Name",
            "5",
            {"src": "10.0.0.1", "msg": "two words", "dst": "10.0.0.2"},
            "src=10.0.0.1 msg=two words dst=10.0.0.2",
        )

    def test_header_escapes(self) -> None:
        event = parse(r"CEF:1|a\|b|c\\d|\x||n\\|High|")
        assert event[:7] == ("1", "a|b", r"c\d", r"\x", "", "n\\", "High")

    def test_pipes_need_no_escape_in_the_extension(self) -> None:
        assert parse(HEADER + "a=x|y|z").extension == {"a": "x|y|z"}

    @pytest.mark.parametrize(
        ("extension", "expected"),
        [
            ("", {}),
            (r"a=x\=y b=\\ c=l1\nl2\r d=\q", {"a": "x=y", "b": "\\", "c": "l1\nl2\r", "d": "\\q"}),
            ("url=https://x/?a=1&b=2 z=1", {"url": "https://x/?a=1&b=2", "z": "1"}),
            ("msg=a b\\=c d", {"msg": "a b=c d"}),
            ("server= protocol=LDAP x", {"server": "", "protocol": "LDAP x"}),
            ("ad.field[0]=1 my_key-2=2", {"ad.field[0]": "1", "my_key-2": "2"}),
            ("a=1  b=2 ", {"a": "1", "b": "2"}),
            ("a=first b=x a=second", {"a": "first", "b": "x"}),
            ("no pairs at all", {}),
            # Equals signs that nobody escaped.
            (
                "error=Failed because id==old_id user=root angle=106.7<=180",
                {"error": "Failed because id==old_id", "user": "root", "angle": "106.7<=180"},
            ),
            ("moo=this =has = equals\\=", {"moo": "this =has = equals="}),
            ("token=QUJD QUE== next=1", {"token": "QUJD QUE==", "next": "1"}),
            (
                "ua='Foo/1; =Email:x@y; Guid:test=' cs1= cs1Label=Foo Bar",
                {"ua": "'Foo/1; =Email:x@y; Guid:test='", "cs1": "", "cs1Label": "Foo Bar"},
            ),
            ("a=1 -b=2 ad.Error_,Code=3", {"a": "1 -b=2", "ad.Error_,Code": "3"}),
            ("requestCookies=a=1; b=2; _ga=3 cs1=x; y=z", {"requestCookies": "a=1; b=2; _ga=3", "cs1": "x;", "y": "z"}),
            ("requestCookies=a=1; src=192.0.2.1", {"requestCookies": "a=1;", "src": "192.0.2.1"}),
            # Backslashes that nobody escaped, and ones that were.
            ("suser=CORP\\nora filePath=C:\\new\\r.txt", {"suser": "CORP\\nora", "filePath": "C:\\new\\r.txt"}),
            ("suser=CORP\\\\nora filePath=C:\\\\new\\\\r.txt", {"suser": "CORP\\nora", "filePath": "C:\\new\\r.txt"}),
            ("fname=\\\\srv\\new\\=x", {"fname": "\\\\srv\\new=x"}),
            ("fname=\\\\\\\\srv\\\\new", {"fname": "\\\\srv\\new"}),
            ("cs1=C:\\Users\\nora msg=a\\nb", {"cs1": "C:\\Users\\nora", "msg": "a\nb"}),
        ],
    )
    def test_extension(self, extension: str, expected: dict[str, str]) -> None:
        event = parse(HEADER + extension)
        assert event.extension == expected
        assert list(event.extension) == list(expected)
        assert event.extension_text == extension

    def test_a_header_may_end_with_its_severity_where_the_message_ends(self) -> None:
        assert parse("CEF:0|v|p|1|100|name|10")[5:8] == ("name", "10", {})
        assert parse("CEF:0|v|p|1|100|name|Very-High\n").severity == "Very-High"

    @pytest.mark.parametrize(
        ("text", "name", "severity"),
        [
            ("CEF:0|v|p|1|100|a | b|7|src=192.0.2.1", "a | b", "7"),
            ("CEF:0|v|p|1|100|a|b|c|High|src=192.0.2.1", "a|b|c", "High"),
            ("CEF:0|v|p|1|100|a|custom|src=192.0.2.1", "a", "custom"),
            ("CEF:0|v|p|1|100|a|custom|src=192.0.2.1 x=|5|", "a", "custom"),
        ],
    )
    def test_pipes_that_a_name_holds_unescaped_are_part_of_it(self, text: str, name: str, severity: str) -> None:
        event = parse(text)
        assert (event.name, event.severity, event.extension["src"]) == (name, severity, "192.0.2.1")

    @pytest.mark.parametrize(
        ("text", "fields"),
        [("CEF:", 0), ("CEF:x|a|", 0), ("CEF:0|a|b|c", 3), (r"CEF:0|a|b|c|d|e|5\|x=1", 6), ("CEF:0|a|b|c|d|e|57", 6)],
    )
    def test_a_header_without_its_seven_pipes_is_refused_with_count_and_place(self, text: str, fields: int) -> None:
        with pytest.raises(CefError, match=r"at character 4|from character") as caught:
            parse(text)
        assert caught.value.fields == fields

    def test_split_pairs_keeps_repetitions_and_escapes(self) -> None:
        assert split_pairs(r"a=1 b=x\=y a=2") == [("a", "1"), ("b", r"x\=y"), ("a", "2")]


@pytest.mark.parametrize(
    ("message", "offset"),
    [
        ("CEF:0|a", 0),
        ("ssomgr: CEF:1|a", 8),
        ("CEF: 0|Fortinet", 0),
        ("see CEF:docs CEF:0|", 13),
        ("CEF:0", -1),
        ("", -1),
        ("CEF:0123456789|a", -1),
    ],
)
def test_find(message: str, offset: int) -> None:
    assert find(message) == offset


@pytest.mark.parametrize(
    ("severity", "number"),
    [("0", 0), ("10", 10), ("11", None), ("Low", 0), ("medium", 4), ("HIGH", 7), ("Very-High", 9), ("Unknown", None), ("", None)],
)
def test_severity_number(severity: str, number: int | None) -> None:
    assert severity_number(severity) == number


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\|=\n\r\0 ab"), max_size=30)
KEY = st.from_regex(r"[abXYZ019_][abXYZ019_.,\[\]-]{0,11}", fullmatch=True)


class TestEncoder:
    @settings(max_examples=200)
    @given(header=st.lists(TEXT, min_size=6, max_size=6), extension=st.dictionaries(KEY, TEXT, max_size=5))
    def test_parse_reads_back_what_was_written_and_nothing_can_be_forged(
        self, header: list[str], extension: dict[str, str]
    ) -> None:
        vendor, product, version, class_id, name, severity = header
        line = format_cef(
            device_vendor=vendor,
            device_product=product,
            device_version=version,
            device_event_class_id=class_id,
            name=name,
            severity=severity,
            extension=extension,
        )
        assert not {"\n", "\r", "\0"} & set(line)
        event = parse(line)
        blanks = str.maketrans("\n\r\0", "   ")
        assert list(event[1:7]) == [value.translate(blanks) for value in header]
        assert event.extension == {key: value.replace("\0", " ").rstrip(" ") for key, value in extension.items()}

    @pytest.mark.parametrize("key", ["a b", "", "-a", ".a", "a=b"])
    def test_a_key_that_would_forge_a_pair_is_refused(self, key: str) -> None:
        with pytest.raises(ValueError, match="extension key"):
            format_cef(
                device_vendor="v",
                device_product="p",
                device_version="1",
                device_event_class_id="1",
                name="n",
                severity=3,
                extension={key: "x"},
            )


@settings(max_examples=150)
@given(st.text(st.sampled_from("CEF:0|\\= ab\n"), max_size=60))
def test_any_text_is_read_or_refused(rest: str) -> None:
    with contextlib.suppress(CefError):
        parse("CEF:" + rest)
    find(rest)


@pytest.mark.parametrize(
    "text",
    [
        HEADER + " " * 65000,
        HEADER + "a." * 32000,
        HEADER + " a" * 32000,
        HEADER + " a=" * 20000,
        HEADER + "a=" + "\\" * 65000,
        HEADER + "cookie=" + "a=1; " * 13000,
        HEADER + "suser=" + "\\n" * 30000,
        "CEF:0|a|b|c|d|e|x|" + "y|" * 30000,
        "CEF:0|" + "\\" * 65001,
        "CEF:" * 16000,
        "CEF:" + "1" * 65000,
    ],
    ids=lambda text: text[-8:],
)
def test_hostile_input_costs_one_pass(text: str) -> None:
    began = time.perf_counter()
    find(text)
    with contextlib.suppress(CefError):
        parse(text)
    assert time.perf_counter() - began < 1
