"""Who answers: the newest text message that was taken for a number, found on every store."""

from tests.builders import NOON, a_message, a_profile, a_run, changes
from tests.stores import Durable
from upshotd.application.ports import Store
from upshotd.domain import addresses
from upshotd.domain.addresses import LIST
from upshotd.domain.message import Channel, Message, MessageState
from upshotd.domain.profile import Merge, Profile, Suppression
from upshotd.domain.state import State, Wanted
from upshotd.domain.values import replace

PHONE, OTHER = "+15550001", "+15550002"
KEY, OTHER_KEY = (addresses.key(Channel.SMS, number) for number in (PHONE, OTHER))


def a_text(number: int, **fields: object) -> Message:
    """Return the so many-th text message to ana's number; a provider took it."""
    made = {"channel": Channel.SMS, "recipient": PHONE, "facts": {"sent": NOON}, "run_id": "r"}
    return a_message(message_id=f"m{number}", **{**made, **fields})


async def found(store: Store, *keys: str, workspace_id: str = "default") -> State:
    wanted = Wanted(recipients=set(keys), addresses=set(keys))
    return await store.load(workspace_id, wanted)


async def test_an_answer_finds_the_newest_text_message_that_was_taken_for_its_number(
    store: Store,
) -> None:
    ana = a_profile(contact={"phone_number": PHONE})
    taken = [a_text(n) for n in (2, 1, 3)]
    others = [
        a_text(4, facts={}, state=MessageState.SENDING),
        a_text(5, facts={}, state=MessageState.UNDELIVERABLE, reason="PROVIDER_ERROR"),
        a_text(6, channel=Channel.EMAIL),
        a_text(7, recipient=OTHER),
    ]
    await store.commit([changes(ana, a_run(run_id="r"), *taken, *others)])
    await store.commit([changes(a_text(9), workspace_id="elsewhere")])
    state = await found(store, KEY, OTHER_KEY, "sms:+15559999")
    assert state.by_recipient == {KEY: "m3", OTHER_KEY: "m7"}
    assert state.messages["m3"] == replace(taken[2], row_version=1)
    assert state.runs.keys() == {"r"}
    assert state.profiles.keys() == {"profile-ana"}
    assert (await found(store)).by_recipient == {}


async def test_a_message_is_found_from_the_moment_on_at_which_it_was_taken(store: Store) -> None:
    first = a_text(1, facts={}, state=MessageState.SENDING)
    await store.commit([changes(a_profile(), a_run(run_id="r"), first)])
    assert (await found(store, KEY)).by_recipient == {}
    sent = replace(first, row_version=1, state=MessageState.ACCEPTED, facts={"sent": NOON})
    await store.commit([changes(sent)])
    assert (await found(store, KEY)).by_recipient == {KEY: "m1"}
    bounced = replace(sent, row_version=2, state=MessageState.UNDELIVERABLE, reason="BOUNCED")
    await store.commit([changes(bounced)])
    assert (await found(store, KEY)).by_recipient == {KEY: "m1"}, "it went there all the same"


async def test_the_message_of_somebody_who_is_part_of_another_brings_that_other_one(
    store: Store,
) -> None:
    anon = a_profile(profile_id="profile-anon", user_id="", anonymous_ids=("a",))
    theirs = a_run(run_id="r", profile_id="profile-anon")
    await store.commit([changes(a_profile(), anon, theirs, a_text(1, profile_id="profile-anon"))])
    ana = replace(a_profile(anonymous_ids=("a",)), row_version=1)
    await store.commit([changes(ana, merges=[Merge("profile-anon", "profile-ana")])])
    state = await found(store, KEY)
    assert state.by_recipient == {KEY: "m1"}
    assert state.messages["m1"].profile_id == "profile-ana"
    assert state.profiles.keys() == {"profile-ana"}


async def test_the_place_of_the_number_on_the_list_comes_along_also_without_a_message(
    store: Store,
) -> None:
    stopped = Suppression(Channel.SMS, reason="STOP")
    held = {(KEY, stopped.scope): stopped, (OTHER_KEY, stopped.scope): stopped}
    await store.commit([changes(Profile(LIST), suppressions=held)])
    state = await found(store, KEY)
    assert state.suppressions == {KEY: {stopped.scope: stopped}}
    assert state.addresses == {KEY}


async def test_messages_of_before_are_found_after_the_upgrade(durable: Durable) -> None:
    """The column is taken away with all that came later, and comes back filled."""
    texts = [a_text(n, recipient=PHONE if n % 2 else OTHER) for n in range(1_000, 3_500)]
    mails = [a_text(n, channel=Channel.EMAIL) for n in range(3_500, 3_600)]
    unsent = a_text(9_999, facts={}, state=MessageState.UNDELIVERABLE)
    await durable.store.commit([changes(a_profile(), a_run(run_id="r"), *texts, *mails, unsent)])
    await durable.take_back("0003")
    state = await found(await durable.reopen(), KEY, OTHER_KEY)
    assert state.by_recipient == {KEY: "m3499", OTHER_KEY: "m3498"}
