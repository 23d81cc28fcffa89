"""Messages of Cisco ASA and FTD by number: what addresses, ports, interfaces, users and lists they hold.

Source: "Cisco Secure Firewall ASA Series Syslog Messages". Names follow its text: ``src`` is the side that opened the
connection, ``dst`` the other. Messages 302013, 302015, 302017, 302020, 302303 and 302305 name the foreign side first, whoever
began; where they say "outbound" the local side did, so its address is ``src``. Their teardowns say no direction, and the order in
which they stand is kept; 302021 names the foreign address (faddr) first, which is taken for the destination.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["ACTIONS", "MESSAGE_IDS", "AsaAction", "read_asa", "read_ftd"]


class AsaAction(NamedTuple):
    """What a message says was done, in ECS's words: event.type, event.outcome, and the category it belongs to."""

    types: tuple[str, ...]
    outcome: str | None
    category: str = "network"


_ADDRESS = r"[^\s/(),;\"]{1,255}+"
_PORT = r"[0-9A-Za-z_-]{1,32}+"

# Parts that the templates below are put together from.
_PARTS: Final = {
    "src": rf"(?P<src_interface>[^\s:]{{1,64}}):(?P<src_ip>{_ADDRESS})(?:/(?P<src_port>{_PORT}))?",
    "dst": rf"(?P<dst_interface>[^\s:]{{1,64}}):(?P<dst_ip>{_ADDRESS})(?:/(?P<dst_port>{_PORT}))?",
    "from": rf"(?P<src_ip>{_ADDRESS})(?:/(?P<src_port>{_PORT}))?",
    "to": rf"(?P<dst_ip>{_ADDRESS})(?:/(?P<dst_port>{_PORT}))?",
    "msrc": rf"(?: ?\((?P<src_mapped_ip>{_ADDRESS})/(?P<src_mapped_port>{_PORT})\))?",
    "mdst": rf"(?: ?\((?P<dst_mapped_ip>{_ADDRESS})/(?P<dst_mapped_port>{_PORT})\))?",
    "suser": r"(?: ?\((?P<src_user>[^()]{1,255})\))?",
    "duser": r"(?:\((?P<dst_user>[^()]{1,255})\))?",
    "user": r"(?: \((?P<user>[^()]{1,255})\))?",
    "proto": r"(?:protocol )?(?P<protocol>[0-9A-Za-z_-]{1,32})",
    "dir": r"(?P<direction>[Ii]nbound|[Oo]utbound)",
    "if": r"(?P<src_interface>[^\s,.:\"]{1,64})",
    "acl": r"\"?(?P<access_list>[^\s\"]{1,255}+)\"?",
    "icmp": r"(?: \(?type (?P<icmp_type>[0-9]+), code (?P<icmp_code>[0-9]+)\)?,?)?",
    "dur": r"(?P<duration>[0-9]{1,8}:[0-9]{2}:[0-9]{2})",
    "name": r"'?(?P<user>[^\s',]{1,255}+)'?",
    "ip": rf"(?P<src_ip>{_ADDRESS})",
    "reason": r"(?P<reason>[^()]{0,255}+)",
    "group": r"(?:Group <? ?=? ?(?P<group>[^,>]{0,255})>? ?,? )",
}

_ALLOW = AsaAction(("connection", "allowed"), "success")
_DENY = AsaAction(("connection", "denied"), "failure")
_START = AsaAction(("connection", "start"), "success")
_END = AsaAction(("connection", "end"), "success")
_INFO = AsaAction(("connection", "info"), None)
_LOGIN = AsaAction(("start",), "success", "authentication")
_REFUSED = AsaAction(("start",), "failure", "authentication")
_LOGOUT = AsaAction(("end",), "success", "session")
_SESSION = AsaAction(("start",), "success", "session")
_CHANGE = AsaAction(("change",), "success", "configuration")
_COMMAND = AsaAction(("info",), "success", "configuration")
_USER = AsaAction(("change",), "success", "iam")
_THREAT = AsaAction(("info",), None, "intrusion_detection")

