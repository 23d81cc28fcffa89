"""The operations that Qumulo Core audits, and what they are in the Elastic Common Schema.

The names are those of the Qumulo administrator guide, "How Audit Logging Works". ``event.action`` is the operation itself;
this table gives ``event.category`` and ``event.type``, each type one that ECS 9 expects for one of its categories.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["OPERATIONS", "UNKNOWN", "OperationClass", "classify"]


class OperationClass(NamedTuple):
    """``event.category`` and ``event.type`` of an operation."""

    category: tuple[str, ...]
    type: tuple[str, ...]


UNKNOWN: Final = OperationClass(("file",), ("info",))
_BEGIN: Final = "begin_"

_TABLE: Final[tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...]] = (
    (("authentication",), ("start",), "ftp_login rest_login"),
    (("authentication", "session"), ("start",), "smb_login"),
    (("network", "session"), ("start",), "nfs_mount share_connect"),
    (("session",), ("end",), "smb_close_session"),
    # Files and directories.
    (("file",), ("access",), "fs_list_directory fs_open fs_read_data fs_read_link fs_read_metadata fs_read_user_metadata"),
    (
        ("file",),
        ("creation",),
        "fs_copy_chunk fs_create fs_create_directories fs_create_directory fs_create_file fs_create_hard_link "
        "fs_create_stream fs_create_symlink",
    ),
    (("file",), ("deletion",), "fs_delete fs_tree_delete tree_delete_start"),
    (("file",), ("change",), "fs_rename fs_write_data fs_write_file_lock fs_write_metadata fs_write_user_metadata"),
    (("file",), ("info",), "fs_fsstat fs_sample smb2_notify_req smb_close_handle tree_delete_cancel"),
    (("file", "configuration"), ("change",), "fs_set_quota"),
    (("file",), ("change",), "fs_release_nlm_locks_by_client fs_release_nlm_locks_by_file s3_abort_upload"),
    # Snapshots are a recovery means: their deletion is that of files.
    (("file",), ("creation",), "snapshot_create_snapshot"),
    (("file",), ("deletion",), "snapshot_delete_snapshot"),
    (
        ("file",),
        ("change",),
        # Misspelt as documented.
        "snapshot_lock_snapshot snapshot_modify_snapshot snapshot_unlock_snapshot snapshot_unlock_snapshot_challege",
    ),
    # Users, groups, roles, keys.
    (("iam",), ("user", "creation"), "auth_create_user"),
    (("iam",), ("user", "deletion"), "auth_delete_user"),
    (("iam",), ("user", "change"), "auth_modify_user auth_modify_user_password session_change_password"),
    (("iam",), ("group", "creation"), "auth_add_group"),
    (("iam",), ("group", "deletion"), "auth_delete_group"),
    (("iam",), ("group", "change"), "auth_add_member_to_group auth_modify_group auth_remove_member_from_group"),
    (("iam",), ("admin", "creation"), "auth_create_access_token auth_create_role identity_create s3_create_key"),
    (("iam",), ("admin", "deletion"), "auth_delete_access_token auth_delete_role identity_delete s3_delete_key"),
    (("iam",), ("admin", "deletion"), "auth_delete_identity_attributes"),
    (("iam",), ("admin", "info"), "auth_get_access_token auth_get_access_tokens"),
    (
        ("iam",),
        ("admin", "change"),
        "auth_assign_role auth_modify_access_token auth_modify_identity_attributes auth_modify_role "
        "auth_set_user_defined_mappings auth_unassign_role identity_modify",
    ),
    # The cluster's own settings.
    (
        ("configuration",),
        ("creation",),
        "cluster_generate_vpn_private_key dns_create encryption_create_key fs_create_public_key network_create_config "
        "nfs_create_export replication_create_object_relationship replication_create_source_relationship s3_add_bucket "
        "smb_create_share snapshot_create_policy tenant_create",
    ),
    (
        ("configuration",),
        ("deletion",),
        "dns_delete fs_delete_public_key kerberos_delete_keytab network_delete_config nfs_delete_export nfs_delete_settings "
        "replication_delete_object_relationship replication_delete_source_relationship "
        "replication_delete_target_relationship s3_delete_bucket smb_delete_settings smb_delete_share "
        "snapshot_delete_policy ssl_delete_ca_certificate tenant_delete",
    ),
    (
        ("configuration",),
        ("change",),
        "ad_join ad_leave ad_modify_settings ad_reconfigure audit_modify_cloudwatch_config audit_modify_syslog_config "
        "cluster_add_nodes cluster_initiate_node_replacement_plan cluster_install_vpn_keys cluster_modify_config "
        "cluster_modify_monitoring_config cluster_modify_nodes cluster_modify_upgrade_config "
        "cluster_nodes_resolve_indeterminate_modification dns_modify dns_set_lookup_overrides encryption_rotate_keys "
        "encryption_update_config fs_modify_atime_settings fs_modify_notify_settings fs_modify_permissions_settings "
        "fs_modify_public_key fs_replace_public_key ftp_modify_settings kerberos_modify_settings kerberos_set_keytab "
        "ldap_modify_settings network_modify_config network_modify_interface nfs_modify_export nfs_modify_settings "
        "replication_authorize_target_relationship replication_make_target_writable "
        "replication_modify_source_relationship replication_reconnect_target_relationship "
        "replication_reverse_target_relationship replication_target_relationship_lock s3_modify_bucket "
        "s3_modify_settings s3_put_bucket_policy saml_modify_settings smb_modify_settings smb_modify_share "
        "snapshot_modify_policy ssl_modify_ca_certificate ssl_modify_certificate tenant_modify time_modify_config "
        "web_ui_modify_settings",
    ),
    (
        ("configuration",),
        ("info",),
        "ad_cancel_operation ad_kerberos_renew_ticket cluster_calculate_node_add_capacity cluster_locate_disk_slot "
        "cluster_modify_nodes_dry_run node_set_identify_light replication_abort replication_abort_object_relationship "
        "replication_release_queued_snapshot replication_replicate_object_relationship replication_start "
        "s3_bucket_policy_explain_access s3_get_bucket_policy",
    ),
    # Nodes and the audit log itself going up and down.
    (("host",), ("start",), "reboot_resume remote_syslog_startup"),
    (("host",), ("end",), "node_halt remote_syslog_shutdown shutdown_halt"),
    (("host",), ("change",), "node_restart reboot_pause reboot_start"),
)

OPERATIONS: Final[Mapping[str, OperationClass]] = MappingProxyType(
    {name: OperationClass(category, kind) for category, kind, names in _TABLE for name in names.split()}
)


# Seen in the field and in no document.
_UNDOCUMENTED: Final = {"cluster_restart": OperationClass(("host",), ("change",))}

# What an operation is about, where no more is known of it.
_SUBJECTS: Final = (
    (("auth_", "identity_"), OperationClass(("iam",), ("info",))),
    (("node_", "reboot_", "shutdown_"), OperationClass(("host",), ("info",))),
    (
        ("ad_", "audit_", "cluster_", "dns_", "encryption_", "ftp_", "kerberos_", "ldap_", "network_", "nfs_", "replication_",
         "s3_", "saml_", "smb_", "ssl_", "tenant_", "time_", "web_ui_"),
        OperationClass(("configuration",), ("info",)),
    ),
)  # fmt: skip


def classify(operation: str) -> OperationClass:
    """The class of an operation. ``begin_X``, logged ahead of X, is of X's category but tells of no change yet: ``info``.

    One that is in no document is of the category that its first word tells, or of file, and ``info``.
    """
    if operation.startswith(_BEGIN):
        return OperationClass(_known(operation.removeprefix(_BEGIN)).category, ("info",))
    return _known(operation)


def _known(operation: str) -> OperationClass:
    known = OPERATIONS.get(operation) or _UNDOCUMENTED.get(operation)
    if known is not None:
        return known
    for words, about in _SUBJECTS:
        if operation.startswith(words):
            return about
    return UNKNOWN
