"""People decide what a run may do: told on every store."""

import pytest

from tests.flows import track
from tests.world import DAY, HOUR, MINUTE, World
from upshotd.application.erasing import Erasing
from upshotd.application.ports import RunFilter
from upshotd.domain.audience import Audience, Engaged
from upshotd.domain.message import Channel, Email
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.state import IdKind
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import EngagementState
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step, Workflow

REQUEST = Send(
    Channel.EMAIL,
    (
        Email(
            "{{ approval.kind }} {{ reviewer.user_id }}: {{ approval.summary }}",
            text="{{ approval.answer }}{{ approval.decision }}",
        ),
    ),
)
FINANCE = ReviewerLevel(group_id="finance")
BOSS = ReviewerLevel(user_ids=("{{ traits.manager }}",))


def told(word: str) -> tuple[Step, ...]:
    return (Step(word.lower(), Emit(word)),)


PAY = Approve(
    (replace(FINANCE, escalate_us=4 * HOUR), BOSS),
    REQUEST,
    "Pay {{ event.properties.amount }}?",
    2 * DAY,
    reminders_us=(HOUR,),
    notice=REQUEST,
    on_approved=told("Paid"),
    on_denied=told("Refused"),
    on_timeout=told("Forgotten"),
)


def paying(kind: Approve = PAY) -> Workflow:
    return track("Pay", Step("ok", kind))


async def proposed(scenario: World, kind: Approve = PAY) -> None:
    await scenario.define(paying(kind))
    for name in ("ann", "ben", "cem"):
        await scenario.identify(name, email=f"{name}@example.com")
    for name in ("ann", "ben"):
        await scenario.group(name, "finance")
    await scenario.identify("agent", manager="cem")
    await scenario.track("agent", "Pay", properties={"amount": 900})
    await scenario.settle()


def subjects(scenario: World) -> list[str]:
    return [one.content.subject for one in scenario.email.ledger if isinstance(one.content, Email)]


def asked(scenario: World, name: str) -> str:
    """Return the last message that somebody got."""
    return [d.message_id for d in scenario.email.ledger if d.recipient.startswith(name)][-1]


async def happened(scenario: World) -> list[str]:
    return [outcome.event for outcome in await scenario.outcomes()]


async def test_the_first_of_two_decides_and_both_are_told(scenario: World) -> None:
    await proposed(scenario)
    assert subjects(scenario) == ["REQUEST ann: Pay 900?", "REQUEST ben: Pay 900?"]
    first, second = asked(scenario, "ann"), asked(scenario, "ben")
    done = await scenario.engage(first, EngagementKind.APPROVED, data={"comment": "fine"})
    late = await scenario.engage(second, EngagementKind.DENIED)
    assert done.state is EngagementState.RECORDED
    assert (late.state, late.reason) == (EngagementState.REJECTED, "ALREADY_DECIDED")
    await scenario.settle()
    assert subjects(scenario)[2:] == ["NOTICE ann: Pay 900?", "NOTICE ben: Pay 900?"]
    assert "Paid" in await happened(scenario)
    assert "Refused" not in await happened(scenario)
    (run,) = await scenario.store.runs("default", RunFilter(), "", 10)
    story = [entry.detail for entry in run.timeline if entry.what in ("sending", "sent")]
    assert story[:3] == ["email by smtp (ann)", "email by smtp (ben)", "smtp (ann)"]


async def test_silence_reminds_then_asks_the_boss_then_ends(scenario: World) -> None:
    await proposed(scenario)
    await scenario.advance(HOUR)
    assert subjects(scenario)[2:] == ["REMINDER ann: Pay 900?", "REMINDER ben: Pay 900?"]
    await scenario.advance(3 * HOUR + MINUTE)
    assert subjects(scenario)[4:] == ["REQUEST cem: Pay 900?"]
    await scenario.advance(2 * DAY)
    assert "Forgotten" in await happened(scenario)