# (message numbers, what was done, templates): "{part}" stands for the part of that name, all else is a regular expression. The
# templates of a message are tried in turn.
_TABLE: Final[tuple[tuple[str, AsaAction, tuple[str, ...]], ...]] = (
    ("106001", _DENY, (r"{dir} {proto} connection (?P<action>denied) from {from} to {to} flags (?P<flags>.*?) +on interface "
                       r"{if}",)),
    ("106002 106018", _DENY, (
        r"{proto} (?:Connection|packet type (?P<icmp_type>\S+)) (?P<action>denied) by {dir} list {acl} src {from} dest {to}",)),
    ("106006 106007", _DENY, (
        r"(?P<action>Deny) {dir} {proto} from {from} to {to}(?: on interface {if}| due to (?P<reason>.*))",)),
    ("106010 106014", _DENY, (r"(?P<action>Deny) {dir} {proto} src {src}{suser}(?: .*?)? dst {dst}{duser}{icmp}",)),
    ("106011", _DENY, (r"(?P<action>Deny) {dir} \(No xlate\) {proto} src {src}{suser} dst {dst}",)),
    ("106012", _DENY, (r"(?P<action>Deny) IP from {from} to {to}, IP options:? (?P<reason>.*)",)),
    ("106013", _DENY, (r"(?P<action>Dropping) echo request from {from} to PAT address {to}",)),
    ("106015", _DENY, (
        r"(?P<action>Deny) {proto} \((?P<reason>no connection)\) from {from} to {to} flags (?P<flags>.*?) +on interface {if}",)),
    ("106016", _DENY, (r"(?P<action>Deny) (?P<reason>IP spoof) from \({ip}\) to {to} on interface {if}",)),
    ("106017", _DENY, (r"(?P<action>Deny) IP due to (?P<reason>Land Attack) from {from} to {to}",)),
    ("106020", _DENY, (r"(?P<action>Deny) (?P<reason>IP teardrop fragment) \(.*?\) from {from} to {to}",)),
    ("106021 106022", _DENY, (
        r"(?P<action>Deny) {proto} (?P<reason>reverse path check|connection spoof) from {from} to {to} on interface {if}",)),
    ("106023", _DENY, (
        r"(?P<action>Deny) {proto} src {src}{suser} ?dst {dst}{duser}{icmp} ?by access-group {acl}"
        r"(?: \[(?P<hash_a>[^,\]]+), (?P<hash_b>[^\]]+)\])?",
        r"(?P<action>Deny) {proto} src {src}(?P<src_user>[^()]*?)(?: \([^()]*\))? dst {dst}{duser}{icmp}.*? by access.group "
        r"{acl}",)),
    ("106027", _DENY, (r"(?P<action>[Dd]eny|\S+) src (?P<src_mac>\S+) dst (?P<dst_mac>\S+) by access-group {acl}",)),
    ("106100", _ALLOW, (
        r"access-list {acl} (?P<action>permitted|denied|est-allowed) {proto} (?P<src_interface>[^\s/]+)/(?P<src_ip>[^\s(]+)"
        r"\((?P<src_port>[^)]+)\){suser} -> (?P<dst_interface>[^\s/]+)/(?P<dst_ip>[^\s(]+)\((?P<dst_port>[^)]+)\){duser}"
        r"(?: hit-cnt (?P<hit_count>[0-9]+))?(?: (?P<interval>first hit|[0-9]+-second interval))?"
        r"(?: \[(?P<hash_a>[^,\]]+), (?P<hash_b>[^\]]+)\])?",)),
    ("106102 106103", _ALLOW, (
        r"access-list {acl} (?P<action>permitted|denied) {proto} for user {name} (?P<src_interface>[^\s/]+)/(?P<src_ip>[^\s(]+)"
        r" ?\(?(?P<src_port>[0-9]+)\)?(?: ->)? (?P<dst_interface>[^\s/]+)/(?P<dst_ip>[^\s(]+) ?\(?(?P<dst_port>[0-9]+)\)?"
        r"(?: hit-cnt (?P<hit_count>[0-9]+))?",)),
    ("110002 110003", _DENY, (
        r"(?P<action>Failed) to locate egress interface for {proto} from {src} to {to}",
        r"Routing (?P<action>failed) to locate next.hop for {proto} from {src} to {dst}",)),
    ("109005", _LOGIN, (r"Authentication (?P<action>succeeded) for user {name} from {from} to {to}(?: on interface {if})?",)),
    ("109006", _REFUSED, (r"Authentication (?P<action>failed) for user {name} from {from} to {to}(?: on interface {if})?",)),
    ("109001 109002 109007", _INFO._replace(category="authentication", types=("info",)), (
        r"Auth(?:orization)? (?P<action>start|from|permitted).*? for user {name} from {from} to {to}(?: on interface {if})?",)),
    ("109008 109025", _DENY, (
        r"Authorization (?P<action>denied) (?:\(acl=(?P<access_list>[^)]*)\) )?for user {name} from {from} to {to}"
        r"(?: on interface {if})?(?: using {proto})?",)),
    ("111008 111010", _COMMAND, (
        r"User {name},? (?P<action>executed) (?:the )?'(?P<command>.*?)' command\.?$",
        r"User {name}, running '(?P<application>[^']*)' from IP {ip}, (?P<action>executed) '(?P<command>.*)'$",
        r"User {name},? (?P<action>executed) (?:the )?'(?P<command>.*)'",)),
    ("111009", _COMMAND, (r"User {name} (?P<action>executed) cmd: ?(?P<command>.*)",)),
    ("109201 109202 109203 109204 109205 109206 109207 109208 109209 109210 109211 109212 109213", _INFO._replace(
        category="session", types=("info",)), (
        r"UAUTH: Session=[^,]*, User=(?P<user>[^,]*), Assigned IP=(?P<src_ip>[^,\s]+), (?P<reason>.*)",)),
    ("111007", _COMMAND, (r"(?P<action>Begin) configuration: (?:{ip} )?reading from (?P<reason>.*)",)),
    ("111001 111004 111005", _CHANGE, (r"(?:Begin|End) configuration: {ip} (?P<action>writing|reading) ",
                                       r"{ip} (?P<action>end) configuration: (?P<reason>.*)",)),
    ("113004 113008 113012", _LOGIN, (
        r"AAA (?:user |transaction )?(?P<service>\w+ ?\w*?) ?(?:status|authentication)? ?"
        r"(?P<action>Successful|ACCEPT) ?: (?:server = +(?P<dst_ip>[^\s,]+) ?[,:] )?(?:local database : )?user = {name}",)),
    ("113005 113006 113015 113016", _REFUSED, (
        r"AAA user authentication (?P<action>Rejected) ?: reason = (?P<reason>.*?) ?: (?:server = +(?P<dst_ip>[^\s,]+) ?[,:] |"
        r"local database : )?user = {name}(?: ?: user IP = {ip})?",
        r"User {name} (?P<action>locked out) on exceeding (?P<reason>.*)",)),
    ("113009 113011", _INFO._replace(category="authentication", types=("info",)), (
        r"AAA (?P<action>retrieved) (?:default|user specific) group policy \((?P<group>[^)]*)\) for user = {name}",)),
    ("113019", _LOGOUT, (
        r"Group = (?P<group>[^,]*), Username = (?P<user>[^,]*), IP = (?P<src_ip>[^,\s]*), (?P<action>Session disconnected)\. "
        r"Session Type: (?P<session_type>[^,]*), Duration: (?P<duration>[^,]*), Bytes xmt: (?P<bytes_xmt>[0-9]+), "
        r"Bytes rcv: (?P<bytes_rcv>[0-9]+), Reason: (?P<reason>.*)",)),
    ("113039 722051 722022 722023 722028 722032 722033 722034 722037 722041", _SESSION, (
        r"Group <(?P<group>[^>]*)> User <(?P<user>[^>]*)> IP <(?P<src_ip>[^>]*)> (?:IPv4 Address <(?P<assigned_ip>[^>]*)> "
        r"IPv6 address <(?P<assigned_ipv6>[^>]*)> (?P<action>assigned)|(?P<action2>.*))",)),
    ("201003 201004", _DENY, (r"(?P<reason>Embryonic limit exceeded) \S+ for {from} \([^)]*\) {to} on interface {if}",)),
    ("209003 209004 209005", _DENY, (
        r"(?P<reason>[^:=]*?)(?:, size = \d+ exceeds[^:]*|)[:,] src = (?P<src_ip>[^,\s]+), dest = (?P<dst_ip>[^,\s]+), "
        r"proto = {proto}",)),
    ("302013 302015 302017 302303 302305", _START, (
        r"(?P<action>Built) (?:{dir} )?{proto} (?:state-bypass )?connection (?P<connection_id>[0-9]+) (?:for|from) "
        r"{src}{msrc}{suser} to "
        r"{dst}{mdst}{duser}{user}",)),
    ("302014 302016 302018 302036 302304 302306", _END, (
        r"(?P<action>Teardown) {proto} (?:state-bypass )?connection (?P<connection_id>[0-9]+) (?:for|from) {src}{suser} to {dst}"
        r" ?{duser} ?duration {dur} bytes (?P<bytes>[0-9]+)(?: {reason})?(?:\((?P<user>[^()]*)\))?",)),
    ("302020", _START, (
        r"(?P<action>Built) (?:{dir} )?{proto} connection for faddr (?:[^\s:/]+:(?=\S+\.))?(?P<src_ip>[^\s/(]+)/(?P<icmp_seq>"
        r"[0-9]+)"
        r"{suser} gaddr (?P<dst_mapped_ip>[^\s/(]+)/(?P<dst_mapped_port>[0-9]+){user} laddr (?P<dst_ip>[^\s/(]+)/(?P<icmp_code>"
        r"[0-9]+){duser}(?: ?type (?P<icmp_type>[0-9]+) code [0-9]+)?",)),
    ("302021", _END, (
        r"(?P<action>Teardown) {proto} connection for faddr (?:[^\s:/]+:(?=\S+\.))?(?P<dst_ip>[^\s/(]+)/(?P<icmp_seq>[0-9]+){duser}"
        r" gaddr (?P<src_mapped_ip>[^\s/(]+)/(?P<src_mapped_port>[0-9]+){user} laddr (?P<src_ip>[^\s/(]+)/(?P<icmp_code>[0-9]+)"
        r"{suser}(?: ?type (?P<icmp_type>[0-9]+) code [0-9]+)?",)),
    ("303002", _INFO, (
        r"FTP connection from {src} to {dst},? ?user (?P<user>\S*) (?P<action>Stored|Retrieved|stored|retrieved) file "
        r"(?P<file>.*)",)),
    ("304001", _ALLOW, (r"(?:(?P<user>[^\s@]+)@)?(?P<src_ip>[^\s(]+){suser} (?P<action>Accessed)(?: JAVA)? URL (?P<dst_ip>[^\s:(]+)"
                        r"(?:\([^)]*\))?:(?P<url>.*)",)),
    ("304002", _DENY, (r"Access (?P<action>denied) URL (?P<url>\S+) SRC (?P<src_ip>[^\s(]+){suser} DEST (?P<dst_ip>\S+) on "
                       r"interface"
                       r" {if}",)),
    ("305011 305012", _INFO, (
        r"(?P<action>Built|Teardown) (?P<translation>dynamic|static|portmap) (?:{proto} )?translation from {src}{suser} to "
        r"(?P<dst_interface>[^\s:(]+)(?:\([^)]*\))?:(?P<src_mapped_ip>[^\s/]+)(?:/(?P<src_mapped_port>[0-9]+))?(?: duration "
        r"{dur})?",)),
    ("305006 305005 305013", _DENY, (
        r"(?:portmap|regular|\S+) translation creation (?P<action>failed) for {proto} src {src}{suser} dst {dst}{icmp}",
        r"(?P<reason>No translation group found) for {proto} src {src}{suser} dst {dst}{icmp}",
        r"(?P<reason>Asymmetric NAT rules matched for forward and reverse flows); Connection (?:for )?{proto} src {src}{suser} dst "
        r"{dst}.*?(?P<action>denied)",)),
    ("308001", _REFUSED, (r"(?P<reason>.*?) for \d+ tries \(from {ip}\)",)),
    ("313001 313008", _DENY, (
        r"(?P<action>Denied) {proto} type=(?P<icmp_type>[0-9]+), code=(?P<icmp_code>[0-9]+) from {ip} on interface {if}",)),
    ("313004", _DENY, (
        r"(?P<action>Denied) {proto} type=(?P<icmp_type>[0-9]+), from (?:laddr )?{ip} on interface {if} to (?P<dst_ip>[^\s:]+): "
        r"(?P<reason>.*)",)),
    ("313005", _DENY, (
        r"(?P<action>No matching connection) for (?P<reason>ICMP error message): {proto} src {src}{suser} dst {dst}{icmp} on "
        r"(?P<interface>\S+) interface\.",)),
    ("313009", _DENY, (
        r"(?P<action>Denied) invalid {proto} code (?P<icmp_code>[0-9]+), for {src}{msrc}{suser} to {dst}{mdst}",)),
    ("322001", _DENY, (r"(?P<action>Deny) MAC address (?P<src_mac>\S+), (?P<reason>possible spoof attempt) on interface {if}",)),
    ("338001 338002 338003 338004 338005 338006 338007 338008 338101 338102 338103 338104 338201 338202 338203 338204", _THREAT, (
        r"Dynamic [Ff]ilter (?P<action>\w+) (?P<list_kind>black|white|grey) ?listed {proto} traffic from {src}{msrc} to "
        r"{dst}{mdst},? "
        r".*?(?P<side>source|destination) (?P<resolved>\S+) resolved from (?P<access_list>\S+) list: (?P<domain>[^,\s]+)"
        r"(?:, threat-level: (?P<threat_level>[^,]+), category: (?P<threat_category>.*))?",)),
    ("338301", _INFO, (r"(?P<action>Intercepted) DNS reply for (?:name|domain) (?P<domain>\S+) from {src} to {dst}, matched "
                       r"(?P<access_list>\S+)",)),
    ("400000", _THREAT, (r"(?:IDS|IPS):(?P<signature_id>[0-9]+) (?P<signature>.*?) from {from} to {to} on interface {if}",)),
    ("402117 402119", _DENY, (r"IPSEC: (?P<action>Received) (?P<reason>.*?) from {from}(?: \(user= ?(?P<user>[^)]*)\))? to {to}",)),
    ("405001", _DENY, (
        r"(?P<action>Received) (?P<reason>ARP \w+ collision) from {ip}/(?P<src_mac>\S+) on interface {if}",)),
    ("419001", _DENY, (r"(?P<action>Dropping) {proto} packet from {src} to {dst}, reason: (?P<reason>.*)",)),
    ("419002", _DENY, (r"(?P<reason>Duplicate (?P<protocol>TCP) SYN) from {src} to {dst}",)),
    ("500003", _DENY, (
        r"(?P<reason>Bad (?P<protocol>TCP) hdr length) \(.*?\) from {from} to {to}, flags: (?P<flags>.*?), on interface {if}",)),
    ("500004", _DENY, (r"(?P<reason>Invalid transport field) for protocol={proto}, from {from} to {to}",)),
    ("507003", _DENY, (r"{proto} flow from {src} to {dst} (?P<action>terminated) by inspection engine, reason - (?P<reason>.*)",)),
    ("502101 502102", _USER, (r"(?P<action>New user added|User deleted) (?:to|from) local dbase: Uname: {name} Priv: (?P<privilege>"
                              r"[0-9]+)",)),
    ("502103", _USER, (r"User (?P<action>priv level changed): Uname: {name} From: (?P<from_level>[0-9]+) To: (?P<privilege>"
                       r"[0-9]+)",)),
    ("602303 602304", _INFO, (
        r"IPSEC: An? (?P<direction>\w+) \S+ SA \(SPI= ?(?P<spi>[^)]*)\) between (?P<src_ip>\S+) and (?P<dst_ip>\S+) "
        r"\(user= ?(?P<user>[^)]*)\) has been (?P<action>created|deleted)",)),
    ("605004", _REFUSED, (r"Login (?P<action>denied) from {from} to (?P<dst_interface>[^\s:]+):(?P<dst_ip>[^\s/]+)/"
                          r"(?P<service>\S+) "
                          r"for user \"(?P<user>[^\"]*)\"",)),
    ("605005", _LOGIN, (r"Login (?P<action>permitted) from {from} to (?P<dst_interface>[^\s:]+):(?P<dst_ip>[^\s/]+)/"
                        r"(?P<service>\S+) "
                        r"for user \"(?P<user>[^\"]*)\"",)),
    ("606001 606003", _SESSION, (r"ASDM (?:logging )?session number [0-9]+ from {ip} (?P<action>started)",)),
    ("606002 606004", _LOGOUT, (r"ASDM (?:logging )?session number [0-9]+ from {ip} (?P<action>ended)",)),
    ("609001", _INFO, (r"(?P<action>Built) local-host {src}",)),
    ("609002", _INFO, (r"(?P<action>Teardown) local-host {src} duration {dur}",)),
    ("611101", _LOGIN, (r"User authentication (?P<action>succeeded): (?:IP address: (?P<src_ip>[^,\s]+), )?Uname: {name}",)),
    ("611102", _REFUSED, (r"User authentication (?P<action>failed): (?:IP address: (?P<src_ip>[^,\s]+), )?Uname: {name}",)),
    ("611103", _LOGOUT, (r"User (?P<action>logged out): Uname: {name}",)),
    ("620001 608001 607001", _INFO, (
        r"(?P<action>Pre-allocated?) (?P<service>\S+) (?P<channel>.*?) (?:secondary channel )?for {src} to {dst}.*? from "
        r"(?P<reason>.*)",)),
    ("710001 710002", _ALLOW, (r"{proto} access (?P<action>requested|permitted) from {from} to {dst}",)),
    ("710003", _DENY, (r"{proto} access (?P<action>denied) by ACL from {from} to {dst}",)),
    ("710005 710004 710006", _DENY, (r"{proto} request (?P<action>discarded) from {from} to {dst}",
                              r"{proto} connection (?P<reason>limit exceeded) from {src} to {dst}",)),
    ("713050 713119 713120 713130 713172 713202 713219 713220 713227 713228 713259 713902 713903 713904 713905 713906", _INFO, (
        r"(?:Group = (?P<group>[^,]*), )?(?:Username = (?P<user>[^,]*), )?IP = (?P<src_ip>[^,\s]+), (?P<text>.*)",
        r"(?P<text>.*?) from (?P<src_ip>[0-9.]+):(?P<src_port>[0-9]+)$",)),
    ("716001 716038", _LOGIN, (
        r"Group <(?P<group>[^>]*)> User <(?P<user>[^>]*)> IP <(?P<src_ip>[^>]*)> (?:Authentication: )?(?P<action>WebVPN "
        r"session started|"
        r"successful)",)),
    ("716002", _LOGOUT, (
        r"Group <(?P<group>[^>]*)> User <(?P<user>[^>]*)> IP <(?P<src_ip>[^>]*)> (?P<action>WebVPN session terminated): "
        r"(?P<reason>.*)",)),
    ("716039", _REFUSED, (
        r"(?:Group <(?P<group>[^>]*)> User <(?P<user>[^>]*)> IP <(?P<src_ip>[^>]*)> )?Authentication: (?P<action>rejected)"
        r"(?:, group = (?P<group2>\S+) user = (?P<user2>[^,\s]+))?",)),
    ("725001 725002 725003 725006 725007", _INFO, (
        r"(?:Starting|Device (?P<action>\w+)|SSL).*? (?:with|to|for)?(?: client| server)? ?(?P<src_interface>[^\s:]+):"
        r"(?P<src_ip>[^\s/]+)"
        r"/(?P<src_port>[0-9]+)(?: to (?P<dst_ip>[^\s/]+)/(?P<dst_port>[0-9]+))?",)),
    ("733100 733101 733102", _THREAT, (
        r"\[ ?(?P<object>[^\]]+)\] drop (?P<reason>rate-[0-9]+ exceeded)\.",
        r"(?:Host|Subnet) {ip} is (?P<action>attacking|targeted|\w+)",
        r"Threat-detection (?P<action>adds) host {ip} to shun list",)),
    ("734001", _INFO._replace(category="session", types=("info",)), (
        r"DAP: User (?P<user>[^,]+), Addr (?P<src_ip>[^,]+), Connection (?P<connection_type>[^:]+): .*?: (?P<dap_records>.*)",)),
    ("852001 852002", _INFO, (
        r"Received (?P<reason>.*? event) from application (?P<application>.*?) for {proto} flow {from} to {to}",)),
    ("737016 737026", _INFO, (r"IPAA: (?:Session=\S+, )?(?:Client )?(?P<action>assigned|\w+) (?P<assigned_ip>\S+) ",)),
)  # fmt: skip


