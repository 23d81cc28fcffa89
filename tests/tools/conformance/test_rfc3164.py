import os
from pathlib import Path

import pytest

from weir.tools.conformance import report
from weir.tools.conformance.rfc3164 import cases

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))


def test_no_difference_is_unexplained() -> None:
    found = report(CORPUS, {"rfc3164": cases})
    if not found:
        pytest.skip("the corpus is not here: set WEIR_CORPUS to the folder that has it")
    result = found["rfc3164"]
    assert not result.unexplained
    assert result.agreed >= 100
    assert len(result.differing) <= 0
