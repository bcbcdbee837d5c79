"""Why a workflow that listens to an event started, or did not. Pure."""

import json
from collections.abc import Mapping
from typing import NamedTuple

#: Characters of one value that is shown.
VALUE_MAX = 80

STARTED = "STARTED"
CONDITION_FALSE = "CONDITION_FALSE"
CONDITION_FAILED = "CONDITION_FAILED"
NO_KEY = "NO_KEY"
RAN_BEFORE = "RAN_BEFORE"
COOLDOWN = "COOLDOWN"
ACTIVE = "ACTIVE"
TOO_OLD = "TOO_OLD"
OWN_OUTCOME = "OWN_OUTCOME"


class Explanation(NamedTuple):
    """What one workflow made of an event."""

    workflow_id: str
    version: int
    #: One of the words above.
    reason: str
    #: For people: which condition, with which values; until when.
    detail: str = ""
    #: The run that started; empty where none did.
    run_id: str = ""


def with_values(condition: str, values: Mapping[str, object]) -> str:
    """Return *condition* with what it was evaluated on, as `a.b > 3, where a.b is 2`."""
    shown = [f"{path} is {_shown(value)}" for path, value in values.items()]
    return f"{condition}, where {' and '.join(shown)}" if shown else condition


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}..."
