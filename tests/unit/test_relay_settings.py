"""`[relay.segment]`: what can be said, and that every fault is named at once."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from upshotd.adapters.relay.mapping import KINDS_DEFAULT
from upshotd.adapters.relay.pauses import Backoff
from upshotd.adapters.relay.segment_api import retry_after_us
from upshotd.adapters.relay.settings import SegmentSettings, segment_settings
from upshotd.cli import main
from upshotd.domain.errors import InvalidArgument
from upshotd.domain.outcome import OutcomeKind


def _file(path: str) -> str:
    found = {"key.txt": "from-file", "bad.txt": "se:cret in a file"}
    if path not in found:
        raise ValueError("the file cannot be read: No such file or directory")
    return found[path]


def read(table: object, **overrides: object) -> SegmentSettings:
    return segment_settings(table, {"KEY": "from-env"}, overrides, "1.2.3", _file)


def faults(table: object, **overrides: object) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as refused:
        read(table, **overrides)
    return {fault.field: fault.description for fault in refused.value.violations}


def test_a_write_key_is_all_that_is_needed() -> None:
    settings = read({"write_key": "abc"})

    assert settings.endpoint == "https://api.segment.io/v1/batch"
    assert settings.subscription == "segment"
    assert settings.rules.version == "1.2.3"
    assert settings.rules.kinds == KINDS_DEFAULT
    assert not settings.rules.include_recipient
    assert "abc" not in repr(settings)


def test_europe_has_an_endpoint_of_its_own() -> None:
    settings = read({"write_key": "abc", "region": "eu"})

    assert settings.endpoint == "https://events.eu1.segmentapis.com/v1/batch"


def test_the_command_line_goes_over_the_file() -> None:
    table = {"write_key_env": "KEY", "region": "eu", "subscription": "one"}

    assert read(table).write_key == "from-env"
    settings = read(table, write_key="k", endpoint="http://127.0.0.1:1/v1/batch", subscription=None)
    assert settings.write_key == "k"
    assert settings.endpoint == "http://127.0.0.1:1/v1/batch"
    assert settings.subscription == "one"


def test_the_write_key_may_be_in_a_file() -> None:
    settings = read({"write_key_file": "key.txt"})
    assert (settings.write_key, settings.write_key_file) == ("from-file", "key.txt")
    over = read({"write_key_file": "key.txt"}, write_key="k")
    assert (over.write_key, over.write_key_file) == ("k", ""), "said on the command line it stays"
    assert "se:cret" not in str(faults({"write_key_file": "bad.txt"}))


def test_kinds_and_names_are_chosen() -> None:
    rules = read(
        {
            "write_key": "abc",
            "kinds": ["MESSAGE_SENT", "RUN_FAILED"],
            "names": {"MESSAGE_SENT": "Email Sent"},
            "integrations": {"Amplitude": False, "Upshot": True},
            "include_recipient": True,
        }
    ).rules

    assert rules.kinds == {OutcomeKind.MESSAGE_SENT, OutcomeKind.RUN_FAILED}
    assert rules.names[OutcomeKind.MESSAGE_SENT] == "Email Sent"
    assert rules.names[OutcomeKind.MESSAGE_IGNORED] == "Message Opened"
    assert rules.integrations == {"Amplitude": False, "Upshot": True}
    assert rules.include_recipient


def test_whoever_renames_opens_renames_those_that_were_none() -> None:
    both = {"MESSAGE_OPENED": "Email Opened"}
    apart = both | {"MESSAGE_IGNORED": "Message Ignored"}

    names = read({"write_key": "k", "names": both}).rules.names
    assert names[OutcomeKind.MESSAGE_IGNORED] == "Email Opened"
    names = read({"write_key": "k", "names": apart}).rules.names
    assert names[OutcomeKind.MESSAGE_IGNORED] == "Message Ignored"


def test_every_fault_is_named_at_once_and_no_key_is_repeated() -> None:
    found = faults(
        {
            "write_key": "se:cret",
            "region": "mars",
            "kinds": ["MESSAGE_SENT", "MESSAGE_LOST", ["x"]],
            "names": {"CUSTOM": "X", "MESSAGE_SENT": "", "NOTHING": "Y"},
            "subscription": "No Good",
            "include_recipient": "yes",
            "integrations": {"All": "no"},
            "colour": "red",
        }
    )

    assert set(found) == {
        *("relay.segment.write_key", "relay.segment.region", "relay.segment.subscription"),
        *("relay.segment.kinds[1]", "relay.segment.kinds[2]", "relay.segment.include_recipient"),
        *("relay.segment.names.CUSTOM", "relay.segment.names.MESSAGE_SENT"),
        *("relay.segment.names.NOTHING", "relay.segment.integrations", "relay.segment.colour"),
    }
    assert "secret" not in str(found)
    assert "se:cret" not in str(found)


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({}, "write_key"),
        ({"write_key_env": "MISSING"}, "write_key_env"),
        ({"write_key_env": 3}, "write_key_env"),
        ({"write_key_file": "nowhere.txt"}, "write_key_file"),
        ({"write_key_file": "bad.txt"}, "write_key_file"),
        ({"write_key_file": 3}, "write_key_file"),
        ({"write_key": "k", "write_key_file": "key.txt"}, "write_key_file"),
        ({"write_key": "k", "endpoint": "ftp://x"}, "endpoint"),
        ({"write_key": "k", "endpoint": "https://key:@api.segment.io/v1/batch"}, "endpoint"),
        ({"write_key": "k", "endpoint": "http://x:99999"}, "endpoint"),
        ({"write_key": "k", "endpoint": "https://x/v1/batch", "region": "eu"}, "region"),
        ({"write_key": "k", "region": []}, "region"),
        ({"write_key": "k", "kinds": []}, "kinds"),
        ({"write_key": "k", "kinds": "MESSAGE_SENT"}, "kinds"),
        ({"write_key": "k", "names": []}, "names"),
        ({"write_key": "k", "integrations": []}, "integrations"),
    ],
)
def test_a_fault_has_its_path(table: dict[str, object], path: str) -> None:
    assert list(faults(table)) == [f"relay.segment.{path}"]


def test_something_else_than_a_table_is_a_fault() -> None:
    assert list(faults("segment")) == ["relay.segment"]


def test_the_command_names_faults_and_exits_2(tmp_path: Path) -> None:
    file = tmp_path / "upshot.toml"
    file.write_text("[relay.segment]\nregion = 'mars'\n")

    said = CliRunner().invoke(main, ["relay", "segment", "--config", str(file)])
    assert said.exit_code == 2
    assert "relay.segment.region" in said.output
    assert "relay.segment.write_key" in said.output

    file.write_text("[relay.courier]\n")
    said = CliRunner().invoke(main, ["relay", "segment", "--config", str(file)])
    assert said.exit_code == 2
    assert "relay.courier" in said.output


def test_pauses_double_up_to_a_limit_and_never_undercut_what_was_asked() -> None:
    backoff = Backoff(first_us=1_000, longest_us=60_000)

    assert [backoff.pause_us(n, 0.999999) for n in (1, 2, 3, 7, 10_000)] == [
        *(1_000, 2_000, 4_000, 60_000, 60_000)
    ]
    assert backoff.pause_us(9, 0.0) == 0
    assert backoff.pause_us(9, 0.0, at_least_us=90_000) == 90_000


@pytest.mark.parametrize(
    ("value", "asked_us"),
    [
        ("7", 7_000_000),
        ("86400", 3_600_000_000),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20_000_000),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:30 -0000", 20_000_000),
        ("soon", 0),
        ("-1", 0),
        ("", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, asked_us: int) -> None:
    assert retry_after_us(value, now_us=10_000_000) == asked_us
