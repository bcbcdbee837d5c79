"""`[relay.segment]`: what can be said, and that every fault is named at once."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from upshotd.adapters.relay.envelope import KINDS_DEFAULT
from upshotd.adapters.relay.file import FileSettings
from upshotd.adapters.relay.pauses import Backoff
from upshotd.adapters.relay.posting import retry_after_us
from upshotd.adapters.relay.segment import SegmentSettings
from upshotd.adapters.relay.settings import RelaySettings, relay_settings
from upshotd.adapters.relay.webhook import WebhookSettings
from upshotd.cli import main
from upshotd.domain.errors import InvalidArgument
from upshotd.domain.outcome import OutcomeKind


def named(name: str, tables: dict[str, object], **overrides: object) -> RelaySettings:
    return relay_settings(name, tables, {"KEY": "from-env"}, overrides, "1.2.3")


def read(table: object, **overrides: object) -> SegmentSettings:
    far_end = named("segment", {"segment": table}, **overrides).far_end
    assert isinstance(far_end, SegmentSettings)
    return far_end


def faults(table: object, **overrides: object) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as refused:
        read(table, **overrides)
    return {fault.field: fault.description for fault in refused.value.violations}


def test_a_write_key_is_all_that_is_needed() -> None:
    settings = read({"write_key": "abc"})

    assert settings.endpoint == "https://api.segment.io/v1/batch"
    assert named("segment", {"segment": {"write_key": "abc"}}).subscription == "segment"
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
    settings = read(table, write_key="k", endpoint="http://127.0.0.1:1/v1/batch")
    assert settings.write_key == "k"
    assert settings.endpoint == "http://127.0.0.1:1/v1/batch"
    assert named("segment", {"segment": table}, subscription=None).subscription == "one"
    assert named("segment", {"segment": table}, subscription="two").subscription == "two"


def test_secrets_may_be_in_files(tmp_path: Path) -> None:
    key, bad = tmp_path / "key", tmp_path / "bad"
    key.write_text("from-file\n")
    bad.write_text("se:cret in a file")
    table = {"write_key_file": str(key)}
    assert read(table).write_key == "from-file"
    assert named("segment", {"segment": table}).files == (str(key),)
    assert named("segment", {"segment": table}, write_key="k").files == (), "said here it stays"
    assert "se:cret" not in str(faults({"write_key_file": str(bad)}))
    assert "write_key_file" in str(faults({"write_key_file": str(key), "write_key": "k"}))
    assert "No such file" in str(faults({"write_key_file": str(tmp_path / "none")}))


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


# -- relays side by side -------------------------------------------------------------------------

SECRETS = "whsec_" + "A" * 32, "whsec_" + "B" * 32


def test_each_relay_has_a_kind_and_a_subscription_of_its_own(tmp_path: Path) -> None:
    tables: dict[str, object] = {
        "segment": {"write_key": "abc", "region": "eu"},
        "segment-us": {"kind": "segment", "write_key": "def"},
        "partner": {
            "kind": "webhook",
            "url": "https://partner.example/outcomes",
            "secret": " ".join(SECRETS),
            "timeout": "500ms",
        },
        "file": {"path": str(tmp_path / "outcomes.jsonl"), "kinds": ["RUN_FAILED"]},
    }
    found = {name: named(name, tables) for name in tables}

    assert {name: relay.subscription for name, relay in found.items()} == {n: n for n in tables}
    eu, us, partner, file = (found[name].far_end for name in tables)
    assert isinstance(eu, SegmentSettings)
    assert isinstance(us, SegmentSettings)
    assert eu.endpoint == "https://events.eu1.segmentapis.com/v1/batch"
    assert us.endpoint == "https://api.segment.io/v1/batch"
    assert isinstance(partner, WebhookSettings)
    assert (len(partner.keys), partner.timeout_us) == (2, 500_000)
    assert not any(secret in repr(partner) for secret in SECRETS)
    assert file == FileSettings(tmp_path / "outcomes.jsonl")
    # Segment is told of messages; the others get everything, also kinds of a newer server.
    assert found["segment"].kinds == KINDS_DEFAULT
    assert found["partner"].kinds == frozenset()
    assert found["file"].kinds == {OutcomeKind.RUN_FAILED}


def faults_of(name: str, tables: dict[str, object], **overrides: object) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as refused:
        named(name, tables, **overrides)
    return {fault.field: fault.description for fault in refused.value.violations}


def test_two_relays_do_not_share_what_each_of_them_needs_alone(tmp_path: Path) -> None:
    letters = str(tmp_path / "dead.jsonl")
    tables: dict[str, object] = {
        "a": {"kind": "file", "path": str(tmp_path / "a"), "dead_letters": letters},
        "b": {
            "kind": "file",
            "path": str(tmp_path / "b"),
            "dead_letters": letters,
            "subscription": "a",
        },
    }

    for name in tables:
        assert list(faults_of(name, tables)) == [
            f"relay.{name}.subscription",
            f"relay.{name}.dead_letters",
        ]


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"kind": "webhook", "secret": SECRETS[0]}, "url"),
        ({"kind": "webhook", "secret": SECRETS[0], "url": "https://a:b@x/"}, "url"),
        ({"kind": "webhook", "url": "https://x/"}, "secret"),
        ({"kind": "webhook", "url": "https://x/", "secret": "whsec_short"}, "secret"),
        ({"kind": "webhook", "url": "https://x/", "secret_env": "MISSING"}, "secret_env"),
        ({"kind": "webhook", "url": "https://x/", "secret": SECRETS[0], "naming": "x"}, "naming"),
        (
            {"kind": "webhook", "url": "https://x/", "secret": SECRETS[0], "timeout": "1h"},
            "timeout",
        ),
        ({"kind": "file"}, "path"),
        ({"kind": "file", "path": ""}, "path"),
        ({"kind": "file", "path": "/no/such/folder/outcomes.jsonl"}, "path"),
        ({"kind": "file", "path": "x", "dead_letters": "/no/such/folder/x"}, "dead_letters"),
        ({"kind": "file", "path": "x", "write_key": "k"}, "write_key"),
        ({"kind": "segment", "write_key": "k", "naming": "segment"}, "naming"),
        ({"kind": "segment", "write_key": "k", "identify": "yes"}, "identify"),
        ({"kind": "courier"}, "kind"),
        ({}, "kind"),
    ],
)
def test_a_fault_of_any_kind_has_its_path(table: dict[str, object], path: str) -> None:
    assert list(faults_of("other", {"other": table})) == [f"relay.other.{path}"]


def test_a_relay_that_is_not_there_is_named_with_those_that_are() -> None:
    found = faults_of("archive", {"partner": {"kind": "webhook"}})

    assert found == {"relay.archive": "there is no such table; relays are: partner, segment"}
    assert list(faults_of("segment", {"No Good": {"kind": "file"}, "x": 3})) == [
        "relay.No Good",
        "relay.x",
    ]


def test_semantic_names_leave_what_was_ignored_its_own() -> None:
    semantic = read({"write_key": "k", "naming": "semantic", "identify": True})

    assert semantic.rules.semantic
    assert semantic.identify
    assert OutcomeKind.MESSAGE_IGNORED not in semantic.rules.names
    plain = read({"write_key": "k"})
    assert not plain.rules.semantic
    assert not plain.identify


def test_the_write_key_of_the_environment_is_that_of_the_relay_called_segment(
    tmp_path: Path,
) -> None:
    file = tmp_path / "upshot.toml"
    file.write_text("[relay.other]\nkind = 'segment'\n")
    said = CliRunner().invoke(
        main,
        ["relay", "other", "--config", str(file)],
        env={"UPSHOT_SEGMENT_WRITE_KEY": "the-other-one"},
    )
    assert said.exit_code == 2
    assert "relay.other.write_key: is required" in said.output


def test_dead_letters_that_are_not_kept_cannot_be_retried(tmp_path: Path) -> None:
    said = CliRunner().invoke(
        main, ["relay", "segment", "--write-key", "k", "--retry-dead-letters"]
    )
    assert said.exit_code == 2
    assert "relay.segment.dead_letters is not set" in said.output
