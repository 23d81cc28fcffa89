"""What Unix's programs write of logins, sessions and accounts: sshd, PAM, sudo, su, login, systemd-logind, shadow and cron.

There is no standard for these sentences. They are OpenSSH's auth.c and packet.c, Linux-PAM's pam_unix, pam_succeed_if and
pam_tally, sudo's logging.c, shadow's useradd and its kin, systemd's logind, util-linux' login and su, as those print them.
"""

import re
from typing import Final, NamedTuple

__all__ = ["PROGRAMS", "UnixEvent", "read_unix"]


class UnixEvent(NamedTuple):
    """What a program said happened.

    ``action`` is one of the table's (ssh_login, session_opened, …), ``outcome`` success, failure or None; ``pairs`` holds user,
    by_user, target_user, uid, gid, group, src (address or name), port, method and what else the sentence names. Of sudo the keys
    are its own: TTY, PWD, USER, COMMAND.
    """

    action: str
    outcome: str | None
    pairs: dict[str, str]


_SRC: Final = r"(?P<src>[^\s,;'\[\]()]{1,255})"
_SRC_B: Final = _SRC.replace("src", "src_b")
_STATES: Final = "authenticating|invalid|illegal"
_FROM: Final = rf"from {_SRC} port (?P<port>\d+)(?: (?P<protocol>ssh\d?))?"
_PREAUTH: Final = r"(?: \[preauth\])?$"
_KEY: Final = rf"(?:: (?P<signature>[^:]{{1,20}} .*?))?{_PREAUTH}"
_USER: Final = r"(?P<user>\S{1,255}+)"