async def test_a_question_is_answered_and_then_it_is_denied(scenario: World) -> None:
    await proposed(scenario)
    message = asked(scenario, "ben")
    asked_first = await scenario.engage(message, EngagementKind.ASKED, data={"body": "what for?"})
    assert asked_first.state is EngagementState.RECORDED
    answered = await scenario.engage(message, EngagementKind.ANSWERED, data={"body": "a lamp"})
    assert answered.state is EngagementState.RECORDED
    await scenario.settle()
    last = scenario.email.ledger[-1]
    assert isinstance(last.content, Email)
    assert (last.content.subject, last.content.text) == ("ANSWER ben: Pay 900?", "a lamp")
    done = await scenario.engage(asked(scenario, "ben"), EngagementKind.DENIED)
    assert done.state is EngagementState.RECORDED
    assert "Refused" in await happened(scenario)


@pytest.mark.parametrize("default", list(ApprovalDecision))
async def test_where_nobody_can_be_asked_the_default_counts_at_once(
    scenario: World, default: ApprovalDecision
) -> None:
    nobody = replace(PAY, levels=(ReviewerLevel(group_id="none"),), default=default, on_timeout=())
    await proposed(scenario, nobody)
    expected = "Paid" if default is ApprovalDecision.APPROVED else "Refused"
    assert expected in await happened(scenario)
    assert not scenario.email.ledger


async def test_a_reviewer_whom_nobody_knows_is_named_where_it_is_looked_for(
    scenario: World,
) -> None:
    await proposed(scenario, replace(PAY, levels=(ReviewerLevel(user_ids=("anne", "ann")),)))
    assert subjects(scenario) == ["REQUEST ann: Pay 900?"]
    (run,) = await scenario.store.runs("default", RunFilter(), "", 10)
    (said,) = [entry.detail for entry in run.timeline if entry.what == "requested"]
    assert said == "level 1: ann; not known: anne"


async def test_the_context_is_fetched_before_each_round(scenario: World) -> None:
    await proposed(scenario, replace(PAY, context=FetchStep("https://a.example/balance")))
    assert len(scenario.fetcher.asked) == 1
    await scenario.advance(HOUR)
    assert len(scenario.fetcher.asked) == 2
    assert len({fetch.key for fetch in scenario.fetcher.asked}) == 2


async def test_of_a_reviewer_who_is_erased_nothing_is_left_in_the_request(scenario: World) -> None:
    await proposed(scenario)
    message_id = asked(scenario, "ann")
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.USER, "ann"))
    message = await scenario.store.message("default", message_id)
    assert message is not None
    assert (message.recipient, message.content, message.reason) == ("", None, "ERASED")
    late = await scenario.engage(message_id, EngagementKind.APPROVED)
    assert late.state is EngagementState.REJECTED
    done = await scenario.engage(asked(scenario, "ben"), EngagementKind.APPROVED)
    assert done.state is EngagementState.RECORDED


@pytest.mark.parametrize("defined", ["before", "after"])
async def test_who_opens_a_request_has_not_opened_a_message_of_their_own(
    scenario: World, defined: str
) -> None:
    opened = Audience("opened", Engaged((EngagementKind.OPENED,)))
    if defined == "before":
        await scenario.define_audience(opened)
    await proposed(scenario)
    done = await scenario.engage(asked(scenario, "ann"), EngagementKind.OPENED)
    assert done.state is EngagementState.RECORDED
    if defined == "after":
        await scenario.define_audience(opened)
    assert await scenario.members("opened") == set()


@pytest.mark.parametrize("whom", ["user_ids", "group_id"])
async def test_a_level_that_a_stranger_names_so_that_nobody_can_be_called_is_passed(
    scenario: World, whom: str
) -> None:
    named = "{{ event.properties.amount }}"
    strange = {whom: (named,) if whom == "user_ids" else named}
    await scenario.define(
        paying(replace(PAY, levels=(ReviewerLevel(**strange, escalate_us=HOUR), BOSS)))
    )
    await scenario.identify("cem", email="cem@example.com")
    await scenario.identify("agent", manager="cem")
    await scenario.track("agent", "Pay", properties={"amount": "a\0b"})
    await scenario.settle()
    assert subjects(scenario) == ["REQUEST cem: Pay ab?"]
