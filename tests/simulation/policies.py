"""What a workspace lays down at random: defaults of topics, caps and quiet hours."""

import random
from datetime import timedelta

from tests.simulation.vocabulary import TOPICS
from upshotd.domain.caps import Cap
from upshotd.domain.consent import TopicDefault
from upshotd.domain.definitions import Policy
from upshotd.domain.message import Channel, Purpose
from upshotd.domain.names import instant
from upshotd.domain.window import Window


def topics(chance: random.Random) -> dict[str, TopicDefault]:
    """Return what holds for people who have not chosen."""
    defaults = (TopicDefault.OPTED_IN, TopicDefault.OPTED_IN, TopicDefault.OPTED_OUT)
    return {topic: chance.choice(defaults) for topic in TOPICS if topic}


def policy(chance: random.Random, unit_us: int, start_us: int) -> Policy:
    """Return caps and quiet hours; these are a few minutes of each day, so that histories end."""
    some = Cap("some", chance.randint(1, 3), 8 * unit_us, purposes=frozenset({Purpose.PRODUCT}))
    texts = Cap("texts", 2, 5 * unit_us, channels=frozenset({Channel.SMS}))
    begin = instant(start_us + chance.randint(0, 5) * unit_us).replace(second=0, microsecond=0)
    end = begin + timedelta(minutes=chance.randint(1, 3))
    return Policy(
        caps=(some, texts) if chance.random() < 0.5 else (),
        hours={Purpose.MARKETING: Window(end.time(), begin.time())},
    )
