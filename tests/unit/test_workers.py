"""The tests run side by side, and where they wait they come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workers import WAITING, FailuresAtOnce, once_for_all_workers, waiting_first, workers_for

TESTS = Path(__file__).parents[1]


def in_tests(*names: str) -> list[Path]:
    return [TESTS / name for name in names]


@pytest.mark.parametrize("paths", [[], ["integration"], ["unit", "integration"], ["browser/test_pages.py", "unit"]])
def test_tests_that_wait_have_more_workers_than_there_are_processors(paths: list[str]) -> None:
    assert workers_for(in_tests(*paths), TESTS, 2) == 2 + WAITING


@pytest.mark.parametrize("paths", [["unit"], ["unit", "http", "simulated"], ["unit/test_cli.py", "unit/test_peers.py"]])
def test_tests_that_use_the_processor_have_one_worker_each(paths: list[str]) -> None:
    assert workers_for(in_tests(*paths), TESTS, 2) == 2


@pytest.mark.parametrize("path", ["unit/test_workers.py", "integration/test_peers.py"])
def test_a_single_module_runs_without_workers(path: str) -> None:
    assert workers_for(in_tests(path), TESTS, 2) == 0


def test_tests_that_wait_come_first_and_all_stay_in_their_order() -> None:
    names = ["browser/b", "http/h", "integration/i2", "integration/i1", "real/r", "simulated/s", "unit/u2", "unit/u1"]
    assert waiting_first(TESTS, [(TESTS / name, name) for name in names]) == [
        *("browser/b", "integration/i2", "integration/i1", "real/r"),
        *("http/h", "simulated/s", "unit/u2", "unit/u1"),
    ]


def test_what_all_workers_need_is_made_once_and_again_only_if_that_failed(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(directory: Path) -> str:
        made.append(directory)
        if len(made) == 1:
            raise OSError("no space left on device")
        return f"made in {directory}"

    with pytest.raises(OSError, match="no space"):
        once_for_all_workers(tmp_path / "shared", make)
    first, second = (once_for_all_workers(tmp_path / "shared", make) for _ in range(2))
    assert first == second == f"made in {made[1]}"
    assert len(made) == len(set(made)) == 2
    assert all(each.is_dir() for each in made)


def test_a_failure_is_shown_when_it_happens() -> None:
    lines: list[str] = []
    where, text = ("tests/t.py", 3, "test_it"), "assert 1 == 2\ntests/t.py:3: AssertionError"
    plugin = FailuresAtOnce(lines.append)
    plugin.pytest_runtest_logreport(pytest.TestReport("tests/t.py::test_it", where, {}, "passed", None, "setup"))
    plugin.pytest_runtest_logreport(pytest.TestReport("tests/t.py::test_it", where, {}, "failed", text, "call"))
    assert lines == ["FAILED tests/t.py::test_it (call): tests/t.py:3: AssertionError"]
