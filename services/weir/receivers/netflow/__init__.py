"""The flow receiver: NetFlow, IPFIX and sFlow, with what is known of their exporters."""

from weir.receivers.netflow.receiver import SERVICE, NetflowReceiver, NetflowSettings, build, main

__all__ = ["SERVICE", "NetflowReceiver", "NetflowSettings", "build", "main"]
