import pytest

from weir.protocols.devices.unix import read_unix


@pytest.mark.parametrize(
    ("program", "text", "action", "outcome", "pairs"),
    [
        ("sshd", "Failed password for root from 192.0.2.1 port 22 ssh2", "ssh_login", "failure",
         {"method": "password", "user": "root", "src": "192.0.2.1", "port": "22", "protocol": "ssh2"}),
        ("sshd", "Accepted publickey for u from 2001:db8::1 port 22 ssh2: RSA SHA256:x", "ssh_login", "success",
         {"method": "publickey", "user": "u", "src": "2001:db8::1", "port": "22", "protocol": "ssh2",
          "signature": "RSA SHA256:x"}),
        ("sshd", "message repeated 2 times: [ Failed password for u from 192.0.2.1 port 22 ssh2 [preauth]]", "ssh_login",
         "failure",
         {"method": "password", "user": "u", "src": "192.0.2.1", "port": "22", "protocol": "ssh2", "repeated": "2"}),
        ("sshd", "[ID 800047 auth.info] Accepted password for u from 192.0.2.1 port 22 ssh2", "ssh_login", "success",
         {"method": "password", "user": "u", "src": "192.0.2.1", "port": "22", "protocol": "ssh2"}),
        ("sshd", "error: PAM: Authentication error for illegal user u from 192.0.2.1", "ssh_login", "failure",
         {"reason": "Authentication error", "invalid": "illegal user", "user": "u", "src": "192.0.2.1"}),
        ("dropbear", "Bad password attempt for 'root' from 192.0.2.1:5678", "ssh_login", "failure",
         {"method": "password", "user": "root", "src": "192.0.2.1", "port": "5678"}),
        ("sshd", "Invalid user  from 192.0.2.1 port 3", "ssh_login", "failure",
         {"invalid": "Invalid", "src": "192.0.2.1", "port": "3"}),
        ("sshd-session", "Connection closed by authenticating user root 192.0.2.1 port 5 [preauth]", "ssh_disconnect", None,
         {"how": "closed", "state": "authenticating", "user": "root", "src": "192.0.2.1", "port": "5"}),
        ("sshd(pam_unix)", "authentication failure; logname= uid=0 euid=0 tty=x ruser= rhost=192.0.2.1  user=root",
         "authentication",
         "failure", {"module": "pam_unix", "uid": "0", "euid": "0", "tty": "x", "rhost": "192.0.2.1", "user": "root"}),
        ("su", "pam_unix(su-l:session): session opened for user root(uid=0) by u(uid=1000)", "session_opened", "success",
         {"module": "pam_unix", "service": "su-l", "type": "session", "target": "root", "target_uid": "0", "by": "u",
          "uid": "1000"}),
        ("su", "'su root' failed for u on /dev/pts/8", "su", "failure", {"target": "root", "user": "u", "tty": "/dev/pts/8"}),
        ("sudo", "   u : 3 incorrect password attempts ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh -c a ; b", "sudo",
         "failure",
         {"user": "u", "error": "3 incorrect password attempts", "TTY": "pts/1", "PWD": "/", "USER": "root",
          "COMMAND": "/bin/sh -c a ; b"}),
        ("useradd", "new user: name=u, UID=1, GID=2, home=/h, shell=/s", "user_added", "success",
         {"user": "u", "uid": "1", "gid": "2", "home": "/h", "shell": "/s"}),
        ("systemd-logind", "New session 12 of user u.", "session_started", "success", {"session": "12", "user": "u"}),
        ("CRON", "(root) CMD (run)", "cron_command", None, {"user": "root", "command": "run"}),
    ],
)  # fmt: skip
def test_sentences(program: str, text: str, action: str, outcome: str | None, pairs: dict[str, str]) -> None:
    assert read_unix(program, text) == (action, outcome, pairs)


@pytest.mark.parametrize("text", ["Failed password for {} from 192.0.2.2 port 33 ssh2", "Invalid user {} from 192.0.2.2 port 33"])
def test_a_name_that_looks_like_the_rest_of_the_sentence_moves_no_address(text: str) -> None:
    """Who tries to log in chooses the name."""
    name = "root from 203.0.113.1 port 22 ssh2"
    event = read_unix("sshd", text.format(name))
    assert event is not None
    assert (event.pairs["user"], event.pairs["src"], event.pairs["port"]) == (name, "192.0.2.2", "33")


@pytest.mark.parametrize(
    ("program", "text"), [(None, "x"), ("sshd", "whatever"), ("httpd", "Failed password for u"), ("sudo", "x")]
)
def test_others_are_none(program: str | None, text: str) -> None:
    assert read_unix(program, text) is None
