"""A feature is not used. An e-mail, a day later an SMS, a day later another way: told for five."""

from tests.flows import feature_not_used, win_back
from tests.world import DAY, HOUR, World
from upshotd.domain.outcome import EngagementKind


async def test_five_people_five_endings(scenario: World):
    await scenario.define(feature_not_used(), win_back())
    people = {
        "ana": {"email": "ana@example.com", "phone": "+15550001"},
        "ben": {"email": "ben@example.com", "phone": "+15550002"},
        "cleo": {"email": "cleo@example.com", "phone": "+15550003"},
        "dan": {"phone": "+15550004"},
        "eve": {"email": "eve@example.com", "phone": "+15550005"},
    }
    for user_id, contact in people.items():
        await scenario.identify(user_id, first_name=user_id.title(), **contact)
        await scenario.track(user_id, "Feature Not Used")
    await scenario.settle()
    mails = {d.user_id: d for d in scenario.email.ledger}
    assert mails.keys() == {"ana", "ben", "cleo", "eve"}

    await scenario.advance(HOUR)
    await scenario.engage(mails["ana"].message_id, EngagementKind.OPENED)
    await scenario.track("eve", "Feature Used")

    await scenario.advance(DAY)
    texts = {d.user_id: d for d in scenario.sms.ledger}
    assert texts.keys() == {"ben", "cleo", "dan"}
    await scenario.engage(texts["ben"].message_id, EngagementKind.CLICKED)

    await scenario.advance(2 * DAY)
    assert await scenario.story("ana") == ["SENT EMAIL", "OPENED EMAIL"]
    assert await scenario.story("ben") == [
        "SENT EMAIL",
        "IGNORED EMAIL",
        "SENT SMS",
        "CLICKED SMS",
    ]
    assert await scenario.story("cleo") == [
        "SENT EMAIL",
        "IGNORED EMAIL",
        "SENT SMS",
        "IGNORED SMS",
        "SUPPRESSED EMAIL",
        "SENT SMS",
    ]
    assert await scenario.story("dan") == [
        "UNROUTABLE EMAIL",
        "SENT SMS",
        "IGNORED SMS",
        "UNROUTABLE EMAIL",
        "SENT SMS",
    ]
    assert await scenario.story("eve") == ["SENT EMAIL"]
