"""fetch and generate: ask something outside and go on with its answer.

A run that asks holds. The attempt is committed before it is made; who made it may die, so that the
run's timer comes when an answer would be too late, and another attempt begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from upshotd.domain.errors import TemplateError
from upshotd.domain.fetching import (
    Fetch,
    Fetched,
    FetchResult,
    HttpMethod,
    HttpRequest,
    ModelRequest,
    Parts,
    Request,
    Secret,
    Unfetched,
)
from upshotd.domain.retry import next_attempt_us
from upshotd.domain.steps.move import NEXT, Hold, Into, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step

TIMEOUT_DEFAULT_US: Final = 10_000_000
ATTEMPTS_DEFAULT: Final = 3
TOKENS_DEFAULT: Final = 1_000
#: How much longer than the attempt itself its process may take to say what came of it.
SLACK_US: Final = 20_000_000
#: How often an attempt is put off; with the pauses in between that takes more than an hour.
PUT_OFF_MAX: Final = 16

_SECRET = re.compile(r"\$\{secrets\.([a-z][a-z0-9_]{0,62})\}")
#: What ends the host of an address; a path may be left out.
_BEHIND_HOST = re.compile(r"[/?#\\]")
_QUERY = re.compile(r"[?#]")
_DOTS = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")


class _NoAddress(Exception):
    """What a template made is no web address; the text says why."""


@dataclass(frozen=True, slots=True)
class FetchStep:
    """Asks an address; what it answers is in `steps.<id>.data`."""

    #: Template.
    url: str
    method: HttpMethod = HttpMethod.GET
    #: Templates, with `${secrets.NAME}` where a secret of the settings stands.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Template.
    body: str = ""
    timeout_us: int = TIMEOUT_DEFAULT_US
    attempts: int = ATTEMPTS_DEFAULT
    on_failure: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Generate:
    """Asks a language model; its answer, of the schema, is in `steps.<id>.data`."""

    #: Template.
    prompt: str
    #: JSON Schema of an object.
    schema: Mapping[str, object]
    #: Template.
    system: str = ""
    model: str = ""
    most_tokens: int = TOKENS_DEFAULT
    timeout_us: int = 3 * TIMEOUT_DEFAULT_US
    attempts: int = ATTEMPTS_DEFAULT
    on_failure: tuple[Step, ...] = ()


def enter(step: Step, kind: FetchStep | Generate, journey: Journey, before: int = 0) -> Move:
    """Begin the next attempt; the first one, or one after another that came to nothing.

    *before* is how many attempts had counted when the step came to ask this: it asks anew.
    """
    made = counted(journey, step.step_id) - before
    if made >= kind.attempts:
        detail = f"no answer to attempt {made}"
        return _failed(step, kind, journey, Unfetched("NO_ANSWER", detail))
    try:
        request = _request(kind, journey)
    except TemplateError as error:
        return _failed(step, kind, journey, Unfetched("TEMPLATE_ERROR", str(error)))
    except _NoAddress as error:
        return _failed(step, kind, journey, Unfetched("INVALID_URL", str(error)))
    journey.note("asking", _words(request))
    return ask(journey, step.step_id, request, kind.timeout_us, f"/{before}" if before else "")


def ask(journey: Journey, step_id: str, request: Request, timeout_us: int, about: str = "") -> Hold:
    """Begin another attempt, and hold until its answer would be too late."""
    attempt = attempts(journey, step_id) + 1
    journey.leave(step_id, attempt=attempt)
    journey.draft.changes.fetches.append(
        Fetch(journey.run.run_id, step_id, attempt, request, timeout_us, about)
    )
    return Hold(journey.now_us + timeout_us + SLACK_US)


def settled(
    step: Step, kind: FetchStep | Generate, journey: Journey, result: FetchResult, before: int = 0
) -> Move:
    """Go on with the answer to the last attempt, or make another one later."""
    if isinstance(result, Fetched):
        journey.leave(step.step_id, ok=True, data=dict(result.data))
        journey.note("answered")
        return NEXT
    assert isinstance(result, Unfetched), "nobody is looked for"
    times = _put_off(journey, step.step_id)
    if result.put_off and times < PUT_OFF_MAX:
        journey.leave(step.step_id, put_off=times + 1)
        return later(journey, times + 1, result)
    made = counted(journey, step.step_id) - before
    if not result.again or made >= kind.attempts:
        return _failed(step, kind, journey, result)
    return later(journey, made, result)


def later(journey: Journey, attempt: int, result: Unfetched) -> Hold:
    """Hold until the attempt after *attempt*, which came to nothing."""
    journey.note("asking_again", f"{result.reason}: {result.detail}")
    draft = journey.draft
    wait_us, fraction = result.retry_after_us, draft.ids.fraction()
    policy = draft.definitions.policy
    return Hold(next_attempt_us(journey.now_us, attempt, wait_us, policy, fraction))


def parts(source: str) -> Parts:
    """Return a header's template in parts: templates, and the secrets between them."""
    pieces = _SECRET.split(source)
    found = (Secret(piece) if at % 2 else piece for at, piece in enumerate(pieces))
    return tuple(part for part in found if part)


