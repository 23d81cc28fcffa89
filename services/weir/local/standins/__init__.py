"""Stand-ins for the destinations: Sentinel's Logs Ingestion API, Azure Data Explorer, and a SIEM's syslog receiver.

They speak the real protocols to the unmodified SDKs, enforce the published limits, and misbehave on request (`POST /_control`).
No service imports them. Where a real service's behaviour is not documented, a stand-in takes the stricter reading, so that what
passes here passes there; each such place says so.
"""

__all__: list[str] = []
