"""What people want: topics, and what each person chose."""

from upshotd.application.loop import Loop
from upshotd.application.ports import Clock, Store
from upshotd.application.shelf import Shelf
from upshotd.domain.consent import Preference, Topic, preference
from upshotd.domain.errors import FailedPrecondition, NotFound
from upshotd.domain.state import Identity, identity_of
from upshotd.domain.stimulus import PreferenceResult, PreferenceSet

#: More topics than anybody has: preferences are shown for all of them.
_ALL = 500


class Preferences:
    """Records what people choose, and tells what holds for them."""

    def __init__(self, store: Store, loop: Loop, clock: Clock, topics: Shelf[Topic]) -> None:
        #: What people can choose between.
        self.topics = topics
        self._store = store
        self._loop = loop
        self._clock = clock

    async def of(self, workspace_id: str, identity: Identity) -> list[Preference]:
        """Return what holds for a person, for each topic. Raises NotFound."""
        found = await self._store.profile(workspace_id, identity)
        if found is None:
            raise NotFound("profile")
        now_us = self._clock.now_us()
        page = await self.topics.list(workspace_id, _ALL, "")
        return [preference(kept.thing, found[1], now_us) for kept in page.items]

    async def addressee(self, workspace_id: str, message_id: str) -> Identity:
        """Return whom a message was for. Raises NotFound."""
        message = await self._store.message(workspace_id, message_id)
        if message is None:
            raise NotFound("message", message_id)
        found = await self._store.profiles(workspace_id, {message.profile_id})
        if not found:
            raise NotFound("profile", message.profile_id)
        return identity_of(found[message.profile_id])

    async def choose(self, workspace_id: str, choice: PreferenceSet) -> None:
        """Record a choice; when it returns nothing is sent against it any more.

        Raises NotFound for an unknown topic, FailedPrecondition for an opt-out of a required one.
        """
        (answer,) = await self._loop.ask(workspace_id, [choice])
        assert isinstance(answer, PreferenceResult)
        if answer.reason == "UNKNOWN_TOPIC":
            raise NotFound("topic", choice.topic_id)
        if answer.reason:
            text = f"nobody can opt out of the topic {choice.topic_id!r}"
            raise FailedPrecondition(text, reason=answer.reason, subject=choice.topic_id)
