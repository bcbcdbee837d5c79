"""Experiments of the contract <-> experiments of the domain; what came of them as messages."""

from collections.abc import Sequence
from typing import assert_never

from upshot.v1 import admin_pb2, engagement_pb2
from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import duration
from upshotd.application.experiments import Report, VariantReport
from upshotd.domain.beta import Interval
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.steps.experiment import (
    EXPLORE_DEFAULT,
    EngagementGoal,
    EventGoal,
    Experiment,
    Goal,
    Optimize,
    Variant,
)

# -- reading -----------------------------------------------------------------------------------


def experiment(
    message: pb.Experiment, variants: Sequence[Variant], path: str, reading: Reading
) -> Experiment:
    """Return the experiment at *path* with its *variants*; faults go into *reading*."""
    optimize = None
    if message.HasField("optimize"):
        optimize = _optimize(message.optimize, f"{path}.optimize", reading)
    return Experiment(tuple(variants), message.holdout, message.key, optimize)


def _optimize(message: pb.Optimize, path: str, reading: Reading) -> Optimize:
    return Optimize(
        _goal(message.goal, f"{path}.goal", reading),
        reading.span_us(message.window, f"{path}.window"),
        message.explore if message.HasField("explore") else EXPLORE_DEFAULT,
        message.measure_only,
    )


def _goal(message: pb.Goal, path: str, reading: Reading) -> Goal | None:
    match message.WhichOneof("goal"):
        case "engagement":
            engagement = message.engagement
            kinds = tuple(
                reading.enum(
                    EngagementKind,
                    kind,
                    f"{path}.engagement.kinds[{index}]",
                    EngagementKind.UNSPECIFIED,
                )
                for index, kind in enumerate(engagement.kinds)
            )
            return EngagementGoal(kinds, engagement.include_machine)
        case "event":
            return EventGoal(message.event.event, message.event.condition)
        case None:
            return None  # the domain says what is missing


# -- writing -----------------------------------------------------------------------------------


def message(experiment: Experiment) -> pb.Experiment:
    """Return *experiment* as a message, without the steps of its variants."""
    written = pb.Experiment(
        variants=[
            pb.Variant(variant_id=variant.variant_id, weight=variant.weight)
            for variant in experiment.variants
        ],
        holdout=experiment.holdout,
        key=experiment.key,
    )
    optimize = experiment.optimize
    if optimize is not None:
        said = pb.Optimize(
            window=duration(optimize.window_us),
            explore=optimize.explore,
            measure_only=optimize.measure_only,
        )
        if optimize.goal is not None:
            said.goal.CopyFrom(_goal_message(optimize.goal))
        written.optimize.CopyFrom(said)
    return written


def _goal_message(goal: Goal) -> pb.Goal:
    match goal:
        case EngagementGoal(kinds, include_machine):
            engagement = pb.EngagementGoal(
                kinds=[engagement_pb2.EngagementKind.ValueType(kind) for kind in kinds],
                include_machine=include_machine,
            )
            return pb.Goal(engagement=engagement)
        case EventGoal(event, condition):
            return pb.Goal(event=pb.EventGoal(event=event, condition=condition))
        case _:
            assert_never(goal)


def report(found: Report) -> admin_pb2.ExperimentReport:
    """Return what came of an experiment."""
    return admin_pb2.ExperimentReport(
        workflow_id=found.workflow_id,
        step_id=found.step_id,
        experiment=message(found.experiment),
        variants=map(_variant_report, found.variants),
    )


def _variant_report(found: VariantReport) -> admin_pb2.VariantReport:
    return admin_pb2.VariantReport(
        variant_id=found.variant_id,
        exposures=found.tally.exposures,
        successes=found.tally.successes,
        rate=found.rate,
        rate_interval=_interval(found.rate_interval),
        uplift=found.uplift,
        uplift_interval=_interval(found.uplift_interval),
        retired=found.retired,
    )


def _interval(found: Interval | None) -> admin_pb2.Interval | None:
    return None if found is None else admin_pb2.Interval(low=found.low, high=found.high)
