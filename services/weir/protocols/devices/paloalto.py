"""Palo Alto Networks' PAN-OS messages: columns with commas between them, whose names the type of the log decides.

Source: "PAN-OS Administrator's Guide", Syslog Field Descriptions (7.1 to 11.0). A newer version only adds columns at the end,
 so one
list a type serves all. The names are those of the vendor's custom log formats. The exception is CONFIG, which holds the change's
details in the middle only where the operator has asked for them.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["PanosMessage", "read_panos"]


class PanosMessage(NamedTuple):
    """A log of PAN-OS: its type (TRAFFIC, THREAT, …), subtype, and columns by name. Empty columns are left out."""

    type: str
    subtype: str
    columns: dict[str, str]


# "_" is a column that the vendor keeps for later; what it holds is no information.
_HEAD: Final = "_ receive_time serial type subtype _ time_generated "
_HIERARCHY: Final = "dg_hier_level_1 dg_hier_level_2 dg_hier_level_3 dg_hier_level_4 vsys_name device_name "
_SESSION: Final = (
    "src dst natsrc natdst rule srcuser dstuser app vsys from to inbound_if outbound_if logset _ sessionid repeatcnt sport dport "
    "natsport natdport flags proto action "
)
_DEVICES: Final = (
    "src_category src_profile src_model src_vendor src_osfamily src_osversion src_host src_mac dst_category dst_profile dst_model "
    "dst_vendor dst_osfamily dst_osversion dst_host dst_mac container_id pod_namespace pod_name src_edl dst_edl hostid "
    "serialnumber "
)
_APPLICATION: Final = (
    "subcategory_of_app category_of_app technology_of_app risk_of_app characteristic_of_app container_of_app tunneled_app "
    "is_saas_of_app sanctioned_state_of_app "
)
_HIP: Final = (
    "srcuser vsys machinename os src matchname repeatcnt matchtype _ _ seqno actionflags " + _HIERARCHY
    + "vsys_id srcipv6 hostid serialnumber mac high_res_timestamp"
)  # fmt: skip

_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    kind: tuple((_HEAD + columns).split())
    for kind, columns in {
        "TRAFFIC": _SESSION + "bytes bytes_sent bytes_received packets start elapsed category _ seqno actionflags srcloc dstloc _ "
        "pkts_sent pkts_received session_end_reason " + _HIERARCHY + "action_source src_uuid dst_uuid tunnelid monitortag "
        "parent_session_id parent_start_time tunnel assoc_id chunks chunks_sent chunks_received rule_uuid http2_connection "
        "link_change_count policy_id link_switches sdwan_cluster sdwan_device_type sdwan_cluster_type sdwan_site dynusergroup_name "
        "xff_ip " + _DEVICES + "src_dag dst_dag session_owner high_res_timestamp nssai_sst nssai_sd " + _APPLICATION + "offloaded",
        "THREAT": _SESSION + "misc threatid category severity direction seqno actionflags srcloc dstloc _ contenttype pcap_id "
        "filedigest cloud url_idx user_agent filetype xff referer sender subject recipient reportid " + _HIERARCHY + "_ src_uuid "
        "dst_uuid http_method tunnelid monitortag parent_session_id parent_start_time tunnel thr_category contentver _ "
        "assoc_id ppid "
        "http_headers url_category_list rule_uuid http2_connection dynusergroup_name xff_ip " + _DEVICES + "domain_edl src_dag "
        "dst_dag partial_hash high_res_timestamp reason justification nssai_sst " + _APPLICATION,
        "SYSTEM": "vsys eventid object _ _ module severity opaque seqno actionflags " + _HIERARCHY + "_ _ high_res_timestamp",
        "CONFIG": "host vsys cmd admin client result path seqno actionflags " + _HIERARCHY + "dg_id comment _ high_res_timestamp",
        "HIPMATCH": _HIP,
        "HIP-MATCH": _HIP,
        "GLOBALPROTECT": "vsys eventid stage auth_method tunnel_type srcuser srcregion machinename public_ip public_ipv6 "
                         "private_ip "
        "private_ipv6 hostid serialnumber client_ver client_os client_os_ver repeatcnt reason error opaque status location "
        "login_duration connect_method error_code portal seqno actionflags high_res_timestamp selection_type response_time "
        "priority "
        "attempted_gateways gateway " + _HIERARCHY + "vsys_id",
        "USERID": "vsys ip user datasourcename eventid repeatcnt timeout beginport endport datasource datasourcetype seqno "
        "actionflags " + _HIERARCHY + "vsys_id factortype factorcompletiontime factorno ugflags userbysource tag_name "
        "high_res_timestamp origindatasource",
        "AUTHENTICATION": "vsys ip user normalize_user object authpolicy repeatcnt authid vendor logset serverprofile desc "
                          "clienttype "
        "event factorno seqno actionflags " + _HIERARCHY + "vsys_id authproto rule_uuid high_res_timestamp src_category "
                                                           "src_profile "
        "src_model src_vendor src_osfamily src_osversion src_host src_mac region _ user_agent sessionid",
        "DECRYPTION": _SESSION,
    }.items()
}  # fmt: skip
_ALSO_CALLED: Final = {"AUTH": "AUTHENTICATION"}
_OTHER: Final = tuple(_HEAD.split())
_CONFIG_DETAILS: Final = ("before_change_detail", "after_change_detail")
_CONFIG_DETAILS_AT: Final = 14  # index of the column behind "path"

_BEGIN = re.compile(
    r"[0-9]{0,10},[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2},[0-9A-Za-z ]{0,40},\"?([A-Z][A-Z0-9_-]{2,31})\"?,"
)
_FIELD = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"[^,]*+|([^,]*+)', re.DOTALL)
_MAX_COLUMNS: Final = 400


def read_panos(text: str) -> PanosMessage | None:
    """The columns of a message; None where it is not PAN-OS's. Columns that no list names are called ``column_`` and their number,
    counted from 1 as the vendor's tables do.
    """
    # Relays that found no tag leave its colon.
    text = text.removeprefix(": ")
    found = _BEGIN.match(text)
    if found is None:
        return None
    kind = _ALSO_CALLED.get(found[1], found[1])
    values = list(_split(text))
    names = _COLUMNS.get(kind, _OTHER)
    if kind == "CONFIG" and not (len(values) > _CONFIG_DETAILS_AT + 1 and values[_CONFIG_DETAILS_AT + 1].startswith("0x")):
        names = (*names[:_CONFIG_DETAILS_AT], *_CONFIG_DETAILS, *names[_CONFIG_DETAILS_AT:])
    columns: dict[str, str] = {}
    for index, value in enumerate(values):
        if value:
            name = names[index] if index < len(names) else f"column_{index + 1}"
            if name != "_":
                columns[name] = value
    return PanosMessage(kind, columns.get("subtype", ""), columns)


def _split(text: str) -> Iterator[str]:
    """Values with commas between them. In quotes, a comma is part of the value and two quotes are one."""
    position, count = 0, 0
    while count < _MAX_COLUMNS:
        found = _FIELD.match(text, position)
        if found is None:
            return
        quoted = found[1]
        yield (quoted.replace('""', '"') if quoted is not None else found[2]).strip()
        count += 1
        position = found.end() + 1
        if position > len(text):
            return
