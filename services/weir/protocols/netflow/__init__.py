"""NetFlow v5, v7 and v9, and IPFIX: pure decoders and encoders.

A receiver uses `scan` and a `TemplateStore` per exporter address; a processor uses a `Decoder` per batch, fed with what the
batch carries; generators use `encode`.
"""

from weir.protocols.netflow.decode import Decoder, DecodeResult
from weir.protocols.netflow.fields import FlowRecord, FlowValue
from weir.protocols.netflow.options import DEFAULT_SELECTOR, SYSTEM_INIT, NameRecord, OptionRecord, SamplingRecord
from weir.protocols.netflow.stream import IpfixFramer, StreamError
from weir.protocols.netflow.templates import (
    MAX_NAMES,
    MAX_SAMPLINGS,
    MAX_TEMPLATE_BYTES,
    MAX_TEMPLATES,
    Needs,
    Scan,
    TemplateStore,
    scan,
)
from weir.protocols.netflow.wire import FIXED, MAX_FIELDS, MAX_RECORDS, FlowError, TemplateRecord

__all__ = [
    "DEFAULT_SELECTOR",
    "FIXED",
    "MAX_FIELDS",
    "MAX_NAMES",
    "MAX_RECORDS",
    "MAX_SAMPLINGS",
    "MAX_TEMPLATES",
    "MAX_TEMPLATE_BYTES",
    "SYSTEM_INIT",
    "DecodeResult",
    "Decoder",
    "FlowError",
    "FlowRecord",
    "FlowValue",
    "IpfixFramer",
    "NameRecord",
    "Needs",
    "OptionRecord",
    "SamplingRecord",
    "Scan",
    "StreamError",
    "TemplateRecord",
    "TemplateStore",
    "scan",
]
