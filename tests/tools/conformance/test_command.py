"""`weir conformance`: families are found by themselves, and what goes wrong is a difference, never an abort."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from weir.tools import conformance
from weir.tools.conformance import Case, command, report
from weir.tools.conformance.command import CorpusError, families, run_conformance

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).resolve().parents[4] / "shared" / "corpus"))


def fine(_: Path) -> Iterator[Case]:
    yield Case("one")
    yield Case("two")


def explained(_: Path) -> Iterator[Case]:
    yield Case("one")
    yield Case("two", "3 instead of 4", "the other counts options")


def failing(_: Path) -> Iterator[Case]:
    yield Case("one")
    raise RuntimeError("no such thing")


def empty(_: Path) -> Iterator[Case]:
    return iter(())


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, conformance.Family]:
    found: dict[str, conformance.Family] = {"fine": fine, "explained": explained}
    monkeypatch.setattr(command, "families", lambda: found)
    return found


def test_modules_with_cases_are_found_and_named_with_hyphens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up.py").write_text("def cases(corpus):\n    return []\n", encoding="utf-8")
    (tmp_path / "_helper.py").write_text("def cases(corpus):\n    return []\n", encoding="utf-8")
    (tmp_path / "no_family.py").write_text("", encoding="utf-8")
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    monkeypatch.setattr(conformance, "__path__", [*conformance.__path__, str(tmp_path)])
    found = families()
    assert "made-up" in found
    assert not {"-helper", "no-family", "command"} & set(found)
    [case] = found["broken"](tmp_path)
    assert "nowhere_to_be_found" in (case.difference or "")
    assert case.reason is None
    for name in ("made_up", "no_family"):
        module = sys.modules.pop(f"{conformance.__name__}.{name}")
        assert isinstance(module, ModuleType)


def test_a_family_that_fails_counts_as_one_more_case_that_nothing_explains(tmp_path: Path) -> None:
    found = report(tmp_path, {"failing": failing, "fine": fine, "empty": empty})
    assert set(found) == {"failing", "fine"}
    assert (found["failing"].cases, found["failing"].agreed) == (2, 1)
    [case] = found["failing"].unexplained
    assert case.name == "behind one"
    assert "no such thing" in (case.difference or "")


def test_all_agreed_or_explained_is_exit_0_for_people_and_machines(
    tmp_path: Path, known: dict[str, conformance.Family], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_conformance(tmp_path, [], as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["families"]["fine"] == {"cases": 2, "agreed": 2, "differing": []}
    assert said["families"]["explained"]["differing"] == [
        {"case": "two", "difference": "3 instead of 4", "reason": "the other counts options"}
    ]
    assert run_conformance(tmp_path, ["explained"], as_json=False) == 0
    table = capsys.readouterr().out
    assert "fine" not in table
    assert "the other counts options" in table


def test_what_is_not_explained_is_exit_1_and_named(
    tmp_path: Path, known: dict[str, conformance.Family], capsys: pytest.CaptureFixture[str]
) -> None:
    known["bad"] = lambda _: [Case("a file", "two events instead of three")]
    assert run_conformance(tmp_path, [], as_json=False) == 1
    assert "bad, not explained, 1: a file: two events instead of three" in capsys.readouterr().out
    assert run_conformance(tmp_path, [], as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["families"]["bad"]["differing"][0]["reason"] == "not explained"


def test_without_a_corpus_it_says_how_to_name_one(
    tmp_path: Path, known: dict[str, conformance.Family], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEIR_CORPUS", raising=False)
    with pytest.raises(CorpusError, match="--corpus or WEIR_CORPUS"):
        run_conformance(None, [], as_json=False)
    with pytest.raises(CorpusError, match="no corpus at"):
        run_conformance(tmp_path / "none", [], as_json=False)
    with pytest.raises(CorpusError, match="no family 'nonesuch'; there are fine, explained"):
        run_conformance(tmp_path, ["nonesuch"], as_json=False)
    monkeypatch.setenv("WEIR_CORPUS", str(tmp_path))
    assert run_conformance(None, ["fine"], as_json=False) == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_a_folder_without_a_case_is_no_success(tmp_path: Path, known: dict[str, conformance.Family], as_json: bool) -> None:
    known["empty"] = empty
    with pytest.raises(CorpusError, match="holds no file of empty"):
        run_conformance(tmp_path, ["empty"], as_json=as_json)


def test_an_empty_reason_explains_nothing(tmp_path: Path, known: dict[str, conformance.Family]) -> None:
    known["bad"] = lambda _: [Case("a file", "two events instead of three", "")]
    assert run_conformance(tmp_path, ["bad"], as_json=True) == 1


def test_the_whole_corpus_is_agreed_or_explained() -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"no corpus at {CORPUS}; WEIR_CORPUS names one")
    found = report(CORPUS, families())
    if not found:
        pytest.skip("no family is here yet")
    unexplained = [f"{name}: {case.name}: {case.difference}" for name, result in found.items() for case in result.unexplained]
    assert unexplained == []
