import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols import syslog
from weir.protocols.qumulo import (
    OPERATIONS,
    QumuloAudit,
    QumuloError,
    classify,
    format_json,
    format_line,
    from_document,
    load_json,
    parse,
    recognise,
    split_user,
)

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[2] / ".." / "shared" / "corpus"))
BODY = '10.0.0.7,"AD\\alice",smb,fs_delete,ok,123,"/a/b",""'


def corpus(name: str) -> list[str]:
    path = CORPUS / "qumulo" / name
    if not path.exists():
        pytest.skip(f"corpus file {name} is not here: set WEIR_CORPUS to the folder that has it")
    return path.read_text().splitlines()


def recognised(line: str) -> str | None:
    return recognise(syslog.parse(line.encode(), received_us=1_717_243_200_000_000))


class TestRecognise:
    @pytest.mark.parametrize(
        "header",
        [
            "<14>1 2024-05-01T10:00:00.1234Z node-1 qumulo - - - ",
            "<14>1 2024-05-01T10:00:00Z node-1 Qumulo 812 - - ",
            "<14>May 11 22:14:15 node-1 qumulo ",
            "May 11 22:14:15 node-1 qumulo ",
            "<14>May 11 22:14:15 node-1 qumulo: ",
            "<14>May 11 22:14:15 node-1 qumulo[12]: ",
            "2024-05-01T10:00:00.355392Z node-1 qumulo ",
            "2024-05-01T10:00:00.355392Z,node-1,qumulo  ",
            "<14>2024-05-01T10:00:00.355392Z,node-1,qumulo  ",
            "<14>May 11 22:14:15 relay 2024-05-01T10:00:00.355392Z,node-1,qumulo  ",
        ],
    )
    @pytest.mark.parametrize("body", [BODY, '::1,"x",api,rest_login,ok,,"",""'])
    def test_every_dialect_of_the_header(self, header: str, body: str) -> None:
        assert recognised(header + body) == body

    @pytest.mark.parametrize(
        "line",
        [
            "<14>1 2024-05-01T10:00:00Z node-1 nginx - - - " + BODY,
            "<14>May 11 22:14:15 node-1 " + BODY,
            "<14>1 2024-05-01T10:00:00Z node-1 qumulo - - - service started",
            '<14>1 2024-05-01T10:00:00Z node-1 qumulo - - - {"user": 1}',
            "qumulo",
            "",
        ],
    )
    def test_anything_else_is_not_an_audit_line(self, line: str) -> None:
        assert recognised(line) is None


class TestParse:
    def test_eight_fields(self) -> None:
        assert parse(BODY) == QumuloAudit("10.0.0.7", None, "AD\\alice", "smb", "fs_delete", "ok", "123", "/a/b", "")

    def test_nine_fields_with_the_nodes_name(self) -> None:
        audit = parse('10.0.0.7,groot-1,"AD\\alice",smb2,fs_read_data,ok,123,"/Mike/image.png",""')
        assert (audit.node_name, audit.user_id, audit.protocol) == ("groot-1", "AD\\alice", "smb2")

    def test_quoted_commas_and_quotation_marks(self) -> None:
        audit = parse('2001:db8::1,"x, ""y""",nfsv4.1,fs_rename,ok,3,"/a,b""c","/d"""')
        assert (audit.user_id, audit.file_path, audit.secondary_file_path) == ('x, "y"', '/a,b"c', '/d"')

    def test_a_file_id_beyond_64_bits_is_kept(self) -> None:
        assert parse(f'10.0.0.7,"u",smb,fs_open,ok,{"9" * 30},"/a",""').file_id == "9" * 30

    def test_a_last_quotation_mark_that_never_closes_is_forgiven(self) -> None:
        assert parse('10.0.0.7,"system",internal,remote_syslog_shutdown,ok,,"","').secondary_file_path == ""
        assert parse('10.0.0.7,"system",internal,fs_rename,ok,,"/a","/b').secondary_file_path == "/b"

    def test_bare_fields_and_a_line_end(self) -> None:
        assert parse("10.0.0.7,1000,nfs,fs_open,fs_no_such_entry_error,,/a,\n")[2:9] == (
            "1000",
            "nfs",
            "fs_open",
            "fs_no_such_entry_error",
            "",
            "/a",
            "",
        )

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("", "has 1 fields"),
            ('10.0.0.7,"u",smb,fs_open', "has 4 fields"),
            ('10.0.0.7,"u",smb,fs_open,ok,1,"/a","","",""', "has 10 fields"),
            ('10.0.0.7,"u",smb,,ok,1,"/a",""', "operation cannot be ''"),
            ('10.0.0.7,"u",smb,fs_open,ok,x1,"/a",""', "file_id cannot be 'x1'"),
            ('10.0.0.7,n-1,"u",s b,fs_open,ok,1,"/a",""', "protocol cannot be 's b'"),
            ('10.0.0.777,"u",smb,fs_open,ok,1,"/a",""', "client_ip '10.0.0.777' is not an IP address"),
            ('10.0.0.7,"u"x,smb,fs_open,ok,1,"/a",""', "field 2 has a quotation mark"),
            ('10.0.0.7,"u,smb,fs_open,ok,1', "field 2 has a quotation mark"),
            ('10.0.0.7,"u","smb",fs_open,ok,1,"/a",""', "never quoted"),
        ],
    )
    def test_what_cannot_be_a_record_is_named(self, body: str, said: str) -> None:
        with pytest.raises(QumuloError, match=said):
            parse(body)


