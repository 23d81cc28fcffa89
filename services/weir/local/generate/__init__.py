"""Traffic in real senders' formats over real sockets: for the demo, the tests and for trying an installation.

What the units are is decided by `syslog`, `beats` and `netflow`, purely from a seed, a running number and the time;
`senders` owns the sockets and counts what it sent; `traffic.run` puts them together.
"""

from weir.local.generate.beats import BeatsUnits
from weir.local.generate.traffic import Amounts, Targets, run
from weir.local.generate.units import Sent, Unit, marks

__all__ = ["Amounts", "BeatsUnits", "Sent", "Targets", "Unit", "marks", "run"]
