"""Lines on a real disk: all of them, never half of one, whatever others do to the file."""

import os
import resource
from pathlib import Path

import orjson
import pytest

from tests.relay_outcomes import outcome
from upshotd.adapters.relay.dead_letters import DeadLetters, NoDeadLetter, outcomes_in
from upshotd.adapters.relay.far_end import NotExported
from upshotd.adapters.relay.line_file import LINE_BYTES_MAX, FileInUse, LineFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outcomes.jsonl"


def test_lines_are_appended_and_only_the_owner_reads_them(path: Path) -> None:
    file = LineFile(path)
    file.append([b'{"a":1}', b'{"b":2}'])
    file.append([b'{"c":3}'])
    file.close()

    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n{"c":3}\n'
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"b":', b'{"a":1}\n'),
        (b'{"b":', b""),
        # Only the newline is missing: the line is whole.
        (b'{"a":1}\n{"b":2}', b'{"a":1}\n{"b":2}\n'),
        (b"\0\0\0", b""),
    ],
)
def test_a_line_that_a_crash_tore_is_mended(path: Path, before: bytes, after: bytes) -> None:
    path.write_bytes(before)
    file = LineFile(path)
    file.append([b'{"c":3}'])
    file.close()

    assert path.read_bytes() == after + b'{"c":3}\n'


def test_a_file_of_something_else_is_not_cut(path: Path) -> None:
    path.write_bytes(b"x" * (LINE_BYTES_MAX + 5))

    with pytest.raises(OSError, match="does not end as a file of JSON lines does"):
        LineFile(path).append([b"{}"])
    assert path.stat().st_size == LINE_BYTES_MAX + 5


def test_a_file_that_was_moved_away_is_left(path: Path) -> None:
    file = LineFile(path)
    file.append([b'{"a":1}'])
    moved = path.rename(path.with_suffix(".1"))
    file.append([b'{"b":2}'])
    path.unlink()
    file.append([b'{"c":3}'])
    file.close()

    assert moved.read_bytes() == b'{"a":1}\n'
    assert path.read_bytes() == b'{"c":3}\n'


def test_told_to_reopen_it_looks_at_how_the_file_ends(path: Path) -> None:
    file = LineFile(path)
    file.append([b'{"a":1}'])
    path.write_bytes(b'{"torn":')  # somebody copied it away and truncated it, badly
    file.reopen()
    file.append([b'{"b":2}'])
    file.close()

    assert path.read_bytes() == b'{"b":2}\n'


def test_two_processes_do_not_write_between_each_other(path: Path) -> None:
    first, second = LineFile(path), LineFile(path)
    first.append([b'{"a":1}'])
    with pytest.raises(FileInUse):
        second.append([b'{"b":2}'])
    first.close()
    second.append([b'{"b":2}'])
    second.close()

    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_lines_for_which_there_is_no_room_are_taken_back(path: Path) -> None:
    file = LineFile(path)
    file.append([b'{"a":1}'])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.append([b'{"b":"' + b"x" * 60 + b'"}'] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b'{"a":1}\n'
    file.append([b'{"c":3}'])
    file.close()

    assert path.read_bytes() == b'{"a":1}\n{"c":3}\n'


def test_a_pipe_is_no_file(path: Path) -> None:
    os.mkfifo(path)

    with pytest.raises(OSError, match="no regular file"):
        LineFile(path).append([b"{}"])


# -- dead letters --------------------------------------------------------------------------------


def letters(path: Path) -> DeadLetters:
    return DeadLetters(path, "partner", include_recipient=False, now_us=lambda: 1_500_000)


def test_a_dead_letter_says_what_when_and_why(path: Path) -> None:
    made = outcome(recipient="ana@example.com")
    letters(path).add(made, NotExported.REFUSED, "HTTP 400")
    letters(path).add(made, NotExported.NO_PERSON, "")

    first, second = map(orjson.loads, path.read_bytes().splitlines())
    assert first.pop("outcome")["outcomeId"] == made.outcome_id
    assert first == {
        "time": "1970-01-01T00:00:01.500Z",
        "relay": "partner",
        "reason": "REFUSED",
        "detail": "HTTP 400",
    }
    assert "detail" not in second
    assert b"ana@" not in path.read_bytes()


def test_letters_are_set_apart_to_be_retried_and_those_left_over_come_first(path: Path) -> None:
    kept = letters(path)
    assert kept.set_apart() is None
    for number in range(3):
        kept.add(outcome(outcome_id=f"o-{number}"), NotExported.REFUSED, "")
    apart = kept.set_apart()
    assert apart is not None
    kept.add(outcome(outcome_id="o-3"), NotExported.REFUSED, "")

    assert kept.set_apart() == apart, "nobody has deleted it: the retry was broken off"
    assert [made.outcome_id for made in outcomes_in(apart)] == ["o-0", "o-1", "o-2"]
    apart.unlink()
    apart = kept.set_apart()
    assert apart is not None
    assert [made.outcome_id for made in outcomes_in(apart)] == ["o-3"]


@pytest.mark.parametrize("line", ["{}", "no json", '{"outcome": 3}', "[]"])
def test_a_line_that_is_no_letter_is_named(path: Path, line: str) -> None:
    letters(path).add(outcome(), NotExported.REFUSED, "")
    with path.open("a") as file:
        file.write(line + "\n")

    with pytest.raises(NoDeadLetter, match="line 2"):
        list(outcomes_in(path))
