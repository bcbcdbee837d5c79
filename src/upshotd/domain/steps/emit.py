"""emit: writes a custom outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upshotd.domain.errors import TemplateError
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.steps.move import NEXT, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step


@dataclass(frozen=True, slots=True)
class Emit:
    """Writes a CUSTOM outcome, exported as a Segment track of this name."""

    event: str
    #: Plain JSON values; every text in it, at any depth, is a template.
    properties: Mapping[str, object] = field(default_factory=dict)


def enter(step: Step, emit: Emit, journey: Journey) -> Move:
    """Render the properties and append the outcome; a template that fails leaves none."""
    try:
        properties = {key: _rendered(value, journey) for key, value in emit.properties.items()}
    except TemplateError as error:
        journey.note("emit_failed", f"TEMPLATE_ERROR: {error}")
        return NEXT
    journey.outcome(
        OutcomeKind.CUSTOM, event=emit.event, step_id=step.step_id, properties=properties
    )
    journey.note("emitted", emit.event)
    return NEXT


def _rendered(value: object, journey: Journey) -> object:
    match value:
        case str():
            return journey.draft.definitions.templates.render(value, journey.names())
        case dict():
            return {key: _rendered(inner, journey) for key, inner in value.items()}
        case list():
            return [_rendered(inner, journey) for inner in value]
        case _:
            return value