# (action, outcome, sentence), tried in the order in which they stand: for OpenSSH's, the most frequent first. Who tries to log in
# chooses the name, and may choose "root from 192.0.2.1 port 22 ssh2": so a name reaches to the last " from " and the sentence to
# the end of the line.
_SSHD: Final = (
    ("ssh_login", "failure", rf"Failed (?P<method>\S+) for (?:(?P<invalid>invalid user|illegal user) )?(?P<user>.*) {_FROM}{_KEY}"),
    ("ssh_login", "success", rf"Accepted (?P<method>\S+) for (?P<user>.*) {_FROM}{_KEY}"),
    ("ssh_login", "failure", rf"(?P<invalid>Invalid|Illegal) user (?P<user>.*?) ?from {_SRC}(?: port (?P<port>\d+))?{_PREAUTH}"),
    ("ssh_login", "failure", rf"(?:error: )?PAM: (?P<reason>[A-Z][A-Za-z ]+) for (?:(?P<invalid>illegal user) )?(?P<user>.*) "
                             rf"from {_SRC}{_PREAUTH}"),
    ("ssh_disconnect", None, rf"(?:error: )?Received disconnect from {_SRC}(?: port (?P<port>\d+))?: ?(?P<code>\d+): ?"
                             r"(?P<reason>.*)"),
    ("ssh_disconnect", None, rf"Disconnected from (?:(?:(?P<state>{_STATES}) )?user (?:(?P<user>.*) )?)?{_SRC} port (?P<port>\d+)"
                             rf"{_PREAUTH}"),
    ("ssh_disconnect", None, rf"Connection (?P<how>closed|reset) by (?:(?P<state>{_STATES}) user (?:(?P<user>.*) )?{_SRC} "
                             rf"port (?P<port>\d+)|{_SRC_B}(?: port (?P<port_b>\d+))?){_PREAUTH}"),
    ("ssh_login", None, rf"Postponed (?P<method>\S+) for (?:(?P<invalid>invalid user) )?(?P<user>.*) {_FROM}{_PREAUTH}"),
    ("ssh_disconnect", "failure", r"(?:error: )?maximum authentication attempts exceeded for (?:(?P<invalid>invalid user) )?"
                                  rf"{_USER} from {_SRC} port (?P<port>\d+)"),
    ("ssh_disconnect", "failure", rf"Disconnecting(?: (?:{_STATES}) user (?P<user>\S*) {_SRC} port (?P<port>\d+))?: "
                                  r"(?P<reason>Too many authentication failures)(?: for (?P<user_b>\S+))?"),
    ("ssh_refused", "failure", rf"Did not receive identification string from {_SRC}(?: port (?P<port>\d+))?"),
    ("ssh_refused", "failure", rf"Bad protocol version identification '.*' from {_SRC}(?: port (?P<port>\d+))?"),
    ("ssh_refused", "failure", rf"refused connect from (?:\S+ \(?)?{_SRC}\)?$"),
    ("ssh_login", "failure", rf"User {_USER} (?:from {_SRC} )?not allowed because (?P<reason>.*)"),
    ("ssh_login", "failure", rf"ROOT LOGIN REFUSED FROM {_SRC}(?: port (?P<port>\d+))?"),
    ("ssh_connection", None, rf"Connection from {_SRC} port (?P<port>\d+)(?: on (?P<dst>\S+) port (?P<dst_port>\d+))?"),
    ("ssh_subsystem", None, rf"subsystem request for (?P<subsystem>\S+)(?: by user {_USER})?"),
    ("ssh_refused", "failure", rf"reverse mapping checking getaddrinfo for (?P<name>\S+) \[{_SRC}\] failed - (?P<reason>.*)"),
    ("ssh_refused", "failure", rf"(?:fatal: )?Unable to negotiate with {_SRC} port (?P<port>\d+): (?P<reason>.*)"),
    ("ssh_session", None, rf"Starting session: (?P<what>.*?) for {_USER} from {_SRC} port (?P<port>\d+)"),
    ("ssh_session_closed", None, rf"Close session: user {_USER} from {_SRC} port (?P<port>\d+)"),
    ("ssh_refused", "failure", rf"(?:error: |fatal: )?banner exchange: Connection from {_SRC} port (?P<port>\d+): (?P<reason>.*)"),
    ("ssh_refused", "failure", r"(?:error: |fatal: )?(?:ssh_dispatch_run_fatal|kex_exchange_identification|kex_protocol_error): "
                               rf"(?:Connection from (?:(?P<state>{_STATES}) user (?:(?P<user>.*) )?)?{_SRC} port (?P<port>\d+): )?"
                               rf"(?P<reason>.*?){_PREAUTH}"),
    ("ssh_refused", "failure", rf"drop connection #\d+ from \[{_SRC}\]:(?P<port>\d+) on \[(?P<dst>[^\]\s]+)\]:(?P<dst_port>\d+) "
                               r"(?P<reason>.*)"),
    ("ssh_login", "failure", r"(?:fatal: )?(?P<reason>Timeout before authentication) for (?:connection from )?"
                             rf"{_SRC}(?: port (?P<port>\d+))?"),
    ("ssh_login", "failure", rf"input_userauth_request: (?P<invalid>invalid|illegal) user (?P<user>.*?){_PREAUTH}"),
    # Dropbear
    ("ssh_login", "failure", rf"Bad (?P<method>\S+) attempt for '(?P<user>.*)' from {_SRC}:(?P<port>\d+)$"),
    ("ssh_login", "success", rf"(?P<method>P\w+) auth succeeded for '(?P<user>.*)'(?: with (?P<signature>.*))? from "
                             rf"{_SRC}:(?P<port>\d+)$"),
    ("ssh_login", "failure", rf"Login attempt for (?P<invalid>nonexistent) user(?: '(?P<user>.*)')? from {_SRC}:(?P<port>\d+)$"),
    ("server_started", None, r"Server listening on (?P<dst>\S+) port (?P<dst_port>\d+)"),
)  # fmt: skip

