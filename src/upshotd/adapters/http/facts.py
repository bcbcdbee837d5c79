"""What one callback says about one message, before it is known whose message it is."""

import re
from typing import Final, NamedTuple

from upshot.v1 import engagement_pb2 as pb

#: Longest text of a provider that is taken over, in characters.
_TEXT_CHARS: Final = 500
#: Mail servers quote addresses in what they say.
_ADDRESS = re.compile(r"[^\s<>]+@[^\s<>]+")


class Fact(NamedTuple):
    """What a provider tells."""

    #: Ours, which names the message.
    token: str
    #: Without its target.
    engagement: pb.Engagement


def without_addresses(text: str) -> str:
    """Return a provider's words, bounded and without personal data."""
    return _ADDRESS.sub("<address>", text)[:_TEXT_CHARS]