SYSLOG_JSON = (
    '{"user_id": {"sid": "S-1-5-21-1-500", "auth_id": "500", "name": "AD\\alice"}, "user_ip": "203.0.113.9", "protocol": "api", '
    '"operation": "fs_write_metadata", "status": "ok", "details": {"file_id": "4", "after": {"ctime": "2024-06-11T14:55:58Z", '
    '"owner": {"sid": "S-1-5-21-1-501", "auth_id": "501"}}, "path": "/my_file"}}'
)
CLOUDWATCH_JSON = (
    '{"ip_address": "203.0.113.9", "user": "AD\\nora", "protocol": "api", "operation": "fs_rename", '
    '"result": "fs_entry_exists_error", "object_id": "3", "path_1": "/a", "path_2": "/b"}'
)


class TestJson:
    def test_the_form_for_syslog_with_a_backslash_that_nobody_escaped(self) -> None:
        assert parse(SYSLOG_JSON) == QumuloAudit(
            "203.0.113.9", None, "AD\\alice", "api", "fs_write_metadata", "ok", "4", "/my_file", "",
            "S-1-5-21-1-500", "500", "S-1-5-21-1-501",
        )  # fmt: skip

    def test_the_form_for_cloudwatch_with_a_backslash_that_became_a_line_end(self) -> None:
        assert parse(CLOUDWATCH_JSON) == QumuloAudit(
            "203.0.113.9", None, "AD\\nora", "api", "fs_rename", "fs_entry_exists_error", "3", "/a", "/b"
        )

    @pytest.mark.parametrize("name", ["bob", "nora", "rita", "tom", "frank", "ursula", "u00e4"])
    def test_any_first_letter_of_a_user(self, name: str) -> None:
        document = load_json(SYSLOG_JSON.replace("alice", name))
        audit = from_document(document)
        assert audit is not None
        # Four hexadecimal digits behind u are a letter: nothing says that a name was meant.
        assert audit.user_id == ("AD\u00e4" if name == "u00e4" else f"AD\\{name}")

    def test_proper_escapes_stay_what_they_are(self) -> None:
        audit = parse(SYSLOG_JSON.replace("AD\\alice", "AD\\\\alice").replace("/my_file", '/a\\"b\\u00e9\\/c'))
        assert (audit.user_id, audit.file_path) == ("AD\\alice", '/a"b\u00e9/c')

    @pytest.mark.parametrize("digits", ["9" * 30, "18446744073709551616", "1234567890123456", "4"])
    def test_a_file_id_that_is_a_number_keeps_all_its_digits(self, digits: str) -> None:
        assert parse(SYSLOG_JSON.replace('"file_id": "4"', f'"file_id": {digits}')).file_id == digits

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ('{"operation": "x"', "not JSON"),
            ('{"operation": "x"}', "without its client address"),
            ('{"operation": "x", "protocol": "api", "user_ip": "nobody", "status": "ok"}', "without its client address"),
            ('{"operation": "x", "protocol": "api", "user_ip": "192.0.2.1"}', "without its client address"),
        ],
    )
    def test_json_that_cannot_be_a_record_is_refused(self, body: str, said: str) -> None:
        with pytest.raises(QumuloError, match=said):
            parse(body)

    @pytest.mark.parametrize("header", ["<14>1 2024-05-01T10:00:00Z node-1 qumulo - - - ", "Jun 6 14:53:22 my-machine qumulo "])
    def test_a_line_of_it_is_recognised(self, header: str) -> None:
        assert recognised(header + SYSLOG_JSON) == SYSLOG_JSON


@pytest.mark.parametrize(
    ("user_id", "name", "domain"),
    [
        ("AD\\alice", "alice", "AD"),
        ("AD\\", None, "AD"),
        ("alice@corp.example", "alice", "corp.example"),
        ("admin", "admin", None),
        ("@x", "@x", None),
        ("S-1-5-21-88-99-1001", None, None),
        ("1000", None, None),
        ("uid:1000", None, None),
        ("", None, None),
    ],
)
def test_the_kinds_of_users(user_id: str, name: str | None, domain: str | None) -> None:
    assert split_user(user_id) == (name, domain)


