"""Erasing people: at once what can be found by them, in the background what must be looked for.

What is left to do is a setting, written in the transaction of the erasure itself, so that whoever
finds it after a crash brings it to an end. Done twice it does nothing more.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from upshotd.application.codec import Codec
from upshotd.application.erased import PREFIX, erasure_of
from upshotd.application.loop import Loop
from upshotd.application.ports import Clock, Store
from upshotd.application.waking import Waking
from upshotd.domain.errors import Unavailable
from upshotd.domain.profile import Erasure
from upshotd.domain.state import Identity
from upshotd.domain.stimulus import EraseRequested, EraseResult

log = structlog.get_logger()

#: Rows looked at in one transaction.
PAGE: Final = 1_000
#: Pause between two pages, in microseconds: others go first.
PAUSE_US: Final = 2_000
#: Pause between two looks at what others may have left behind, in microseconds.
INTERVAL_US: Final = 10_000_000
#: Later than everything.
_ALL_US: Final = 2**62


class Erasing:
    """Erases people and brings every erasure to an end."""

    def __init__(
        self, store: Store, loop: Loop, clock: Clock, codec: Codec, *, settle_us: int = 0
    ) -> None:
        """*settle_us* is how long another process may still commit what it decided before."""
        self._settle_us = settle_us
        self._store = store
        self._rows = store.erased_rows
        self._loop = loop
        self._clock = clock
        self._codec = codec
        self._waking = Waking(clock)

    def wake(self) -> None:
        """Look for what is left to do at once."""
        self._waking.wake()

    async def erase(self, workspace_id: str, identity: Identity) -> int:
        """Erase a person; return when, in microseconds. The rest follows in the background."""
        (answer,) = await self._loop.ask(workspace_id, [EraseRequested(identity)])
        self.wake()
        if not isinstance(answer, EraseResult):
            raise Unavailable("the person could not be erased; the log says why")
        return answer.erase_us

    async def run(self) -> None:
        """Do what there is to do, for ever; what fails is tried again."""
        await self._waking.forever(self.finish, "erasing.failed", INTERVAL_US)

    async def finish(self) -> None:
        """Bring every erasure to an end that nobody can write against any more."""
        settled_us = self._clock.now_us() - self._settle_us
        found: defaultdict[str, dict[str, Erasure]] = defaultdict(dict)
        for name, value in (await self._store.settings(PREFIX)).items():
            erasure = erasure_of(value)
            if erasure.erase_us <= settled_us:
                found[name.removeprefix(PREFIX).partition("/")[0]][name] = erasure
        for workspace_id, tasks in found.items():
            await self._finish(workspace_id, list(tasks.values()))
            await self._rows.erased()
            for name, erasure in tasks.items():
                await self._store.drop_setting(name)
                done = {"workspace_id": workspace_id, "profile_id": erasure.profile_id}
                log.info("profile.erased", **done)

    async def _finish(self, workspace_id: str, erasures: Sequence[Erasure]) -> None:
        """Go once through everything that may be about one of these people."""
        until_us = await self._until(workspace_id, erasures)
        profiles = {p: until_us[e.profile_id] for e in erasures for p in e.profile_ids}
        users = {e.user_id: until_us[e.profile_id] for e in erasures if e.user_id}
        anonymous = {one: until_us[e.profile_id] for e in erasures for one in e.anonymous_ids}
        await self._events(workspace_id, profiles)
        for partition in sorted({self._rows.partition_of(p) for p in profiles}):
            await self._log(workspace_id, partition, users, anonymous)
        await self._rejected(workspace_id, {**anonymous, **users})

    async def _until(self, workspace_id: str, erasures: Sequence[Erasure]) -> dict[str, int]:
        """Return until when what is about each of them goes.

        Of who has not come back that is everything: another replica's clock may be ahead.
        """
        back = await self._rows.returned(workspace_id, {e.profile_id for e in erasures})
        return {e.profile_id: e.erase_us if e.profile_id in back else _ALL_US for e in erasures}

    async def _events(self, workspace_id: str, until_us: Mapping[str, int]) -> None:
        after: str | None = ""
        while after is not None:
            after = await self._rows.erase_events(workspace_id, until_us, after, PAGE)
            await self._clock.sleep(PAUSE_US)

    async def _rejected(self, workspace_id: str, until_us: Mapping[str, int]) -> None:
        after: str | None = ""
        while after is not None:
            after = await self._rows.erase_rejected(workspace_id, until_us, after, PAGE)
            await self._clock.sleep(PAUSE_US)

    async def _log(
        self,
        workspace_id: str,
        partition: int,
        users: Mapping[str, int],
        anonymous: Mapping[str, int],
    ) -> None:
        def clear(body: bytes) -> bytes | None:
            return self._codec.erased_outcome(body, users, anonymous)

        after: int | None = 0
        while after is not None:
            after = await self._rows.erase_outcomes(workspace_id, partition, after, PAGE, clear)
            await self._clock.sleep(PAUSE_US)
