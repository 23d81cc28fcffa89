"""`weir demo`: the whole pipeline on one machine, on real senders' formats, with every unit accounted for."""

from weir.local.demo.run import run_demo

__all__ = ["run_demo"]
