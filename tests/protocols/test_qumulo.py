import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols import syslog
from weir.protocols.qumulo import OPERATIONS, QumuloAudit, QumuloError, classify, format_line, parse, recognise

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
        assert parse("10.0.0.7,1000,nfs,fs_open,fs_no_such_entry_error,,/a,\n")[2:] == (
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
)


@settings(max_examples=200)
@given(AUDITS)
def test_parse_reads_back_what_was_written(audit: QumuloAudit) -> None:
    assert parse(format_line(audit)) == audit


def test_line_ends_are_taken_out_as_the_cluster_does() -> None:
    assert "\n" not in format_line(QumuloAudit("::1", "n\n1", "u\r\n", "api", "fs_open", "ok", "", "/a\nb", ""))


@settings(max_examples=200)
@given(st.text(st.sampled_from('10.,"ab \n'), max_size=60))
def test_any_text_is_read_or_refused(body: str) -> None:
    with contextlib.suppress(QumuloError):
        parse(body)


@pytest.mark.parametrize(
    "body",
    ['"' * 65000, "," * 65000, '10.0.0.7,"' + '""' * 32000, "1.1.1.1," + " " * 65000, '1.1.1.1,"u",a,b,c,,"' + '" ' * 32000],
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
            ("cluster_restart", ("file",), ("info",)),
            ("begin_audit_modify_syslog_config", ("configuration",), ("info",)),
            ("begin_unheard_of", ("file",), ("info",)),
        ],
    )
    def test_classify(self, operation: str, category: tuple[str, ...], types: tuple[str, ...]) -> None:
        assert classify(operation) == (category, types)

    def test_the_documented_names_are_all_there(self) -> None:
        assert set(corpus("operations.txt")) == set(OPERATIONS)


def test_the_documented_lines() -> None:
    audits = [parse(recognised(line) or "") for line in corpus("samples_csv_rfc3164.log")]
    assert len(audits) == 9
    assert {audit.client_ip for audit in audits} == {"203.0.113.0"}
    assert audits[6][4:] == ("fs_rename", "ok", "3", "/my_file", "/another_file")
