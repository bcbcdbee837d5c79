"""Secrets in files: what is written there counts from its next use on."""

import os
from pathlib import Path

import pytest
import structlog

from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.secret_files import LOOK_US, Renewed, SecretFiles


class Watch:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def tick(self) -> None:
        self.now += LOOK_US


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def files(watch: Watch) -> SecretFiles:
    return SecretFiles(watch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("first\n")
    return path


def renewing(files: SecretFiles, path: Path) -> Renewed[str]:
    def make() -> str:
        text = files.text(str(path))
        if text.startswith("bad"):
            raise InvalidArgument.of([Violation("providers.mail.api_key", "cannot be a header")])
        return f"made of {text}"

    return Renewed(make(), make, lambda: files.version([str(path)]), "mail")


def test_space_around_it_is_no_part_of_it(files: SecretFiles, path: Path):
    path.write_text("  a b \r\n\n")
    assert files.text(str(path)) == "a b"


def test_a_new_one_counts_from_the_next_second_on(files: SecretFiles, path: Path, watch: Watch):
    value = renewing(files, path)
    path.write_text("second")
    assert value() == "made of first", "nobody looks twice in a second"
    watch.tick()
    assert value() == "made of second"


def test_told_to_look_it_looks_at_once(files: SecretFiles, path: Path):
    value = renewing(files, path)
    path.write_text("second")
    files.look()
    assert value() == "made of second"


def test_a_file_that_was_replaced_by_another_of_the_same_size_is_seen(
    files: SecretFiles, path: Path, tmp_path: Path
):
    value = renewing(files, path)
    before = path.stat()
    (tmp_path / "new").write_text("other\n")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").rename(path)
    files.look()
    assert value() == "made of other"


def test_what_says_the_same_again_is_no_change(files: SecretFiles, path: Path):
    renewed: list[str] = []
    value = Renewed("", lambda: renewed.append("again") or "", files.version, "mail")
    files.text(str(path))
    path.write_text("first")
    files.look()
    assert value() == ""
    assert not renewed


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text(" \n")])
def test_a_file_that_is_gone_or_empty_keeps_the_old_one_and_says_so_once(
    files: SecretFiles, path: Path, harm
):
    value = renewing(files, path)
    harm(path)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            files.look()
            assert value() == "made of first"
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("secret.unreadable", "error")
    assert line["file"] == str(path)
    path.write_text("second")
    files.look()
    assert value() == "made of second"


def test_one_that_cannot_be_used_keeps_the_old_one_and_is_not_told(files: SecretFiles, path: Path):
    value = renewing(files, path)
    path.write_text("bad canary")
    with structlog.testing.capture_logs() as lines:
        files.look()
        assert value() == "made of first"
    assert [line["event"] for line in lines] == ["secret.changed", "secret.refused"]
    assert lines[1]["faults"] == ["providers.mail.api_key cannot be a header"]
    assert "canary" not in str(lines)
    path.write_text("good")
    files.look()
    assert value() == "made of good"


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b"", "is empty"), (b"\xff\xfe", "no text"), (b"x" * 70_000, "too large")],
)
def test_at_the_start_a_file_must_say_something(
    files: SecretFiles, path: Path, raw: bytes, words: str
):
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=words):
        files.text(str(path))


def test_a_file_that_is_not_there_at_the_start_is_a_fault(files: SecretFiles, tmp_path: Path):
    with pytest.raises(ValueError, match="No such file"):
        files.text(str(tmp_path / "nowhere"))
