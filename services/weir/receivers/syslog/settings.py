"""Settings of the syslog receiver."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from weir.protocols.proxy import ProxyPolicy
from weir.receivers.settings import SpoolSettings

__all__ = ["SyslogSettings"]

_PROXY_MODES = "^(off|optional|required)$"


class SyslogSettings(SpoolSettings):
    """What the syslog receiver reads."""

    syslog_host: str = Field("0.0.0.0", min_length=1, description="address to listen on; '::' for IPv4 and IPv6")
    syslog_udp_port: int = Field(5514, ge=-1, le=65535, description="UDP port; 0 takes any free port, -1 turns UDP off")
    syslog_tcp_port: int = Field(5514, ge=-1, le=65535, description="TCP port; 0 takes any free port, -1 turns TCP off")
    syslog_tls_port: int = Field(
        6514, ge=-1, le=65535, description="TLS port, open where WEIR_TLS_CERTIFICATE_FILE is set; 0 any free port, -1 off"
    )
    syslog_max_message_bytes: int = Field(
        65_536, ge=480, le=524_288, description="longer messages are cut to this, marked with their length, and dead-lettered"
    )
    syslog_max_connections: int = Field(
        4_096,
        ge=1,
        le=65_536,
        description="TCP and TLS connections at once, also those in their handshake; further ones are refused",
    )
    syslog_max_connections_per_source: int = Field(
        1_024,
        ge=0,
        le=65_536,
        description="connections of one source at once, an IPv4 address or an IPv6 /64; 0 for no limit of its own",
    )
    syslog_connection_rate: float = Field(
        200.0,
        ge=0,
        description="new connections per second of one source, an IPv4 address or an IPv6 /64, ten times as many at once; 0 for no "
        "limit",
    )
    syslog_message_rate: float = Field(
        0.0,
        ge=0,
        description="messages per second of one source address; beyond it datagrams are dropped and counted (rate limit), and "
        "connections are not read for a while; 0 for no limit",
    )
    syslog_message_burst: float = Field(
        0.0, ge=0, description="messages that a source may send at once under WEIR_SYSLOG_MESSAGE_RATE; 0 for those of ten seconds"
    )
    syslog_idle_seconds: float = Field(
        86_400.0,
        ge=0,
        description="a connection that has been silent for so long is closed; 0 for never. Generous, because a sender notices the "
        "closing only when its next message is lost; peers that are gone are found by TCP keep-alive within four minutes",
    )
    syslog_handshake_seconds: float = Field(
        10.0, gt=0, le=600, description="time for the TLS handshake and the PROXY header before the connection is closed"
    )
    syslog_backlog: int = Field(1_024, ge=1, le=65_535, description="connections that wait to be accepted")
    syslog_proxy_protocol: str = Field(
        "off",
        pattern=_PROXY_MODES,
        description="PROXY protocol (versions 1 and 2) on TCP and TLS: required refuses whoever is no balancer of "
        "WEIR_SYSLOG_PROXY_FROM or sends no header; optional takes others as they are, but refuses their headers",
    )
    syslog_udp_proxy_protocol: str = Field(
        "off", pattern=_PROXY_MODES, description="the same for datagrams (version 2); what is refused is dropped and counted"
    )
    syslog_proxy_from: str = Field("", description="CIDR ranges of balancers whose PROXY header is believed, comma separated")

    @model_validator(mode="after")
    def _proxy(self) -> Self:
        try:
            self.proxy_policy(self.syslog_proxy_protocol)
            self.proxy_policy(self.syslog_udp_proxy_protocol)
        except ValueError as error:
            raise ValueError(f"WEIR_SYSLOG_PROXY_FROM: {error}") from error
        return self

    def proxy_policy(self, mode: str) -> ProxyPolicy:
        """From whom a PROXY header is taken. Raises ValueError where the settings do not say."""
        return ProxyPolicy(mode, [part.strip() for part in self.syslog_proxy_from.split(",") if part.strip()])
