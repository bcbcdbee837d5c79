"""A message: one rendered thing on one channel for one profile, and what became of it."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple, TypeAlias

from upshotd.domain.values import NOTHING


class Purpose(IntEnum):
    """What the messages of a workflow are for; the contract's numbers."""

    TRANSACTIONAL = 1
    PRODUCT = 2
    MARKETING = 3


class Channel(IntEnum):
    """How a message reaches a person; the numbers are those of the contract."""

    UNSPECIFIED = 0
    EMAIL = 1
    SMS = 2
    PUSH = 3
    WEBHOOK = 4
    CHAT = 5
    INBOX = 6


class Attachment(NamedTuple):
    """A file that is fetched when the e-mail is sent."""

    url: str
    #: Empty: the last part of the address.
    filename: str = ""


class Email(NamedTuple):
    """An e-mail; at least one of `html` and `text` is not empty once it is rendered."""

    subject: str
    html: str = ""
    text: str = ""
    #: One-click unsubscribe address (RFC 8058); empty where the edge has no public address.
    unsubscribe_url: str = ""
    #: Where answers go; empty: to the sender.
    reply_to: str = ""
    #: Further headers by name.
    headers: Mapping[str, str] = NOTHING
    #: What `html` is made from; empty once it is rendered.
    mjml: str = ""
    #: Parameters that links to the web get, without their `utm_`; empty once it is rendered.
    utm: Mapping[str, str] = NOTHING
    attachments: tuple[Attachment, ...] = ()


class Sms(NamedTuple):
    """A text message."""

    body: str


class Push(NamedTuple):
    """A notification on a person's devices."""

    title: str
    body: str = ""
    #: What the app gets beside it.
    data: Mapping[str, str] = NOTHING


class Webhook(NamedTuple):
    """A webhook's body: any text; JSON where the template makes JSON."""

    body: str


class Chat(NamedTuple):
    """A message in a chat."""

    body: str


class Inbox(NamedTuple):
    """An entry of an inbox inside an app."""

    title: str
    body: str = ""
    #: Where it leads; empty: nowhere.
    action_url: str = ""


#: What is sent: its texts are templates in a workflow, and rendered in a message.
Content: TypeAlias = Email | Sms | Push | Webhook | Chat | Inbox
#: The channel that each kind of content is for.
CHANNELS: Mapping[type[Content], Channel] = {
    Email: Channel.EMAIL,
    Sms: Channel.SMS,
    Push: Channel.PUSH,
    Webhook: Channel.WEBHOOK,
    Chat: Channel.CHAT,
    Inbox: Channel.INBOX,
}


class Delivery(NamedTuple):
    """What a provider is asked to send: frozen at intent, the same bytes on every attempt."""

    message_id: str
    workspace_id: str
    channel: Channel
    #: The address: e-mail address, E.164 number; devices with a space between; the user id for a
    #: webhook.
    recipient: str
    content: Content
    user_id: str
    workflow_id: str
    run_id: str
    step_id: str
    #: 1 for the first try.
    attempt: int = 1
    #: True when an earlier attempt may have been accepted.
    possible_duplicate: bool = False


class Accepted(NamedTuple):
    """The provider took the message."""

    #: The provider's own id, by which its callbacks name the message; may be empty.
    provider_message_id: str = ""
    #: What a person may read about it: which of several devices did not take it.
    detail: str = ""
    #: Devices that are no more, by their tokens; so in every result.
    gone: tuple[str, ...] = ()


class Refused(NamedTuple):
    """The provider will never take this message: do not repeat it."""

    #: One of the documented words: BOUNCED, PROVIDER_ERROR, INVALID_ADDRESS, STOP, DEVICE_GONE ...
    reason: str
    #: The provider's own words, bounded, without personal data.
    detail: str = ""
    gone: tuple[str, ...] = ()


