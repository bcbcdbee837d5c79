"""Which requests for a link no person made. A short list: what it misses counts as a person.

Known by their headers (browsers and mail programs that fetch ahead) or their names (link scanners,
previews of chats, crawlers). Gmail's and Yahoo's image proxies (GoogleImageProxy, YahooMailProxy)
fetch when a person opens and are people. Apple's Mail Privacy Protection fetches ahead under the
name of an ordinary browser: nobody can tell its openings from a person's.
"""

from collections.abc import Mapping
from typing import Final

#: Header -> words in it that say that nobody has seen the page yet.
HEADERS: Final = (
    ("Sec-Purpose", ("prefetch", "prerender", "preview")),
    ("Purpose", ("prefetch", "prerender", "preview")),
    ("X-Purpose", ("prefetch", "preview", "instant")),
    ("X-Moz", ("prefetch",)),
)
#: Parts of User-Agent, in lower case.
AGENTS: Final = (
    *("googlebot", "bingbot", "applebot", "yandexbot", "baiduspider", "duckduckbot", "petalbot"),
    *("bingpreview", "skypeuripreview", "slackbot", "slack-imgproxy", "twitterbot", "discordbot"),
    *("facebookexternalhit", "linkedinbot", "telegrambot", "whatsapp/", "pinterestbot"),
    *("ms-office; existence discovery", "microsoft office existence discovery"),
    *("barracuda", "mimecast", "proofpoint", "urldefense", "symantec", "trendmicro", "forcepoint"),
)


def is_machine(headers: Mapping[str, str]) -> bool:
    """Whether these request headers are those of a known prefetcher."""
    for name, words in HEADERS:
        value = headers.get(name, "").lower()
        if value and any(word in value for word in words):
            return True
    agent = headers.get("User-Agent", "").lower()
    return any(part in agent for part in AGENTS)
