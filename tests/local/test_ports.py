"""Ports: free ones are free, taken ones are named."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from weir.local.errors import PortInUseError
from weir.local.ports import check_port, find_free_port


@pytest.mark.parametrize("udp", [False, True])
def test_a_found_port_can_be_bound_and_passes_the_check(udp: bool) -> None:
    port = find_free_port(udp=udp)
    check_port(port, "WEIR_X", udp=udp)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", port))


def test_a_found_port_is_not_one_the_kernel_hands_to_outgoing_connections() -> None:
    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not path.exists():
        pytest.skip(f"{path} is only on Linux")
    assert find_free_port() < int(path.read_text().split()[0])


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_an_error_that_names_port_process_and_setting(address: str) -> None:
    port = find_free_port()
    with socket.create_server((address, port)), pytest.raises(PortInUseError) as caught:
        check_port(port, "WEIR_KAFKA_PORT")
    assert f"port {port}" in caught.value.what
    assert f"process {os.getpid()}" in caught.value.what
    assert "WEIR_KAFKA_PORT" in caught.value.way_out


def test_a_taken_udp_port_is_an_error() -> None:
    port = find_free_port(udp=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
        with pytest.raises(PortInUseError, match=f"process {os.getpid()}"):
            check_port(port, "WEIR_SYSLOG_PORT", udp=True)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(PortInUseError, match="is no port"):
        check_port(port, "WEIR_KAFKA_PORT")