def attempts(journey: Journey, step_id: str) -> int:
    """Return how many attempts a step has begun."""
    made = journey.steps.get(step_id, {}).get("attempt", 0)
    return made if isinstance(made, int) else 0


def counted(journey: Journey, step_id: str) -> int:
    """Return how many attempts of a step count: those that were not put off."""
    return attempts(journey, step_id) - _put_off(journey, step_id)


def _put_off(journey: Journey, step_id: str) -> int:
    times = journey.steps.get(step_id, {}).get("put_off", 0)
    return times if isinstance(times, int) else 0


def _failed(step: Step, kind: FetchStep | Generate, journey: Journey, result: Unfetched) -> Move:
    journey.leave(step.step_id, ok=False, reason=result.reason)
    journey.note("unanswered", f"{result.reason}: {result.detail}" if result.detail else "")
    return Into(kind.on_failure) if kind.on_failure else NEXT


def _request(kind: FetchStep | Generate, journey: Journey) -> HttpRequest | ModelRequest:
    names, templates = journey.names(), journey.draft.definitions.templates

    def text(source: str) -> str:
        return templates.render(source, names) if source else ""

    if isinstance(kind, Generate):
        schema = json.dumps(kind.schema, sort_keys=True)
        return ModelRequest(
            text(kind.prompt), text(kind.system), schema, kind.model, kind.most_tokens
        )
    url = text(kind.url).strip()
    if not url.startswith(("http://", "https://")):
        raise _NoAddress("it begins with neither http:// nor https://")
    if _climbs(url):
        raise _NoAddress("it has . or .. in its path")
    headers = {
        name: tuple(p if isinstance(p, Secret) else _line(text(p)) for p in parts(source))
        for name, source in kind.headers.items()
    }
    return HttpRequest(kind.method, url, headers, text(kind.body))


def _climbs(url: str) -> bool:
    """Return whether the path of *url* leads out of itself, as what a person says could make it:
    nothing can stand for a dot that is not read as one."""
    place = _QUERY.split(url.partition("://")[2], maxsplit=1)[0]
    return _DOTS.search(unquote(place.partition("/")[2])) is not None


def _line(text: str) -> str:
    """Return *text* on one line; spaces at its ends may stand before a secret."""
    return text.replace("\r", " ").replace("\n", " ")


def _words(request: HttpRequest | ModelRequest) -> str:
    """Return what a timeline may say of a request: an address may be a secret behind its host."""
    if isinstance(request, ModelRequest):
        return "the model"
    place = request.url.partition("://")[2]
    host = _BEHIND_HOST.split(place, maxsplit=1)[0].rpartition("@")[2]
    return f"{request.method.name} {host}"
