"""sFlow version 5: pure decoders and encoders. A processor uses `decode`, generators `weir.protocols.sflow.encode`."""

from weir.protocols.sflow.decode import (
    DISCARDED,
    INTERNAL,
    MAX_RECORDS,
    MAX_SAMPLES,
    MULTIPLE,
    SINGLE,
    CounterSample,
    DecodeResult,
    FlowSample,
    Interface,
    OtherSample,
    Sample,
    SampledHeader,
    decode,
)
from weir.protocols.sflow.structures import Value, drop_reason
from weir.protocols.sflow.wire import Header, SflowError, is_sflow, read_header

__all__ = [
    "DISCARDED",
    "INTERNAL",
    "MAX_RECORDS",
    "MAX_SAMPLES",
    "MULTIPLE",
    "SINGLE",
    "CounterSample",
    "DecodeResult",
    "FlowSample",
    "Header",
    "Interface",
    "OtherSample",
    "Sample",
    "SampledHeader",
    "SflowError",
    "Value",
    "decode",
    "drop_reason",
    "is_sflow",
    "read_header",
]
