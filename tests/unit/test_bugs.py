"""The bugs of `make bugs` still fit the code, and name tests that exist."""

import shutil
from pathlib import Path

import pytest

from tests.bugs.__main__ import ROOT, applied, bugs, named_test


@pytest.mark.parametrize("patch", bugs(), ids=lambda patch: patch.stem)
def test_a_bug_fits_the_code_and_names_a_test(patch: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    assert applied(patch, tmp_path) == ""
    file, _, name = named_test(patch).partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()


def test_there_are_enough_of_them() -> None:
    assert len(bugs()) >= 10
