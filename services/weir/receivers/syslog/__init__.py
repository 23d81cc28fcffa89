"""The syslog receiver: UDP, TCP and TLS."""

from weir.receivers.syslog.receiver import SERVICE, SyslogReceiver, build, main
from weir.receivers.syslog.settings import SyslogSettings

__all__ = ["SERVICE", "SyslogReceiver", "SyslogSettings", "build", "main"]
