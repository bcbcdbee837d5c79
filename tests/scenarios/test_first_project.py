"""Which nudge brings people to their first project, told in time on every store."""

from tests.scenarios.examples import workflow_of
from tests.world import DAY, HOUR, World
from upshotd.application.experiments import Experiments, Report
from upshotd.application.workflows import Workflows
from upshotd.domain.trial import HOLDOUT, Tally
from upshotd.domain.validation import validate

PEOPLE = 60


async def report(scenario: World) -> Report:
    workflows = Workflows(
        scenario.store,
        scenario.codec,
        scenario.clock,
        lambda one: validate(one, scenario.conditions, scenario.templates, lambda _: None),
        scenario.book.refresh,
        lambda: None,
    )
    (found,) = await Experiments(scenario.store, workflows).reports("default", "first-project", "")
    return found


async def sign_up(scenario: World, first: int, count: int) -> None:
    for number in range(first, first + count):
        user_id = f"user-{number}"
        await scenario.identify(user_id, email=f"{user_id}@example.com", phone=f"+1555{number:04d}")
        await scenario.track(user_id, "Signed Up")


async def create(scenario: World, user_id: str, *, sample: bool = False) -> None:
    await scenario.track(user_id, "Project Created", properties={"sample": sample})


async def test_the_nudge_that_works_is_sent_more_often_and_the_uplift_is_told(
    scenario: World,
) -> None:
    await scenario.define(workflow_of("first-project"))
    shares = []
    for week in range(3):
        before = len(scenario.email.ledger)
        await sign_up(scenario, week * PEOPLE, PEOPLE)
        await scenario.advance(DAY)
        nudged = [d for d in scenario.email.ledger[before:] if d.step_id.endswith("_email")]
        videos = [d for d in nudged if d.step_id == "video_email"]
        shares.append(len(videos) / len(nudged))
        await scenario.advance(HOUR)
        # Every second one who saw the video does it, and nobody else but one.
        for delivery in videos[::2]:
            await create(scenario, delivery.user_id)
        await create(scenario, nudged[0].user_id, sample=True)  # which the goal leaves out
        await scenario.advance(3 * DAY)
    assert 0.3 < shares[0] < 0.7  # both are alike at first
    assert shares[-1] > 0.8
    found = await report(scenario)
    by_id = {one.variant_id: one for one in found.variants}
    assert list(by_id) == ["template", "video", HOLDOUT]
    assert sum(one.tally.exposures for one in found.variants) == 3 * PEOPLE
    video, template = by_id["video"], by_id["template"]
    assert video.tally.successes > 50
    assert template.tally.successes == 0
    assert video.rate_interval.low < video.rate < video.rate_interval.high
    assert video.uplift_interval is not None
    assert video.uplift_interval.low > 0.3
    assert template.uplift_interval is not None
    assert template.uplift_interval.low < 0 < template.uplift_interval.high
    named = {o.variant for o in await scenario.outcomes() if o.step_id == "video_email"}
    assert named == {"nudge/video"}


async def test_a_project_after_the_run_has_ended_counts_within_the_window_and_once(
    scenario: World,
) -> None:
    await scenario.define(workflow_of("first-project"))
    await sign_up(scenario, 0, 40)
    await scenario.advance(DAY)
    ended = await scenario.store.tallies("default", {"first-project/nudge"})
    (held_out,) = [ended[key].exposures for key in ended if key[1] == HOLDOUT]
    assert held_out > 0  # who is held out ends at once, and is measured all the same
    await scenario.advance(2 * DAY)
    for number in range(40):
        await create(scenario, f"user-{number}")
        await create(scenario, f"user-{number}")
    found = await report(scenario)
    assert all(one.tally.successes == one.tally.exposures for one in found.variants)
    assert sum(one.tally.exposures for one in found.variants) == 40


async def test_a_project_after_the_window_is_nobodys_merit(scenario: World) -> None:
    await scenario.define(workflow_of("first-project"))
    await sign_up(scenario, 0, 10)
    await scenario.advance(4 * DAY)
    for number in range(10):
        await create(scenario, f"user-{number}")
    found = await report(scenario)
    assert sum((one.tally.successes for one in found.variants), 0) == 0
    assert found.variants[0].tally != Tally()