WORD = st.text(st.sampled_from("abcxyz019_.-"), min_size=1, max_size=12)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n") | st.sampled_from('",/ '), max_size=30)
AUDITS = st.builds(
    QumuloAudit,
    client_ip=st.ip_addresses().map(str),
    node_name=st.none() | TEXT.filter(lambda text: text.strip() == text),
    user_id=TEXT,
    protocol=WORD,
    operation=WORD,
    error_status=WORD,
    file_id=st.just("") | st.integers(0, 10**30).map(str),
    file_path=TEXT,
    secondary_file_path=TEXT,
    user_sid=st.just(""),
    user_auth_id=st.just(""),
    file_owner=st.just(""),
)


@settings(max_examples=200)
@given(AUDITS)
def test_parse_reads_back_what_was_written(audit: QumuloAudit) -> None:
    assert parse(format_line(audit)) == audit


@settings(max_examples=150)
@given(AUDITS, WORD, st.just("") | WORD)
def test_parse_reads_back_what_was_written_as_json(audit: QumuloAudit, sid: str, owner: str) -> None:
    control = dict.fromkeys(range(32))
    whole = audit._replace(
        node_name=None, user_sid=sid, user_auth_id="500", file_owner=owner, user_id=audit.user_id.translate(control)
    )
    assert parse(format_json(whole)) == whole


@settings(max_examples=150)
@given(st.text(st.sampled_from('{}":,\\nu0 adoperation'), max_size=60), st.integers(0, len(SYSLOG_JSON)))
def test_any_json_is_read_or_refused(piece: str, at: int) -> None:
    with contextlib.suppress(QumuloError):
        parse(SYSLOG_JSON[:at] + piece + SYSLOG_JSON[at:])


def test_line_ends_are_taken_out_as_the_cluster_does() -> None:
    assert "\n" not in format_line(QumuloAudit("::1", "n\n1", "u\r\n", "api", "fs_open", "ok", "", "/a\nb", ""))


@settings(max_examples=200)
@given(st.text(st.sampled_from('10.,"ab \n'), max_size=60))
def test_any_text_is_read_or_refused(body: str) -> None:
    with contextlib.suppress(QumuloError):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        '"' * 65000,
        "," * 65000,
        '10.0.0.7,"' + '""' * 32000,
        "1.1.1.1," + " " * 65000,
        "{" + "\\\\" * 32000,
        '{"file_id":' * 6000,
        '{"file_id":' + " " * 65000,
        '1.1.1.1,"u",a,b,c,,"' + '" ' * 32000,
    ],
    ids=lambda body: body[:12],
)
def test_hostile_input_costs_one_pass(body: str) -> None:
    began = time.perf_counter()
    with pytest.raises(QumuloError):
        parse(body)
    recognised("<14>May 11 22:14:15 n qumulo " + body)
    assert time.perf_counter() - began < 1


# The types that ECS 9 expects, by category, for the categories used here.
ECS_TYPES = {
    "authentication": {"start", "end", "info"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "file": {"access", "change", "creation", "deletion", "info"},
    "host": {"access", "change", "end", "info", "start"},
    "iam": {"admin", "change", "creation", "deletion", "group", "info", "user"},
    "network": {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
    "session": {"start", "end", "info"},
}


class TestOperations:
    def test_every_class_is_one_that_ecs_expects(self) -> None:
        for name, (categories, types) in OPERATIONS.items():
            assert set(types) <= set.union(*(ECS_TYPES[category] for category in categories)), name

    def test_names_that_say_delete_are_deletions(self) -> None:
        for name, (_, types) in OPERATIONS.items():
            if ("_delete_" in name or name.endswith("_delete")) and not name.endswith("_cancel"):
                assert "deletion" in types, name

    @pytest.mark.parametrize(
        ("operation", "category", "types"),
        [
            ("fs_delete", ("file",), ("deletion",)),
            ("rest_login", ("authentication",), ("start",)),
            ("auth_create_user", ("iam",), ("user", "creation")),
            ("cluster_restart", ("host",), ("change",)),
            ("begin_cluster_restart", ("host",), ("info",)),
            ("smb_frobnicate", ("configuration",), ("info",)),
            ("auth_frobnicate", ("iam",), ("info",)),
            ("fs_frobnicate", ("file",), ("info",)),
            ("unheard_of", ("file",), ("info",)),
            ("begin_audit_modify_syslog_config", ("configuration",), ("info",)),
            ("begin_unheard_of", ("file",), ("info",)),
        ],
    )
    def test_classify(self, operation: str, category: tuple[str, ...], types: tuple[str, ...]) -> None:
        assert classify(operation) == (category, types)

    def test_a_name_of_nothing_but_beginnings_is_classed(self) -> None:
        assert classify("begin_" * 20_000) == (("file",), ("info",))

    def test_the_documented_names_are_all_there(self) -> None:
        assert set(corpus("operations.txt")) == set(OPERATIONS)


def test_the_documented_lines() -> None:
    audits = [parse(recognised(line) or "") for line in corpus("samples_csv_rfc3164.log")]
    assert len(audits) == 9
    assert {audit.client_ip for audit in audits} == {"203.0.113.0"}
    assert audits[6][4:9] == ("fs_rename", "ok", "3", "/my_file", "/another_file")
