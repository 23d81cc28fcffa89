"""`weir decode`: what Weir makes of a person's own logs and captures, without Kafka.

Input becomes units as a receiver would cut them (`sources`, `text`, `captures`), units become raw batches, and these go through
the very functions of the processors (`batches`, `flows`), so that what is printed (`output`) is what Weir would publish.
"""

from weir.tools.decode.batches import DeadUnit, Decoded, Totals, decode
from weir.tools.decode.families import FAMILIES, Family
from weir.tools.decode.sources import Options
from weir.tools.decode.units import DecodeError, Unit

__all__ = ["FAMILIES", "DeadUnit", "DecodeError", "Decoded", "Family", "Options", "Totals", "Unit", "decode"]
