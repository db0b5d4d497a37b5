"""Damaged files are told, never a traceback: a slice of `python tests/fuzz.py --minutes 60`, and all that once went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

fuzzing = pytest.importorskip("support.fuzzing", reason="needs fork and resource limits (Linux, macOS)")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> dict[str, list[bytes]]:
    return {name: target.seeds(tmp_path_factory.mktemp(name)) for name, target in fuzzing.TARGETS.items()}


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_good_files_are_read(name, seeds, tmp_path):
    """Else the fuzzer would only see messages of the first line."""
    target = fuzzing.TARGETS[name]
    file = tmp_path / target.file
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(seeds[name][0])
    target.run(file)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_damaged_files_are_told(name, seeds, tmp_path):
    @settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def slice_of_it(data: st.DataObject) -> None:
        fuzzing.check(name, data.draw(fuzzing.damaged(seeds[name])), tmp_path)

    slice_of_it()


@pytest.mark.parametrize("file", sorted(fuzzing.CORPUS.glob("*/*")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_once_went_wrong(file: Path, tmp_path):
    fuzzing.check(file.parent.name, file.read_bytes(), tmp_path)
