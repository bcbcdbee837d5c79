"""What all of Twilio's APIs have in common: who logs in, and what an error says."""

import base64
import re
from dataclasses import dataclass, field
from typing import Final

from upshotd.adapters.providers.options import Options
from upshotd.adapters.providers.posting import Answer
from upshotd.adapters.providers.wording import Quoting

#: A number with its country code.
NUMBER: Final = re.compile(r"\+[1-9][0-9]{6,14}")
#: Error code of whoever asks too often.
TOO_MANY: Final = 20429
_ACCOUNT = re.compile(r"AC[0-9a-fA-F]{32}")
_KEY = re.compile(r"SK[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """Who asks."""

    #: AC and 32 hex digits.
    sid: str
    #: Who logs in, and by what: an API key with its secret, or the account with its token.
    login: str
    secret: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """The header of every request."""
        return f"Basic {self._coded}"

    @property
    def _coded(self) -> str:
        return base64.b64encode(f"{self.login}:{self.secret}".encode()).decode()

    def told(self, answer: Answer) -> tuple[int, str]:
        """Return the code of an error, 0 without one, and Twilio's words without numbers."""
        found = answer.json()
        code, text = found.get("code"), found.get("message")
        if not isinstance(code, int) or isinstance(code, bool):
            code = 0
        words = f"HTTP {answer.status}" + (f", {code}" if code else "")
        if isinstance(text, str) and text:
            quoting = Quoting(self.secret, self._coded)
            words += f": {quoting.detail(NUMBER.sub('<number>', text))}"
        return code, words


def account_of(options: Options) -> TwilioAccount:
    """Return the account of a provider's table, where the faults of it are remembered."""
    sid = options.text("account_sid", required=True)
    token, key = options.text("auth_token", required=True), options.text("api_key")
    # Read by the edge, where a token signs callbacks; the second one while they are being rotated.
    options.text("secondary_auth_token")
    secret = options.text("api_secret", required=bool(key))
    if sid and not _ACCOUNT.fullmatch(sid):
        options.fault("account_sid", "must be AC and 32 hex digits")
    if key and not _KEY.fullmatch(key):
        options.fault("api_key", "must be SK and 32 hex digits")
    return TwilioAccount(sid, key or sid, secret if key else token)
