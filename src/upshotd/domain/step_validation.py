"""What is wrong with a step: every fault by its path, in the contract's names of fields."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from upshotd.domain import (
    approve_validation,
    experiment_validation,
    fetch_validation,
    send_validation,
)
from upshotd.domain.findings import Findings
from upshotd.domain.message import Channel
from upshotd.domain.outcome import RESERVED_EVENTS, EngagementKind
from upshotd.domain.routing import channels
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.branch import Branch
from upshotd.domain.steps.delay import WAIT_MAX_US, Delay
from upshotd.domain.steps.digest import Digest, Keep
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import Experiment
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import AudienceWait, EngagementWait, EventWait, Wait
from upshotd.domain.workflow import DAY_US, Step

ANY_OF_MIN, ANY_OF_MAX = 2, 10
CASES_MAX = 50
#: Most runs that a throttle lets pass in a period.
PASSES_MAX = 1_000
#: Most runs in one digest, and most items that it keeps.
DIGEST_MAX, KEEP_MAX = 500, 100
#: Most texts in the properties of an emit step: each is a template.
TEXTS_MAX = 200
#: Most traits that one step sets.
TRAITS_MAX = 50
#: What the names of emitted events may not begin with, in any case.
RESERVED_PREFIX = "upshot"

_WORD = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_NO_PASS = "throttle.on_throttled"


@dataclass(frozen=True, slots=True)
class Placed:
    """A step and where it stands."""

    step: Step
    #: From the root, as `workflow.steps[1].wait.on_timeout[0]`.
    path: str
    #: Which list of each step around it, by that step's path: two lists of one step exclude
    #: each other.
    arms: Mapping[str, str]


def check(  # noqa: C901, PLR0912
    placed: Placed, known: Mapping[str, Placed], findings: Findings
) -> None:
    """Note what is wrong with the kind of one step.

    *known* are the steps by id in document order, the first of each id.
    """
    kind, path = placed.step.kind, placed.path
    match kind:
        case Send():
            send_validation.check(kind, f"{path}.send", findings)
        case Delay():
            _delay(kind, f"{path}.delay", findings)
        case Wait():
            _wait(placed, kind, known, findings)
        case Branch():
            _branch(kind, f"{path}.branch", findings)
        case Throttle():
            _throttle(kind, f"{path}.throttle", findings)
        case Digest():
            _digest(kind, f"{path}.digest", findings)
        case FetchStep():
            fetch_validation.fetch(kind, f"{path}.fetch", findings)
        case Generate():
            fetch_validation.generate(kind, f"{path}.generate", findings)
        case UpdateProfile():
            _update_profile(kind, f"{path}.update_profile.traits", findings)
        case Experiment():
            around = tuple(placed.arms.values())
            experiment_validation.check(kind, f"{path}.experiment", around, findings)
        case Approve():
            approve_validation.check(kind, f"{path}.approve", findings)
        case Emit():
            _emit(kind, f"{path}.emit", findings)
        case Enroll():
            _enroll(kind, f"{path}.enroll.workflow_id", findings)
        case Suppress():
            _suppress(kind, f"{path}.suppress", findings)
        case Exit():
            if not _WORD.fullmatch(kind.reason):
                text = f"{kind.reason!r} is no upper-case word of at most 63 characters"
                findings.fault(f"{path}.exit.reason", text)
        case _:
            assert_never(kind)


def _delay(delay: Delay, path: str, findings: Findings) -> None:
    given = (delay.duration_us is not None) + (delay.until_us is not None) + bool(delay.until)
    given += (delay.window is not None) + (delay.spread_us is not None)
    if given != 1:
        ways = "duration, spread, until.time, until.expression, until.window"
        findings.fault(f"{path}.moment", f"exactly one of {ways} is required")
    if delay.spread_us is not None:
        findings.span(f"{path}.spread", delay.spread_us, most_us=WAIT_MAX_US)
    if delay.duration_us is not None and not 0 <= delay.duration_us <= WAIT_MAX_US:
        text = f"must be 0 to {WAIT_MAX_US // DAY_US} days"
        findings.fault(f"{path}.duration", text)
    findings.expression(f"{path}.until.expression", delay.until, yields="moment")
    findings.time_zone(f"{path}.until.window.time_zone", delay.time_zone)


def _wait(placed: Placed, wait: Wait, known: Mapping[str, Placed], findings: Findings) -> None:
    path = f"{placed.path}.wait"
    findings.span(f"{path}.timeout", wait.timeout_us, most_us=WAIT_MAX_US)
    count = len(wait.conditions)
    if wait.any_of and not ANY_OF_MIN <= count <= ANY_OF_MAX:
        text = f"{count} given; {ANY_OF_MIN} to {ANY_OF_MAX} are taken"
        findings.fault(f"{path}.any_of.conditions", text)
    elif not wait.any_of and count != 1:
        findings.fault(
            f"{path}.condition", "one of engagement, event, audience, any_of is required"
        )
    for index, condition in enumerate(wait.conditions):
        at = f"{path}.any_of.conditions[{index}]" if wait.any_of else path
        match condition:
            case EngagementWait():
                _engagement(placed, condition, f"{at}.engagement", known, findings)
            case EventWait():
                _event(condition, f"{at}.event", findings)
            case AudienceWait(change):
                findings.name(f"{at}.audience.audience_id", change.audience_id)
            case _:
                assert_never(condition)
    engages = any(isinstance(condition, EngagementWait) for condition in wait.conditions)
    if wait.on_undeliverable and not engages:
        text = "is never taken: the wait asks for no engagement with a message"
        findings.warn(f"{path}.on_undeliverable", text)


def _engagement(
    placed: Placed,
    wait: EngagementWait,
    path: str,
    known: Mapping[str, Placed],
    findings: Findings,
) -> None:
    findings.engagement_kinds(f"{path}.kinds", wait.kinds)
    send = _target(placed, wait.step_id, known)
    if isinstance(send, str):
        findings.fault(f"{path}.step_id", send)
    elif set(channels(send.routing)) == {Channel.SMS} and EngagementKind.OPENED in wait.kinds:
        index = wait.kinds.index(EngagementKind.OPENED)
        findings.warn(f"{path}.kinds[{index}]", "an SMS has no opens: nobody reports them")


def _target(placed: Placed, step_id: str, known: Mapping[str, Placed]) -> Send | str:
    """Return the send step whose message is waited for, or why it cannot be."""
    if not step_id:
        return "the send step is required"
    target = known.get(step_id)
    if target is None:
        # *known* holds what stands before the step, so a later step is unknown here as well.
        return f"no step {step_id!r} stands before this wait"
    if not isinstance(target.step.kind, Send):
        return f"{step_id!r} is no send step"
    for owner, arm in target.arms.items():
        # Steps after a throttle are not those of a run that did not pass it.
        apart = _NO_PASS in arm and owner not in placed.arms
        if apart or placed.arms.get(owner, arm) != arm:
            return f"{step_id!r} stands on another path: no run comes through both"
    return target.step.kind


def _event(wait: EventWait, path: str, findings: Findings) -> None:
    findings.event_name(f"{path}.event", wait.event)
    findings.expression(f"{path}.condition", wait.condition)
    if wait.event in findings.exit_events:
        text = "ends the run by an exit rule before the wait sees it"
        findings.warn(f"{path}.event", text)


def _branch(branch: Branch, path: str, findings: Findings) -> None:
    if not 1 <= len(branch.cases) <= CASES_MAX:
        text = f"{len(branch.cases)} given; 1 to {CASES_MAX} are taken"
        findings.fault(f"{path}.cases", text)
    for index, case in enumerate(branch.cases[:CASES_MAX]):
        at = f"{path}.cases[{index}].condition"
        if not case.condition:
            findings.fault(at, "is required; steps without a condition go into otherwise")
        findings.expression(at, case.condition)


def _throttle(throttle: Throttle, path: str, findings: Findings) -> None:
    findings.count(f"{path}.max", throttle.most, PASSES_MAX)
    findings.span(f"{path}.period", throttle.period_us, most_us=WAIT_MAX_US)
    findings.expression(f"{path}.key", throttle.key, yields="key")


def _digest(digest: Digest, path: str, findings: Findings) -> None:
    findings.expression(f"{path}.key", digest.key, yields="key")
    findings.count(f"{path}.max_items", digest.max_items, DIGEST_MAX)
    for name, span_us in (("window", digest.window_us), ("max_window", digest.max_window_us)):
        if span_us is not None:
            findings.span(f"{path}.{name}", span_us, most_us=WAIT_MAX_US)
    if digest.window_us is None and digest.max_window_us is None and digest.schedule is None:
        findings.fault(f"{path}.window", "this, max_window or schedule is required")
    elif digest.window_us and digest.max_window_us and digest.window_us > digest.max_window_us:
        findings.warn(f"{path}.window", "is longer than max_window and has no effect")
    findings.time_zone(f"{path}.schedule.time_zone", digest.time_zone)
    findings.count(f"{path}.keep.count", digest.keep_count, KEEP_MAX)
    findings.expression(f"{path}.keep.by", digest.by, yields="key")
    if (digest.keep in (Keep.HIGHEST, Keep.LOWEST)) != bool(digest.by):
        findings.fault(f"{path}.keep.by", "is for HIGHEST and LOWEST, which require it")


def _update_profile(update: UpdateProfile, path: str, findings: Findings) -> None:
    if not 1 <= len(update.traits) <= TRAITS_MAX:
        findings.fault(path, f"{len(update.traits)} given; 1 to {TRAITS_MAX} are taken")
    for name, source in update.traits.items():
        if not source:
            findings.fault(f"{path}.{name}", "is required")
        findings.expression(f"{path}.{name}", source, yields="value")


def _emit(emit: Emit, path: str, findings: Findings) -> None:
    findings.event_name(f"{path}.event", emit.event)
    if emit.event in RESERVED_EVENTS:
        text = f"{emit.event!r} is the name of one of our own outcomes"
        findings.fault(f"{path}.event", text)
    elif emit.event.casefold().startswith(RESERVED_PREFIX):
        text = f"names that begin with {RESERVED_PREFIX!r} are reserved"
        findings.fault(f"{path}.event", text)
    for count, (at, text) in enumerate(_texts(emit.properties, f"{path}.properties")):
        if count == TEXTS_MAX:
            findings.fault(f"{path}.properties", f"at most {TEXTS_MAX} texts are taken")
            break
        findings.template(at, text)


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield every text in *value*, at any depth, with its path."""
    match value:
        case str():
            yield path, value
        case Mapping():
            for key, item in value.items():
                yield from _texts(item, f"{path}.{key}")
        case list():
            for index, item in enumerate(value):
                yield from _texts(item, f"{path}[{index}]")
        case _:
            return


def _enroll(enroll: Enroll, path: str, findings: Findings) -> None:
    findings.name(path, enroll.workflow_id)
    if enroll.workflow_id and enroll.workflow_id == findings.workflow_id:
        text = "starts the workflow that it stands in, as often as enrolments may nest"
        findings.warn(path, text)


def _suppress(suppress: Suppress, path: str, findings: Findings) -> None:
    if (suppress.channel is not Channel.UNSPECIFIED) == bool(suppress.topic):
        findings.fault(f"{path}.scope", "exactly one of channel, topic is required")
    elif suppress.topic:
        findings.name(f"{path}.topic", suppress.topic)
    if suppress.duration_us is not None:
        findings.span(f"{path}.duration", suppress.duration_us)
