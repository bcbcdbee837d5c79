"""Steps of the contract <-> steps of the domain. Paths are those of the message's fields."""

from collections.abc import Iterable
from typing import assert_never

from upshot.v1 import outcome_pb2
from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc import (
    approve_codec,
    experiment_codec,
    fetch_codec,
    send_codec,
    wait_codec,
    window_codec,
)
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.structs import struct
from upshotd.adapters.grpc.times import duration, timestamp
from upshotd.domain.message import Channel
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import ITEMS_DEFAULT, Digest, Keep
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import Experiment, Variant
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle, ThrottleScope
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import Wait
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step, StepKind

EXIT_REASON_DEFAULT = "EXITED"
#: Stands where a step cannot be read.
HARMLESS_STEP = Step("unread", Delay(duration_us=0))

_KINDS = pb.Step.DESCRIPTOR.oneofs_by_name["kind"]

# -- reading -----------------------------------------------------------------------------------


def step(message: pb.Step, path: str, reading: Reading) -> Step:
    """Return the step at *path*, as far as *message* says one; faults go into *reading*."""
    return Step(message.step_id, _kind(message, path, reading), message.condition)


# A case for each kind, here and below.
def _kind(message: pb.Step, path: str, reading: Reading) -> StepKind:  # noqa: C901, PLR0911, PLR0912
    match message.WhichOneof("kind"):
        case "send":
            at = f"{path}.send"
            on_failure = _steps(message.send.on_failure, f"{at}.on_failure", reading)
            return replace(send_codec.send(message.send, at, reading), on_failure=on_failure)
        case "delay":
            return _delay(message.delay, f"{path}.delay", reading)
        case "wait":
            return _wait(message.wait, f"{path}.wait", reading)
        case "branch":
            return _branch(message.branch, f"{path}.branch", reading)
        case "throttle":
            return _throttle(message.throttle, f"{path}.throttle", reading)
        case "digest":
            return _digest(message.digest, f"{path}.digest", reading)
        case "fetch":
            at = f"{path}.fetch"
            on_failure = _steps(message.fetch.on_failure, f"{at}.on_failure", reading)
            return replace(fetch_codec.fetch(message.fetch, at, reading), on_failure=on_failure)
        case "generate":
            at = f"{path}.generate"
            on_failure = _steps(message.generate.on_failure, f"{at}.on_failure", reading)
            asked = fetch_codec.generate(message.generate, at, reading)
            return replace(asked, on_failure=on_failure)
        case "update_profile":
            return UpdateProfile(dict(message.update_profile.traits))
        case "experiment":
            return _experiment(message.experiment, f"{path}.experiment", reading)
        case "approve":
            return _approve(message.approve, f"{path}.approve", reading)
        case "emit":
            properties = reading.plain(message.emit.properties, f"{path}.emit.properties")
            return Emit(message.emit.event, properties)
        case "enroll":
            return Enroll(message.enroll.workflow_id)
        case "suppress":
            return _suppress(message.suppress, f"{path}.suppress", reading)
        case "exit":
            return Exit(message.exit.reason or EXIT_REASON_DEFAULT)
        case None:
            kinds = ", ".join(field.name for field in _KINDS.fields)
            text = f"one of {kinds} is required"
            reading.missing(message, path, "kind", text)
            return HARMLESS_STEP.kind


def _steps(messages: Iterable[pb.Step], path: str, reading: Reading) -> tuple[Step, ...]:
    return tuple(step(item, f"{path}[{index}]", reading) for index, item in enumerate(messages))


def _delay(message: pb.Delay, path: str, reading: Reading) -> Delay:
    match message.WhichOneof("moment"), message.until.WhichOneof("at"):
        case "duration", _:
            return Delay(duration_us=reading.span_us(message.duration, f"{path}.duration"))
        case "spread", _:
            return Delay(spread_us=reading.span_us(message.spread, f"{path}.spread"))
        case "until", "time":
            return Delay(until_us=reading.instant_us(message.until.time, f"{path}.until.time"))
        case "until", "expression":
            return Delay(until=message.until.expression)
        case "until", "window":
            at = f"{path}.until.window"
            window, time_zone = window_codec.window(message.until.window, at, reading)
            return Delay(window=window, time_zone=time_zone)
        case _:
            return Delay()  # the domain says what is missing