_PAM_BEGIN = re.compile(r"(?:error: )?(?:PAM: )?(?P<module>pam_[a-z0-9_]+)\((?P<service>[^:)]+)(?::(?P<type>[a-z]+))?\): ")
_PAM: Final = (
    ("session_opened", "success", r"session opened for user (?P<target>[^\s(]+)(?:\(uid=(?P<target_uid>\d+)\))?"
                                  r"(?: by (?P<by>[^\s(]*)\(uid=(?P<uid>\d+)\))?"),
    ("session_closed", "success", r"session closed for user (?P<user>\S+)"),
    ("authentication", "failure", r"authentication failure;"),
    ("authentication", "failure", r"(?P<reason>check pass; user unknown)"),
    ("authentication", "failure", r"requirement \"(?P<requirement>[^\"]*)\" not met by user \"(?P<user>[^\"]*)\""),
    ("password_changed", "success", r"password changed for (?P<user>\S+)"),
    ("authentication", "failure", r"(?:user (?P<user>\S+) )?(?P<reason>account (?:\S+ )?has expired|password (?:\S+ )?has "
                                  r"expired).*"),
    ("authentication", "success", r"authentication success;"),
    ("authentication", "failure", r"(?P<reason>Consecutive login failures) for user (?P<user>\S+)"),
    ("authentication", "failure", r"(?P<reason>User unknown)$"),
    ("authorization", "success", r"user '(?P<user>[^']*)' granted access"),
    ("authorization", "failure", r"user '(?P<user>[^']*)' denied access"),
    ("authentication", "success", r"Accepted (?P<method>google_authenticator) for (?P<user>\S+)"),
)  # fmt: skip
_MORE: Final = re.compile(r"PAM (?P<count>\d+) more authentication failures?;")
_PAM_PAIR = re.compile(r"\b(logname|uid|euid|tty|ruser|rhost|user)=([^\s;]*)")

