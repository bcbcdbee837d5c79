"""Failpoints: how they are told, and that nothing happens where none is armed."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from upshotd.adapters.failing import FailpointHit, acts
from upshotd.application import failpoints
from upshotd.application.failpoints import POINTS, arm, failpoint
from upshotd.domain.errors import InvalidArgument, ResourceExhausted

SOURCE = Path(failpoints.__file__).parents[1]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm({})


def test_nothing_happens_where_nothing_is_armed() -> None:
    for name in POINTS:
        failpoint(name)


def test_what_is_asked_for_happens_at_its_point_and_at_no_other() -> None:
    arm(acts("commit.after=raise; write.begun=disk-full;claim.after=pause(0)"))
    with pytest.raises(FailpointHit, match=r"commit\.after"):
        failpoint("commit.after")
    with pytest.raises(ResourceExhausted) as full:
        failpoint("write.begun")
    assert full.value.reason == "DATABASE_FULL"
    failpoint("claim.after")
    failpoint("commit.before")


def test_a_chance_of_nothing_is_nothing() -> None:
    arm(acts("commit.after=raise:0"))
    for _ in range(100):
        failpoint("commit.after")


def test_every_fault_is_named() -> None:
    with pytest.raises(InvalidArgument) as refused:
        acts("nowhere=exit;commit.after=explode;commit.before=exit:2;=;commit.after")
    assert len(refused.value.violations) == 5
    assert "commit.before" in refused.value.violations[0].description


def test_every_point_stands_in_the_program_once_and_in_the_list() -> None:
    found: list[str] = []
    for file in SOURCE.rglob("*.py"):
        found += re.findall(r"failpoint\(\"([a-z_.]+)\"\)", file.read_text())
    assert sorted(found) == sorted(POINTS)
    told = (SOURCE.parents[1] / "docs" / "failpoints.md").read_text()
    assert [name for name, where in POINTS.items() if f"| `{name}` | {where} |" not in told] == []
    assert len(POINTS) >= 15