def _compile(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{([a-z]+)\}", lambda part: _PARTS[part[1]], template))


# What messages of any number are put together from: who is connected over a VPN, and which ends a message is about.
_ANY: Final = tuple(
    _compile(template)
    for template in (
        r"(?:Group = (?P<group>[^,]*), )?(?:Username = (?P<user>[^,]*), )?IP = (?P<src_ip>[^,\s]+), (?P<text>.*)",
        r"Group <(?P<group>[^>]*)> User <(?P<user>[^>]*)> IP <(?P<src_ip>[^>]*)> (?P<text>.*)",
        r"TunnelGroup <(?P<group>[^>]*)> GroupPolicy <(?P<group_policy>[^>]*)> User <(?P<user>[^>]*)> IP <(?P<src_ip>[^>]*)> "
        r"(?P<text>.*)",
        r"(?:\([^)]*\) )?WebVPN session for client user (?P<user>[^,]+), IP (?P<src_ip>[^\s,]+) (?P<text>.*)",
        r"Local:(?P<dst_ip>[^\s]+):(?P<dst_port>[0-9]+) Remote:(?P<src_ip>[^\s]+):(?P<src_port>[0-9]+) Username:(?P<user>\S+) "
        r"(?:IKEv2 Group:(?P<group>\S+) )?(?P<text>.*)",
        r"(?:\S+ ){1,12}?(?:from|src|for) {src}{msrc}{suser} (?:to|dst) {dst}",
    )
)


def _rows() -> Iterator[tuple[str, tuple[re.Pattern[str], ...], AsaAction]]:
    for numbers, action, templates in _TABLE:
        patterns = tuple(_compile(template) for template in templates)
        for number in numbers.split():
            yield number, patterns, action


_PATTERNS: Final = {number: patterns for number, patterns, _ in _rows()}
ACTIONS: Final = {number: action for number, _, action in _rows()}
"""What each message number means; `action` among the pairs says more for those that are allowed or denied as the case may be."""
MESSAGE_IDS: Final = frozenset(_PATTERNS)

_OUTBOUND_NAMES_DESTINATION_FIRST: Final = frozenset({"302013", "302015", "302017", "302020", "302303", "302305"})
_SWAPPED: Final = {"src": "dst", "dst": "src"}
_LONGEST: Final = 2048  # characters that are read; ASA cuts its messages far below that


def read_asa(number: str, text: str) -> dict[str, str]:
    """What message ``number`` says, by name; empty where neither its wording nor a part of it is known.

    ``text`` is what follows the colon.
    """
    patterns = _PATTERNS.get(number)
    if patterns is None and number.startswith("4000"):  # 400000 to 400051: one wording for all signatures
        patterns = _PATTERNS["400000"]
    for pattern in (*(patterns or ()), *_ANY):
        found = pattern.match(text, 0, _LONGEST)
        if found is not None:
            pairs = {name.removesuffix("2"): value.strip() for name, value in found.groupdict().items() if value}
            if number in _OUTBOUND_NAMES_DESTINATION_FIRST and pairs.get("direction", "").lower() == "outbound":
                return {_SWAPPED.get(name[:3], name[:3]) + name[3:]: value for name, value in pairs.items()}
            return pairs
    return {}


# Security events of FTD (430001 to 430005): "Key: value" with commas between them, and commas within the values.
_FTD_PAIR = re.compile(r"(?:^|, )([A-Z][0-9A-Za-z_ ]{0,39}+|originalClientSrcIP):(?: |(?=,)|$)")


_MAX_PAIRS: Final = 512


def read_ftd(text: str) -> dict[str, str]:
    """The pairs of a security event; a value reaches to the comma before the next key."""
    pairs: dict[str, str] = {}
    found = _FTD_PAIR.match(text)
    while found is not None and len(pairs) < _MAX_PAIRS:
        following = _FTD_PAIR.search(text, found.end())
        end = len(text) if following is None else following.start()
        pairs.setdefault(found[1].strip(), text[found.end() : end].strip())
        found = following
    return pairs