_SU: Final = (
    ("su", "success", r"Successful su for (?P<target>\S+) by (?P<user>\S+)"),
    ("su", "failure", r"(?:FAILED|BAD) su(?: for)? (?P<target>\S+) by (?P<user>\S+)"),
    ("su", "success", r"\(to (?P<target>\S+)\) (?P<user>\S+) on (?P<tty>\S+)"),
    ("su", "failure", r"FAILED SU \(to (?P<target>\S+)\) (?P<user>\S+) on (?P<tty>\S+)"),
    ("su", "success", r"\+ (?P<tty>\S+) (?P<user>[^\s:]+):(?P<target>\S+)"),
    ("su", "failure", r"- (?P<tty>\S+) (?P<user>[^\s:]+):(?P<target>\S+)"),
    ("su", "success", r"'su (?P<target>\S+)' succeeded for (?P<user>\S+) on (?P<tty>\S+)"),
    ("su", "failure", r"'su (?P<target>\S+)' failed for (?P<user>\S+) on (?P<tty>\S+)"),
)
_LOGIN: Final = (
    ("login", "failure", rf"FAILED LOGIN (?:SESSION |\(\d+\) |\d+ )?(?:on '?(?P<tty>[^\s']+)'? )?(?:FROM (?:{_SRC}|\(null\)) )"
                         rf"?FOR '?(?P<user>[^',]*)'?,? ?"
                         r"(?P<reason>.*)"),
    ("login", "success", rf"(?:ROOT LOGIN|LOGIN ON) +(?:on '?)?(?P<tty>[^\s']+)'?(?: BY (?P<user>\S+))?(?: (?:FROM|from) '?"
                         rf"{_SRC}'?)?$"),
)  # fmt: skip
_LOGIND: Final = (
    (
        "session_started",
        "success",
        r"New session '?(?P<session>[^\s']+)'? of user '?(?P<user>[^\s'.]+)'?(?: with class '(?P<class>[^']+)')?",
    ),
    ("session_ended", "success", r"(?:Removed session|Session) (?P<session>[^\s.]+)(?: logged out)?\."),
)
_ACCOUNTS: Final = (
    ("user_added", "success", r"new user: name=(?P<user>[^,]+), UID=(?P<uid>\d+), GID=(?P<gid>\d+), home=(?P<home>[^,]*), "
                              r"shell=(?P<shell>[^,]*)(?:, from=(?P<from>.*))?"),
    ("group_added", "success", r"new group: name=(?P<group>[^,]+), GID=(?P<gid>\d+)"),
    ("group_added", "success", r"group added to \S+: name=(?P<group>[^,]+)(?:, GID=(?P<gid>\d+))?"),
    ("user_added_to_group", "success", r"add '(?P<user>[^']+)' to (?P<shadow>shadow )?group '(?P<group>[^']+)'"),
    ("user_removed_from_group", "success", r"(?:delete|removed?) '(?P<user>[^']+)' from (?P<shadow>shadow )?group '(?P<group>"
                                           r"[^']+)'"),
    ("user_deleted", "success", r"delete user '(?P<user>[^']+)'"),
    ("group_deleted", "success", r"(?:removed|delete) (?P<shadow>shadow )?group '(?P<group>[^']+)'(?: owned by '(?P<owner>[^']"
                                 r"+)')?"),
    ("group_deleted", "success", r"group '(?P<group>[^']+)' removed(?: from \S+)?"),
    ("user_changed", "success", r"change user '(?P<user>[^']+)' (?P<what>\S+)(?: from '(?P<from>[^']*)' to '(?P<to>[^']*)')?"),
    ("user_changed", "success", r"changed user '(?P<user>[^']+)' (?P<what>\S+)"),
    ("user_changed", "success", r"(?P<what>lock|unlock) user '(?P<user>[^']+)'(?: password)?"),
    ("group_changed", "success", r"change group '(?P<group>[^']+)' to '(?P<to>[^']+)'"),
    ("password_changed", "success", r"password for '?(?P<user>[^\s']+)'? changed by '?(?P<by_user>[^\s']+)'?"),
    ("user_changed", "success", r"changed password expiry for (?P<user>\S+)"),
    ("user_add_failed", "failure", r"failed adding user '(?P<user>[^']+)',? ?(?P<reason>.*)"),
)  # fmt: skip
_CRON: Final = (("cron_command", None, r"\((?P<user>[^)]+)\) CMD \((?P<command>.*)\)$"),)
_AUTHD: Final = (
    ("authorization", "success", r"UID (?P<uid>\d+) authenticated as user (?P<user>\S+) \(UID \d+\) for right '(?P<right>[^']+)'"),
    ("authorization", "success", r"Succeeded authorizing right '(?P<right>[^']+)' by client '(?P<client>[^']+)'"),
    ("authorization", "failure", r"Failed to authorize right '(?P<right>[^']+)' by client '(?P<client>[^']+)'"),
)


def _compiled(*tables: tuple[tuple[str, str | None, str], ...]) -> tuple[tuple[str, str | None, re.Pattern[str]], ...]:
    return tuple((action, outcome, re.compile(sentence)) for table in tables for action, outcome, sentence in table)


# Which sentences a program says, PAM's apart, which any may.
_PROGRAMS: Final = {
    name: sentences
    for names, sentences in (
        ("sshd sshd-session dropbear", _compiled(_SSHD)),
        ("su su-l", _compiled(_SU)),
        ("login rlogin gdm gdm-password lightdm telnetd", _compiled(_LOGIN)),
        ("systemd-logind elogind", _compiled(_LOGIND)),
        ("useradd userdel usermod groupadd groupdel groupmod gpasswd passwd chpasswd chage chsh chfn newusers adduser addgroup "
         "vipw", _compiled(_ACCOUNTS)),
        ("CRON cron crond anacron /usr/sbin/cron", _compiled(_CRON)),
        ("authd com.apple.SecurityServer SecurityServer", _compiled(_AUTHD)),
        ("sudo sudo-i polkitd polkit-1 pam pkexec vsftpd xrdp-sesman systemd samba", ()),
    )
    for name in names.split()
}  # fmt: skip
PROGRAMS: Final = frozenset(_PROGRAMS)
"""Programs whose messages are about logins, sessions and accounts, also where a sentence of theirs is not known."""
_PAM_SENTENCES: Final = _compiled(_PAM)

