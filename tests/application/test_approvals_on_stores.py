"""The same approvals on every store, with everything that reviewers do, end in the same way."""

import random
from pathlib import Path

import pytest

from tests.flows import track
from tests.stores import KINDS, opened
from tests.world import DAY, HOUR, MINUTE, World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.erasing import Erasing
from upshotd.application.ports import RunFilter
from upshotd.domain.approval import Approval
from upshotd.domain.audience import Audience, Did
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Channel, Email, Purpose, Sms
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.run import Run
from upshotd.domain.state import IdKind
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send
from upshotd.domain.values import replace
from upshotd.domain.workflow import Reentry, ReentryMode, Step, Workflow

PEOPLE = ("ann", "ben", "cem", "dan")
FACTS = (
    EngagementKind.APPROVED,
    EngagementKind.DENIED,
    EngagementKind.ASKED,
    EngagementKind.ANSWERED,
    EngagementKind.BOUNCED,
    EngagementKind.OPENED,
    EngagementKind.UNSUBSCRIBED,
)
TEXT = "{{ approval.kind }} {{ reviewer.user_id }} {{ approval.answer }}{{ approval.decision }}"
MAIL = Send(Channel.EMAIL, (Email(TEXT, text=TEXT),))
EITHER = Send(
    Route(Method.SINGLE, (Channel.EMAIL, Channel.SMS)), (Email(TEXT, text=TEXT), Sms(TEXT))
)
LEVELS = (
    ReviewerLevel(group_id="finance"),
    ReviewerLevel(user_ids=("{{ traits.manager }}", "ben")),
    ReviewerLevel(audience_id="payers"),
)


def approving(chance: random.Random, name: str) -> Workflow:
    levels = [
        replace(level, escalate_us=chance.choice((HOUR, 4 * HOUR)))
        for level in chance.sample(LEVELS, chance.randint(1, 3))
    ]
    kind = Approve(
        (*levels[:-1], replace(levels[-1], escalate_us=None)),
        chance.choice((MAIL, EITHER)),
        "Pay {{ event.properties.amount }}?",
        chance.choice((6 * HOUR, 2 * DAY)),
        context=chance.choice((None, FetchStep("https://a.example/balance"))),
        reminders_us=chance.choice(((), (HOUR,), (30 * MINUTE, 3 * HOUR))),
        notice=chance.choice((None, MAIL)),
        default=chance.choice((None, *ApprovalDecision)),
        on_approved=(Step("paid", Emit("Paid")),),
    )
    flow = track("Pay", Step("ok", kind))
    again = Reentry(ReentryMode.ALWAYS)
    return replace(flow, workflow_id=name, reentry=again, purpose=chance.choice(list(Purpose)))


class Story:
    """One history, the same from the same seed on whatever store."""

    def __init__(self, seed: int, on: World) -> None:
        self._chance = random.Random(seed)
        self._on = on
        self._number = 0
        #: What each act came to.
        self.told: list[object] = []

    async def play(self) -> None:
        on = self._on
        await on.define_audience(Audience("payers", Did("Pay")))
        for name in ("first", "second"):
            await on.define(approving(self._chance, name))
        for name in PEOPLE:
            await on.identify(name, email=f"{name}@example.com", phone="+15005550006")
            await on.group(name, "finance")
        acts = (self._propose, self._engage, self._change, self._erase, self._wait)
        for act in self._chance.choices(acts, (4, 10, 2, 1, 4), k=40):
            await act()
            await on.settle()
        await on.advance(3 * DAY)

    async def _propose(self) -> None:
        who = self._chance.choice(PEOPLE)
        await self._on.track(who, "Pay", properties={"amount": self._chance.randint(1, 9)})

    async def _engage(self) -> None:
        ledger = [*self._on.email.ledger, *self._on.sms.ledger]
        if not ledger:
            return
        ledger.sort(key=lambda d: (str(d.content), d.recipient, d.workflow_id, d.message_id))
        delivery = self._chance.choice(ledger)
        for kind in self._chance.choices(FACTS, k=self._chance.choice((1, 1, 2))):
            self._number += 1
            said = await self._on.engage(
                delivery.message_id,
                kind,
                engagement_id=f"f{self._number}",
                data={"body": f"{self._number}?"},
            )
            self.told.append((kind.name, said.state.name, said.reason, len(said.resumed)))

    async def _change(self) -> None:
        who = self._chance.choice(PEOPLE)
        if self._chance.random() < 0.5:
            await self._on.identify(who, manager=self._chance.choice(PEOPLE))
        else:
            await self._on.identify(who, email=f"{who}@{self._number}.example.com")

    async def _erase(self) -> None:
        who, on = self._chance.choice(PEOPLE), self._on
        if self._chance.random() < 0.5:
            await on.ingest(Event(on.next_event_id(), EventType.DELETE, who))
        else:
            erasing = Erasing(on.store, on.loop, on.clock, on.codec)
            await erasing.erase("default", (IdKind.USER, who))
            await erasing.finish()

    async def _wait(self) -> None:
        await self._on.advance(self._chance.choice((MINUTE, 35 * MINUTE, HOUR, 5 * HOUR)))


def run_of(run: Run) -> list[object]:
    """Return what became of a run, to the minute: the clock of a lab goes on with every look."""
    approval = Approval.of(run.steps.get("ok", {}))
    asked = [
        (one.ask, one.level, one.time_us // MINUTE, len(one.message_ids)) for one in approval.asked
    ]
    said = [(one.asked_by, one.question, one.answer) for one in approval.questions]
    left = run.steps.get("ok", {}).get("decision")
    over = (left, approval.decided_by, approval.timed_out, approval.end_us // MINUTE)
    words = [(entry.what, entry.detail) for entry in run.timeline]
    return [run.workflow_id, run.event_id, run.state.name, run.reason, asked, said, over, words]


async def seen(on: World) -> list[object]:
    """Return what is there at the end."""
    runs = await on.store.runs("default", RunFilter(), "", 10_000)
    said = [(o.event, o.user_id, o.reason, o.channel) for o in await on.outcomes()]
    sent = [(d.recipient, str(d.content)) for one in (on.email, on.sms) for d in one.ledger]
    return [sorted(map(run_of, runs), key=str), sorted(said), sorted(sent)]


async def played(kind: str, seed: int, folder: Path) -> list[object]:
    encode = ContractCodec().encode_outcome
    async with opened(kind, folder, encode=encode) as store, world(store) as on:
        story = Story(seed, on)
        await story.play()
        return [*story.told, *await seen(on)]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(6))
async def test_a_history_of_approvals_ends_the_same_on_every_store(
    seed: int, tmp_path: Path
) -> None:
    first, *others = [await played(kind, seed, tmp_path / kind) for kind in KINDS]
    for other in others:
        assert other == first
    *_, runs, said, sent = first
    assert len(runs) > 2
    assert {"Approval Requested", "Approval Decided"} <= {event for event, *_ in said}
    assert sent
    assert not [run for run in runs if run[2] in ("ACTIVE", "FAILED")]