def _wait(message: pb.Wait, path: str, reading: Reading) -> Wait:
    return replace(
        wait_codec.wait(message, path, reading),
        on_match=_steps(message.on_match, f"{path}.on_match", reading),
        on_timeout=_steps(message.on_timeout, f"{path}.on_timeout", reading),
        on_undeliverable=_steps(message.on_undeliverable, f"{path}.on_undeliverable", reading),
    )


def _branch(message: pb.Branch, path: str, reading: Reading) -> Branch:
    cases = tuple(
        Case(case.condition, _steps(case.steps, f"{path}.cases[{index}].steps", reading))
        for index, case in enumerate(message.cases)
    )
    return Branch(cases, _steps(message.otherwise, f"{path}.otherwise", reading))


def _throttle(message: pb.Throttle, path: str, reading: Reading) -> Throttle:
    return Throttle(
        most=message.max,
        period_us=reading.span_us(message.period, f"{path}.period"),
        key=message.key,
        on_throttled=_steps(message.on_throttled, f"{path}.on_throttled", reading),
        scope=reading.enum(
            ThrottleScope, message.scope or ThrottleScope.USER, f"{path}.scope", ThrottleScope.USER
        ),
    )


def _digest(message: pb.Digest, path: str, reading: Reading) -> Digest:
    spans = {
        name: reading.span_us(getattr(message, name), f"{path}.{name}")
        for name in ("window", "max_window")
        if message.HasField(name)
    }
    keep = message.keep
    schedule, time_zone = None, ""
    if message.HasField("schedule"):
        at = f"{path}.schedule"
        schedule, time_zone = window_codec.window(message.schedule, at, reading)
    return Digest(
        window_us=spans.get("window"),
        max_window_us=spans.get("max_window"),
        key=message.key,
        max_items=message.max_items or ITEMS_DEFAULT,
        keep=reading.enum(Keep, keep.order or Keep.FIRST, f"{path}.keep.order", Keep.FIRST),
        keep_count=keep.count or ITEMS_DEFAULT,
        by=keep.by,
        schedule=schedule,
        time_zone=time_zone,
    )


def _experiment(message: pb.Experiment, path: str, reading: Reading) -> Experiment:
    variants = tuple(
        Variant(
            variant.variant_id,
            _steps(variant.steps, f"{path}.variants[{index}].steps", reading),
            variant.weight or 1,
        )
        for index, variant in enumerate(message.variants)
    )
    return experiment_codec.experiment(message, variants, path, reading)


def _approve(message: pb.Approve, path: str, reading: Reading) -> Approve:
    return replace(
        approve_codec.approve(message, path, reading),
        on_approved=_steps(message.on_approved, f"{path}.on_approved", reading),
        on_denied=_steps(message.on_denied, f"{path}.on_denied", reading),
        on_timeout=_steps(message.on_timeout, f"{path}.on_timeout", reading),
    )


def _suppress(message: pb.Suppress, path: str, reading: Reading) -> Suppress:
    duration_us = None
    if message.HasField("duration"):
        duration_us = reading.span_us(message.duration, f"{path}.duration")
    channel = reading.enum(Channel, message.channel, f"{path}.channel", Channel.EMAIL)
    return Suppress(channel, message.topic, duration_us)


# -- writing -----------------------------------------------------------------------------------