# rsyslog: "message repeated 2 times: [ Failed password for …]".
_REPEATED = re.compile(r"message repeated (\d{1,9}) times: \[ (?!message repeated )(.*)\]\s*$", re.DOTALL)
_SOLARIS = re.compile(r"\[ID \d{1,10} [a-z0-9]{1,16}\.[a-z]{1,16}\] ")  # [ID 800047 auth.info]
_SUDO = re.compile(r"\s*(?P<user>[^\s:]+) : (?:(?P<error>[^;=]*?) ; )?(?=[A-Z]+=)")
_SUDO_PAIR = re.compile(r"(HOST|TTY|PWD|CWD|CHROOT|USER|GROUP|TSID|ENV|COMMAND)=")
_SUDO_FIELDS: Final = " ; "
_LONGEST: Final = 4096


def read_unix(program: str | None, text: str) -> UnixEvent | None:
    """What ``program`` (APP-NAME, or tag) says in ``text``; None for a program or a sentence that is not known."""
    if program is None:
        return None
    if text.startswith("message repeated ") and (again := _REPEATED.match(text)) is not None:
        found = read_unix(program, again[2])
        return None if found is None else found._replace(pairs=found.pairs | {"repeated": again[1]})
    if text.startswith("[ID ") and (solaris := _SOLARIS.match(text)) is not None:
        text = text[solaris.end() :]
    name, _, service = program.partition("(")  # RHEL 4: sshd(pam_unix)[12]:
    sentences = _PROGRAMS.get(name)
    if text.startswith("pam_", 0, 16) or (sentences is not None and ("pam_" in text[:24] or service or text.startswith("PAM "))):
        found = _pam(text, service.rstrip(")"))
        if found is not None:
            return found
    if sentences is None:
        return None
    if name in {"sudo", "sudo-i"}:
        return _sudo(text)
    for action, outcome, sentence in sentences:
        match = sentence.match(text, 0, _LONGEST)
        if match is not None:
            return UnixEvent(action, outcome, {key.removesuffix("_b"): value for key, value in match.groupdict().items() if value})
    return None


def _pam(text: str, module: str) -> UnixEvent | None:
    begin = _PAM_BEGIN.match(text, 0, 160)
    pairs: dict[str, str] = {}
    at = 0
    if begin is not None:
        pairs = {key: value for key, value in begin.groupdict().items() if value}
        at = begin.end()
    elif module:
        pairs["module"] = module
    if (more := _MORE.match(text)) is not None:
        pairs["count"] = more["count"]
        return UnixEvent("authentication", "failure", pairs | _pam_pairs(text))
    for action, outcome, sentence in _PAM_SENTENCES:
        match = sentence.match(text, at, _LONGEST)
        if match is None:
            continue
        pairs |= {key: value for key, value in match.groupdict().items() if value}
        if action == "authentication":
            pairs |= _pam_pairs(text)
        return UnixEvent(action, outcome, pairs)
    return None


def _pam_pairs(text: str) -> dict[str, str]:
    return {key: value for key, value in _PAM_PAIR.findall(text, 0, _LONGEST) if value}


def _sudo(text: str) -> UnixEvent | None:
    """``user : [error ; ]TTY=… ; PWD=… ; USER=… ; COMMAND=…``; a command may hold anything, " ; " too."""
    begin = _SUDO.match(text, 0, _LONGEST)
    if begin is None:
        return None
    pairs = {"user": begin["user"]}
    if begin["error"]:
        pairs["error"] = begin["error"].strip()
    at = begin.end()
    while (found := _SUDO_PAIR.match(text, at)) is not None:
        key = found[1]
        end = -1 if key == "COMMAND" else text.find(_SUDO_FIELDS, found.end())
        pairs[key] = text[found.end() :] if end < 0 else text[found.end() : end]
        if end < 0:
            break
        at = end + len(_SUDO_FIELDS)
    return UnixEvent("sudo", "failure" if "error" in pairs else "success", pairs)
