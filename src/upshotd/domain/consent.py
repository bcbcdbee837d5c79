"""Who wants what: topics, what people chose, and whether a message may go to them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from upshotd.domain.message import Channel
from upshotd.domain.profile import Suppression


class TopicDefault(IntEnum):
    """What holds for a person who has not chosen; the contract's numbers."""

    OPTED_IN = 1
    OPTED_OUT = 2
    #: Nobody can opt out of it.
    REQUIRED = 3


@dataclass(frozen=True, slots=True)
class Topic:
    """What messages can be about, and people choose."""

    topic_id: str
    display_name: str = ""
    description: str = ""
    default: TopicDefault = TopicDefault.OPTED_IN
    version: int = 0


@dataclass(frozen=True, slots=True)
class Preference:
    """What holds for a person and a topic."""

    topic: Topic
    #: Whether messages about it go out at all.
    wanted: bool
    #: Whether the person said so; else it is the topic's default.
    chosen: bool
    #: Channels on which the person wants none of it.
    channels_off: frozenset[Channel] = frozenset()


#: Reasons by which a person, and nobody else, holds back.
CHOICES: Final = frozenset({"UNSUBSCRIBED", "OPTED_OUT", "CHANNEL_OFF"})


def holding(
    held: Iterable[Suppression],
    topics: Mapping[str, Topic],
    channel: Channel,
    topic_id: str,
    now_us: int,
) -> Suppression | None:
    """Return what of *held* keeps a message about a topic (or none) back now, or None."""
    topic = topics.get(topic_id) if topic_id else None
    default = topic.default if topic is not None else TopicDefault.OPTED_IN
    opted_in = False
    # In an order of their own: of several the same one is told, whatever kept them.
    for one in sorted(held, key=lambda suppression: suppression.scope):
        if not one.about(channel, topic_id):
            continue
        if one.opts_in:
            opted_in = True
        elif default is TopicDefault.REQUIRED and one.reason in CHOICES:
            continue
        elif one.holds(now_us):
            return one
    if default is TopicDefault.OPTED_OUT and not opted_in:
        return Suppression(topic=topic_id, reason="NOT_OPTED_IN")
    return None


def preference(topic: Topic, held: Iterable[Suppression], now_us: int) -> Preference:
    """Return what holds for a person of whom *held* is known."""
    mine = [one for one in held if one.topic == topic.topic_id]
    out = any(one.reason in CHOICES and not one.channel and one.holds(now_us) for one in mine)
    opted_in = any(one.opts_in for one in mine)
    off = frozenset(one.channel for one in mine if one.channel and one.reason in CHOICES)
    match topic.default:
        case TopicDefault.REQUIRED:
            return Preference(topic, wanted=True, chosen=False)
        case TopicDefault.OPTED_IN:
            return Preference(topic, not out, out or opted_in, off)
        case TopicDefault.OPTED_OUT:
            return Preference(topic, opted_in and not out, out or opted_in, off)


def chosen(
    topic: Topic, *, wanted: bool | None, channels_off: frozenset[Channel] | None
) -> dict[str, Suppression | None]:
    """Return by scope what a choice writes; None takes away. What is None is left as it is."""
    rows: dict[str, Suppression | None] = {}
    opted_in = Suppression(topic=topic.topic_id, until_us=0, reason="OPTED_IN")
    opted_out = Suppression(topic=topic.topic_id, reason="OPTED_OUT")
    if wanted is not None:
        rows[opted_in.scope] = opted_in if wanted else None
        rows[opted_out.scope] = None if wanted else opted_out
    if channels_off is not None:
        for channel in Channel:
            if channel is not Channel.UNSPECIFIED:
                off = Suppression(channel, topic.topic_id, reason="CHANNEL_OFF")
                rows[off.scope] = off if channel in channels_off else None
    return rows


class Keyword(StrEnum):
    """What an answer to a text message asks of whoever sent it."""

    #: No more text messages.
    STOP = "STOP"
    #: Text messages again.
    START = "START"
    #: Who this is, and how to stop it.
    HELP = "HELP"


_KEYWORDS: Final[Mapping[str, Keyword]] = {str(keyword): keyword for keyword in Keyword}
#: Words that mean it when they are all there is, as Twilio's, the carriers' and the FCC's rules
#: have them; letters and digits alone, so that OPT-OUT and "Stop!" are among them.
_WORDS: Final[Mapping[str, Keyword]] = {
    **dict.fromkeys(
        ("stop", "stopall", "unsubscribe", "cancel", "end", "quit", "optout", "revoke"),
        Keyword.STOP,
    ),
    **dict.fromkeys(("start", "yes", "unstop"), Keyword.START),
    **dict.fromkeys(("help", "info"), Keyword.HELP),
}


def keyword(data: Mapping[str, object]) -> Keyword | None:
    """Return what a reply asks for: what the provider has found, else what its text says."""
    found = _KEYWORDS.get(str(data.get("opt_out_type", "")).upper())
    if found is not None:
        return found
    text = data.get("body", data.get("text", ""))
    if not isinstance(text, str):
        return None
    return _WORDS.get("".join(filter(str.isalnum, text)).casefold())