def message(step: Step) -> pb.Step:  # noqa: C901, PLR0912
    """Return *step* as a message, in canonical form."""
    written = pb.Step(step_id=step.step_id, condition=step.condition)
    kind = step.kind
    match kind:
        case Send():
            written.send.CopyFrom(send_codec.message(kind))
            written.send.on_failure.extend(map(message, kind.on_failure))
        case Delay():
            written.delay.CopyFrom(_delay_message(kind))
        case Wait():
            written.wait.CopyFrom(_wait_message(kind))
        case Branch():
            written.branch.CopyFrom(_branch_message(kind))
        case Throttle():
            written.throttle.CopyFrom(_throttle_message(kind))
        case Digest():
            written.digest.CopyFrom(_digest_message(kind))
        case FetchStep():
            written.fetch.CopyFrom(fetch_codec.fetch_message(kind))
            written.fetch.on_failure.extend(map(message, kind.on_failure))
        case Generate():
            written.generate.CopyFrom(fetch_codec.generate_message(kind))
            written.generate.on_failure.extend(map(message, kind.on_failure))
        case UpdateProfile():
            written.update_profile.CopyFrom(pb.UpdateProfile(traits=kind.traits))
        case Experiment():
            written.experiment.CopyFrom(experiment_codec.message(kind))
            for variant, taken in zip(written.experiment.variants, kind.variants, strict=True):
                variant.steps.extend(map(message, taken.steps))
        case Approve():
            written.approve.CopyFrom(_approve_message(kind))
        case Emit():
            written.emit.CopyFrom(pb.Emit(event=kind.event, properties=struct(kind.properties)))
        case Enroll():
            written.enroll.CopyFrom(pb.Enroll(workflow_id=kind.workflow_id))
        case Suppress():
            written.suppress.CopyFrom(_suppress_message(kind))
        case Exit():
            written.exit.CopyFrom(pb.Exit(reason=kind.reason))
        case _:
            assert_never(kind)
    return written


def _delay_message(delay: Delay) -> pb.Delay:
    if delay.duration_us is not None:
        return pb.Delay(duration=duration(delay.duration_us))
    if delay.spread_us is not None:
        return pb.Delay(spread=duration(delay.spread_us))
    if delay.until_us is not None:
        return pb.Delay(until=pb.DelayUntil(time=timestamp(delay.until_us)))
    if delay.window is not None:
        window = window_codec.message(delay.window, delay.time_zone)
        return pb.Delay(until=pb.DelayUntil(window=window))
    return pb.Delay(until=pb.DelayUntil(expression=delay.until))


def _wait_message(wait: Wait) -> pb.Wait:
    written = wait_codec.message(wait)
    written.on_match.extend(map(message, wait.on_match))
    written.on_timeout.extend(map(message, wait.on_timeout))
    written.on_undeliverable.extend(map(message, wait.on_undeliverable))
    return written


def _branch_message(branch: Branch) -> pb.Branch:
    return pb.Branch(
        cases=[
            pb.BranchCase(condition=case.condition, steps=[message(step) for step in case.steps])
            for case in branch.cases
        ],
        otherwise=[message(step) for step in branch.otherwise],
    )


def _throttle_message(throttle: Throttle) -> pb.Throttle:
    return pb.Throttle(
        max=throttle.most,
        period=duration(throttle.period_us),
        key=throttle.key,
        on_throttled=[message(step) for step in throttle.on_throttled],
        # Left out as before there was one: a definition stays equal to its stored form.
        scope=_SCOPES.get(throttle.scope, pb.THROTTLE_SCOPE_UNSPECIFIED),
    )


_SCOPES = {ThrottleScope.WORKSPACE: pb.THROTTLE_SCOPE_WORKSPACE}


def _digest_message(digest: Digest) -> pb.Digest:
    order = pb.DigestOrder.ValueType(digest.keep)
    keep = pb.DigestKeep(order=order, count=digest.keep_count, by=digest.by)
    written = pb.Digest(key=digest.key, max_items=digest.max_items, keep=keep)
    if digest.window_us is not None:
        written.window.CopyFrom(duration(digest.window_us))
    if digest.schedule is not None:
        written.schedule.CopyFrom(window_codec.message(digest.schedule, digest.time_zone))
    if digest.max_window_us is not None:
        written.max_window.CopyFrom(duration(digest.max_window_us))
    return written


def _approve_message(approve: Approve) -> pb.Approve:
    written = approve_codec.message(approve)
    written.on_approved.extend(map(message, approve.on_approved))
    written.on_denied.extend(map(message, approve.on_denied))
    written.on_timeout.extend(map(message, approve.on_timeout))
    return written


def _suppress_message(suppress: Suppress) -> pb.Suppress:
    written = pb.Suppress()
    if suppress.topic:
        written.topic = suppress.topic
    else:
        written.channel = outcome_pb2.Channel.ValueType(suppress.channel)
    if suppress.duration_us is not None:
        written.duration.CopyFrom(duration(suppress.duration_us))
    return written
