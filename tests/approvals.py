"""An approval as its engine leaves it: Pia wants to pay, Ann and Ben are asked."""

from typing import Any, cast

from tests.builders import DAY, NOON, a_message, a_profile, a_run, changes
from upshotd.application.definitions import DefinitionBook
from upshotd.application.ports import Store
from upshotd.domain.approval import Approval, Asking
from upshotd.domain.definitions import Definitions
from upshotd.domain.event import EventType
from upshotd.domain.message import Ask, Channel, Message, Sms
from upshotd.domain.run import Run
from upshotd.domain.steps.approve import Approve, ReviewerLevel
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.send import Send
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step, Trigger, Workflow

WORKSPACE = "default"
RUN, STEP = "run-pay", "ok"
#: Reviewers, and the message that each was asked by.
ASKED = {"ann": "m-ann", "ben": "m-ben"}
SUMMARY = "Pay 120 € to <Acme & Sons>?\nInvoice 7"
PAY = Workflow(
    "pay",
    Trigger(EventType.TRACK, "Payment Wanted"),
    (
        Step(
            STEP,
            Approve(
                (ReviewerLevel(user_ids=tuple(ASKED)),),
                Send(Channel.SMS, (Sms("{{ links.review }}"),)),
                SUMMARY,
                timeout_us=2 * DAY,
            ),
        ),
        Step("later", Delay(duration_us=DAY)),
    ),
)


class _OnlyPay:
    """The part of the codec that reads workflows, of a store that has one."""

    def decode_workflow(self, _definition: bytes, version: int) -> Workflow:
        return replace(PAY, version=version)


def book(store: Store) -> DefinitionBook:
    """Return the definitions of *store*: whatever is defined in it is `PAY`."""
    nothing = cast(Any, None)
    blank = Definitions(nothing, nothing, nothing, nothing, nothing, nothing, {})
    return DefinitionBook(store, cast(Any, _OnlyPay()), blank)


def approval(**fields: Any) -> Approval:
    """Return an approval for which Ann and Ben were asked at noon; nobody has decided."""
    asked = tuple(
        Asking(f"profile-{name}", Ask.REQUEST, 1, NOON, message_ids=(message_id,))
        for name, message_id in ASKED.items()
    )
    given: dict[str, Any] = {"level": 1, "level_us": NOON, "summary": SUMMARY, "asked": asked}
    return Approval(**{**given, **fields})


def run(made: Approval, **fields: Any) -> Run:
    """Return Pia's run, which waits for what was *made*."""
    given = {"run_id": RUN, "workflow_id": "pay", "profile_id": "profile-pia", "step_id": STEP}
    return a_run(**{**given, "steps": {STEP: made.left()}, **fields})


def message(name: str, **fields: Any) -> Message:
    """Return the message by which a reviewer is asked."""
    given = {"message_id": ASKED[name], "run_id": RUN, "step_id": STEP, "workflow_id": "pay"}
    return a_message(**{**given, "profile_id": f"profile-{name}", "ask": Ask.REQUEST, **fields})


async def keep(store: Store, made: Approval | None = None, **fields: Any) -> None:
    """Write the approval with its people, its messages, and one of a send step to Pia."""
    await store.define(WORKSPACE, "pay", b"pay", None, NOON)
    plain = a_message(message_id="m-pia", run_id=RUN, step_id="mail", profile_id="profile-pia")
    people = (a_profile(user_id=name) for name in ("pia", *ASKED))
    things = (*people, plain, *map(message, ASKED), run(made or approval(), **fields))
    await store.commit([changes(*things)])


async def kept(store: Store) -> Approval:
    """Return the approval as it is by now."""
    found = await store.run(WORKSPACE, RUN)
    assert found is not None
    return Approval.of(found.steps[STEP])
