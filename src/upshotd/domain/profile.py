"""A profile: a person, their traits, and the contact fields made from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from upshotd.domain.message import Channel
from upshotd.domain.passes import Passes
from upshotd.domain.trial import Trial

#: Returns the usable form of a value (an e-mail address, an E.164 number), or None.
Normalise: TypeAlias = Callable[[str], str | None]

#: Contact field <- the traits it is taken from, in order of preference.
CONTACT_TRAITS_DEFAULT: Mapping[str, tuple[str, ...]] = {
    "email": ("email",),
    "phone_number": ("phone_number", "phone", "phoneNumber", "sms"),
    "name": ("name",),
    "given_name": ("given_name", "firstName", "first_name"),
    "family_name": ("family_name", "lastName", "last_name"),
    "locale": ("locale",),
    "timezone": ("zoneinfo", "timezone"),
    "chat": ("chat_id", "slack_id", "slackId"),
}


@dataclass(frozen=True, slots=True)
class Suppression:
    """A channel that is held back from a profile, a topic, or a topic on one channel.

    With the reason OPTED_IN it is the opposite: that the person asked for the topic.
    """

    channel: Channel = Channel.UNSPECIFIED
    topic: str = ""
    #: End, in microseconds, not included; None is for good.
    until_us: int | None = None
    #: SUPPRESSED, UNSUBSCRIBED, COMPLAINED, OPTED_OUT, CHANNEL_OFF, STOP; or OPTED_IN.
    reason: str = "SUPPRESSED"

    @property
    def scope(self) -> str:
        """The key that is unique for a profile: `channel:1`, `topic:onboarding`."""
        if not self.topic:
            return f"channel:{int(self.channel)}"
        if self.opts_in:
            return f"opt-in:{self.topic}"
        return f"topic:{self.topic}:{int(self.channel)}" if self.channel else f"topic:{self.topic}"

    @property
    def opts_in(self) -> bool:
        """Whether it says that the person asked for the topic."""
        return self.reason == "OPTED_IN"

    def about(self, channel: Channel, topic: str) -> bool:
        """Return whether it is about messages on *channel* about *topic*, which may be empty."""
        if self.topic and self.topic != topic:
            return False
        return not self.channel or self.channel is channel

    def holds(self, now_us: int) -> bool:
        """Return whether it is in force."""
        return self.until_us is None or now_us < self.until_us

    def outlasts(self, other: "Suppression") -> bool:
        """Return whether it ends no earlier than *other*."""
        if self.until_us is None:
            return True
        return other.until_us is not None and self.until_us >= other.until_us


@dataclass(frozen=True, slots=True)
class Listed:
    """A suppression, and whose it is."""

    #: A profile_id, or the key of an address.
    owner: str
    suppression: Suppression

    @property
    def key(self) -> str:
        """Its place in the list of all."""
        return f"{self.owner} {self.suppression.scope}"


@dataclass(frozen=True, slots=True)
class Profile:
    """A person, known by user_id, or not yet."""

    profile_id: str
    user_id: str = ""
    #: Linked anonymous ids, oldest first.
    anonymous_ids: tuple[str, ...] = ()
    traits: Mapping[str, object] = field(default_factory=dict)
    #: Contact fields made from traits and context, by the names of OpenID Connect.
    contact: Mapping[str, str] = field(default_factory=dict)
    group_ids: tuple[str, ...] = ()
    #: Event time of the newest identify, in microseconds; 0 before the first.
    identify_us: int = 0
    #: When it was first seen, in microseconds; 0 once it was erased, until the person comes back.
    create_us: int = 0
    #: What counts against throttles and caps.
    passes: Passes = field(default_factory=dict)
    #: Profiles that became part of this one: whose the events before that are.
    former_ids: tuple[str, ...] = ()
    #: When it was erased, in microseconds: nothing that happened until then is taken. 0: never.
    erase_us: int = 0
    #: Runs that may still reach the goal of an experiment, oldest first.
    trials: tuple[Trial, ...] = ()
    #: Row version; 0 when the row has never been stored.
    row_version: int = 0

    @property
    def erased(self) -> bool:
        """Whether nothing is known of the person but that they were erased."""
        return bool(self.erase_us) and not self.create_us

    @property
    def is_person(self) -> bool:
        """Whether somebody is known by it: it is no row of ours, and nobody who was erased."""
        return bool(self.user_id or self.anonymous_ids) and not self.erased

    @property
    def can_decide(self) -> bool:
        """Whether somebody may be asked for a decision: it is known who decides."""
        return bool(self.user_id) and not self.erased

    @property
    def anonymous_id(self) -> str:
        """One of the anonymous ids; empty where the user id is known, by which all know them."""
        return "" if self.user_id else next(iter(self.anonymous_ids), "")


@dataclass(frozen=True, slots=True)
class Group:
    """A group and its traits."""

    group_id: str
    traits: Mapping[str, object] = field(default_factory=dict)
    #: Event time of the newest group call, in microseconds.
    group_us: int = 0
    row_version: int = 0


@dataclass(frozen=True, slots=True)
class Merge:
    """An anonymous profile became part of a known one: everything it had follows."""

    from_profile_id: str
    into_profile_id: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """A person is erased: what the store does at once, and how it finds the rest."""

    profile_id: str
    #: It, and those that became part of it.
    profile_ids: tuple[str, ...]
    user_id: str
    anonymous_ids: tuple[str, ...]
    #: Their addresses, by their keys on the suppression list.
    addresses: tuple[str, ...]
    #: When, in microseconds: what came until then goes.
    erase_us: int


@dataclass(frozen=True, slots=True)
class ContactRules:
    """How contact fields are made from traits."""

    email: Normalise
    phone: Normalise
    traits: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: CONTACT_TRAITS_DEFAULT)
