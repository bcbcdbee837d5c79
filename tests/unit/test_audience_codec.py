"""Audiences of the contract: every rule there and back, and every fault at once by its path."""

import pytest

from upshot.v1 import audience_pb2 as pb
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.grpc import audience_codec
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.zones import zone
from upshotd.domain.audience import (
    AllOf,
    AnyOf,
    Audience,
    Did,
    Engaged,
    Holds,
    InGroup,
    Not,
    Often,
    Rule,
)
from upshotd.domain.audience_validation import validate
from upshotd.domain.errors import FailedPrecondition
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.outcome import EngagementKind

LANGUAGES = (CelConditions(), SandboxTemplates(MESSAGE_ROOTS), zone)
EVERYTHING = AllOf(
    (
        AnyOf((Holds('traits.plan == "pro" && profile.email != ""'), InGroup("acme"))),
        Not(Did("Paid", "event.properties.amount > 3", Often(3, within_us=7_000_000))),
        Did("Signed Up", often=Often(ago_us=9_000_000)),
        Engaged((EngagementKind.OPENED, EngagementKind.CLICKED), True, "welcome", Often(2)),
    )
)


def faults(rule: Rule, audience_id: str = "them", display_name: str = "") -> dict[str, str]:
    found = validate(Audience(audience_id, rule, display_name), *LANGUAGES)
    return {fault.field: fault.description for fault in found}


def form(message: pb.Audience) -> dict[str, str]:
    return {fault.field: fault.description for fault in audience_codec.audience(message)[1]}


def test_every_rule_goes_there_and_comes_back():
    audience = Audience("them", EVERYTHING, "Those")
    codec = ContractCodec()
    definition = codec.encode_audience(audience)
    assert codec.decode_audience(definition, 4) == Audience("them", EVERYTHING, "Those", 4)
    assert faults(EVERYTHING) == {}


def test_what_is_of_a_newer_server_is_not_half_read():
    definition = pb.Audience(audience_id="them").SerializeToString()
    with pytest.raises(FailedPrecondition, match="of a newer server"):
        audience_codec.decode_audience(definition, 1)


def test_faults_of_form_are_told_by_path_all_at_once():
    rule = pb.AudienceRule()
    rules = rule.all_of.rules
    rules.add().any_of.rules.add()
    rules.add().event.within.seconds = -1
    rules.add().event.ago.SetInParent()
    rules.add().message.kinds.append(99)
    found = form(pb.Audience(audience_id="them", rule=rule))
    at = "audience.rule.all_of.rules"
    assert found[f"{at}[0].any_of.rules[0].rule"].startswith("one of all_of, any_of, not,")
    assert found[f"{at}[2].event.ago"] == "must be above 0"
    assert found[f"{at}[3].message.kinds[0]"] == "99 is no value this server knows"
    assert form(pb.Audience()) == {
        "audience.rule.rule": "one of all_of, any_of, not, condition, event, group, message "
        "is required"
    }


def test_one_that_is_too_large_is_not_read():
    rule = pb.AudienceRule(condition="x" * 70_000)
    assert list(form(pb.Audience(rule=rule))) == ["audience"]


def test_faults_of_meaning_are_told_by_path_all_at_once():
    rule = AllOf(
        (
            AnyOf(()),
            Holds("traits.plan =="),
            Holds(""),
            InGroup(""),
            Not(Did("", "event.x ==", Often(101, within_us=1, ago_us=2))),
            Engaged((EngagementKind.ACCEPTED, EngagementKind.OPENED, EngagementKind.OPENED)),
            Engaged(workflow_id="No Id", often=Often(within_us=-1)),
            Did("x", often=Often(ago_us=-1)),
            Engaged((EngagementKind.OPENED, EngagementKind.APPROVED), True),
        )
    )
    found = faults(rule, "Not An Id", "x" * 256)
    at = "audience.rule.all_of.rules"
    assert found.keys() == {
        "audience.audience_id",
        "audience.display_name",
        f"{at}[0].any_of.rules",
        f"{at}[1].condition",
        f"{at}[2].condition",
        f"{at}[3].group.group_id",
        f"{at}[4].not.event.event",
        f"{at}[4].not.event.condition",
        f"{at}[4].not.event.at_least",
        f"{at}[4].not.event.ago",
        f"{at}[5].message.kinds[0]",
        f"{at}[5].message.kinds[2]",
        f"{at}[6].message.kinds",
        f"{at}[6].message.workflow_id",
        f"{at}[6].message.within",
        f"{at}[7].event.ago",
        f"{at}[8].message.kinds[1]",
    }
    assert "comes about an approve step" in found[f"{at}[8].message.kinds[1]"]
    assert found[f"{at}[4].not.event.ago"] == "give either within or ago"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Holds("event.name == 'x'"), "names 'event'; here only profile and traits can be"),
        (Holds("now > timestamp(traits.until)"), "names 'now'"),
        (Holds("steps.x.opened"), "names 'steps'"),
        (Holds('"other" in profile.audiences'), "names 'profile.audiences'"),
        (Did("x", "traits.plan == 'pro'"), "names 'traits'; here only event can be"),
        (Did("x", "event.time > now"), "names 'now'"),
    ],
)
def test_a_condition_names_nothing_that_changes_without_anybody_looking(rule: Rule, text: str):
    (found,) = faults(rule).values()
    assert found.startswith(text)


def test_there_are_at_most_twenty_rules_five_deep():
    assert list(faults(AllOf(tuple(Did(f"e{n}") for n in range(21))))) == ["audience.rule"]
    deep: Rule = Did("x")
    for _ in range(5):
        deep = Not(deep)
    assert list(faults(deep).values()) == ["rules nest at most 5 deep"]
