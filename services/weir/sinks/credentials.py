"""Tokens for Azure, by the way the settings name.

The Azure libraries are imported when a token is first wanted: they take half a second that no other service should pay.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = ["AccessTokenLike", "AzureAuth", "StaticTokenFile", "TokenCredential", "make_credential"]

AzureAuth = Literal["default", "managed-identity", "client-secret", "static-token-file"]
_REREAD_SECONDS = 300


class AccessTokenLike(Protocol):
    """A token and when it expires, in seconds since 1970."""

    token: str
    expires_on: int


class TokenCredential(Protocol):
    """What Azure's clients ask for tokens."""

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        """A token for the scopes."""


class StaticTokenFile:
    """The bearer token in a file that somebody else renews, such as a gateway's or a test's. Read again every five minutes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        """The token in the file. Raises OSError where the file cannot be read, ValueError where it is empty."""
        from azure.core.credentials import AccessToken  # noqa: PLC0415

        token = self._path.read_text(encoding="utf-8").strip()
        if not token:
            raise ValueError(f"{self._path} is empty: put a bearer token into it")
        # Azure's policies ask again five minutes before the end.
        return AccessToken(token, int(time.time()) + 300 + _REREAD_SECONDS)


def make_credential(
    auth: AzureAuth,
    *,
    token_file: Path | None = None,
    tenant_id: str | None = None,
    client_id: str | None = None,
    client_secret: str | None = None,
) -> TokenCredential:
    """The credential that `auth` names; settings have been checked before."""
    if auth == "static-token-file":
        if token_file is None:
            raise ValueError("static-token-file needs a file")
        return StaticTokenFile(token_file)
    from azure import identity  # noqa: PLC0415

    credential: TokenCredential
    if auth == "client-secret":
        credential = identity.ClientSecretCredential(tenant_id, client_id, client_secret)
    elif auth == "managed-identity":
        credential = identity.ManagedIdentityCredential(client_id=client_id) if client_id else identity.ManagedIdentityCredential()
    else:
        credential = identity.DefaultAzureCredential()
    return credential