class Deferred(NamedTuple):
    """Not taken for certain, and worth another try: 429, 4xx of SMTP, connection refused."""

    detail: str = ""
    #: What the provider asked us to wait, in microseconds; 0 leaves it to our backoff.
    retry_after_us: int = 0
    #: True where the provider was not even asked, and shall be.
    put_off: bool = False
    #: True where it says something about this message or its address alone: the provider is well.
    of_message: bool = False
    gone: tuple[str, ...] = ()


class Unknown(NamedTuple):
    """The request left, and no answer says whether it was taken."""

    detail: str = ""
    gone: tuple[str, ...] = ()


SendResult: TypeAlias = Accepted | Refused | Deferred | Unknown


class Ask(StrEnum):
    """What a message is of an approve step."""

    REQUEST = "REQUEST"
    REMINDER = "REMINDER"
    #: The answer to a question of its reviewer.
    ANSWER = "ANSWER"
    #: Says what was decided; nothing can be decided by it.
    NOTICE = "NOTICE"


class MessageState(IntEnum):
    """Where a message is. The numbers are stored."""

    #: Intent is committed; a process holds the lease until `due_us` and is calling the provider.
    SENDING = 1
    #: Not taken yet; the next attempt is due at `due_us`.
    RETRYING = 2
    #: No answer; a callback may still tell until `due_us`.
    UNKNOWN = 3
    #: Taken by the provider.
    ACCEPTED = 4
    #: Will never reach the person: refused, bounced, expired, template fault.
    UNDELIVERABLE = 5
    #: No address for the channel.
    UNROUTABLE = 6
    #: Held back by a suppression, or the run ended before the attempt.
    SUPPRESSED = 7


#: States of a message that nobody can engage with any more.
UNREACHABLE = frozenset(
    {MessageState.UNDELIVERABLE, MessageState.UNROUTABLE, MessageState.SUPPRESSED}
)
#: States in which an attempt may still be made or answered.
OPEN = frozenset({MessageState.SENDING, MessageState.RETRYING, MessageState.UNKNOWN})


class Message(NamedTuple):
    """One message of a step of a run: of a send step to its person, of an approve step to somebody
    who decides about them."""

    message_id: str
    run_id: str
    step_id: str
    profile_id: str
    workflow_id: str
    workflow_version: int
    channel: Channel
    state: MessageState
    #: Provider's configured name; empty when none was asked.
    provider: str = ""
    #: Address used; empty when there was none. Erasable.
    recipient: str = ""
    #: Rendered once, at intent; None when it never got that far.
    content: Content | None = None
    #: Documented upper-case word for a state that is not ACCEPTED; empty otherwise.
    reason: str = ""
    #: What a person may read about the reason: a provider's answer, a template's missing name.
    detail: str = ""
    #: Attempts begun.
    attempt: int = 0
    #: Lease end, next attempt or end of the wait for a callback, by state; None: nothing is due.
    due_us: int | None = None
    #: The process that holds the lease of a SENDING message.
    owner: str = ""
    provider_message_id: str = ""
    #: True once an attempt was made after one with an unknown result.
    possible_duplicate: bool = False
    #: True once an attempt had no answer: no other provider may be asked.
    unsure: bool = False
    #: When it is of no use any more, in microseconds; None: never.
    expire_us: int | None = None
    #: The template that its content is from; empty where the workflow has it.
    template_id: str = ""
    #: Attempts that count for nothing: the provider asked for time, or was not asked.
    spared: int = 0
    #: What it is of an approve step, to a reviewer; None: it is of a send step.
    ask: Ask | None = None
    create_us: int = 0
    #: First time of each fact, in microseconds: sent, delivered, opened, clicked, ignored ...
    facts: Mapping[str, int] = NOTHING
    #: Row version; 0 when the row has never been stored.
    row_version: int = 0

    def whose(self, run_profile_id: str) -> str:
        """Return who gets it, by profile_id: the reviewer where it is of an approve step, else the
        person whose run it is by now."""
        return run_profile_id if self.ask is None else self.profile_id
