"""How the runs of a person, and the workflows that listen, react to what happens to the person."""

from collections.abc import Callable, Iterable, Sequence

from upshotd.domain.draft import Draft
from upshotd.domain.event import Event
from upshotd.domain.explanation import Explanation
from upshotd.domain.journey import Journey, resume
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import AcceptedEvent, StartedRun
from upshotd.domain.steps.move import Move
from upshotd.domain.workflow import ExitRule


def leave(
    draft: Draft, runs: Iterable[Run], what: str, met: Callable[[Journey, ExitRule], bool]
) -> None:
    """End those of *runs* of which an exit rule is *met*, by *what*."""
    for run in runs:
        exits = draft.plan(run).workflow.exits
        if not exits:
            continue
        journey = Journey(draft, run)
        if any(met(journey, rule) for rule in exits):
            journey.end(RunState.COMPLETED, "EXITED", f"EXITED by {what}")
        elif journey.changed:
            journey.save()


def go_on(
    draft: Draft, runs: Iterable[Run], move_of: Callable[[Journey], Move | None]
) -> tuple[str, ...]:
    """Move those of *runs* that *move_of* moves, and return which they are."""
    moved: list[str] = []
    # Runs that one of these enrolls on its way came after what happened, and do not see it.
    for run in tuple(runs):
        journey = resume(draft, run.run_id)
        if journey is None or journey.step_id != run.step_id:
            continue  # one of these has ended it, or let it go on, by the digest of both
        move = move_of(journey)
        if move is not None:
            journey.follow(move)
            moved.append(run.run_id)
        elif journey.changed:
            journey.save()
    return tuple(moved)


def keep(
    draft: Draft, event: Event, profile_id: str, found: Sequence[Explanation]
) -> AcceptedEvent:
    """Keep *event* with what the workflows that listen to it made of it."""
    started = tuple([StartedRun(e.workflow_id, e.version, e.run_id) for e in found if e.run_id])
    refused: tuple[Explanation, ...] = ()
    if len(started) < len(found):
        refused = tuple([explanation for explanation in found if not explanation.run_id])
    accepted = AcceptedEvent(event, profile_id, started, refused)
    draft.changes.events[event.event_id] = accepted
    return accepted
