"""Asks a language model behind an endpoint that speaks OpenAI's chat completions.

What it answers is believed as far as the schema goes, and no further: it may lie, stall, flood or
say something else.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from upshotd import schemas
from upshotd.adapters.fetching.answers import answer, json_object
from upshotd.domain.fetching import Fetched, FetchResult, ModelRequest, Unfetched

#: Longest answer, in bytes, with everything around it.
ANSWER_BYTES_MAX: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the model is."""

    #: Address of chat completions, as `https://api.example.com/v1/chat/completions`.
    url: str
    #: The model that is asked where a step names none.
    model: str
    #: Name of the secret that is its key; empty where none is needed.
    secret: str = ""


class ModelFetcher:
    """Asks over one session; without an endpoint there is no answer."""

    def __init__(
        self, endpoint: Endpoint | None, secret: Callable[[str], str] = lambda name: name
    ) -> None:
        """*secret* returns the secret of a name as it is at each time."""
        self._endpoint = endpoint
        self._secret = secret
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, request: ModelRequest) -> FetchResult:
        """Ask once; an answer that is not of the schema is none, and another may be."""
        endpoint = self._endpoint
        if endpoint is None:
            return Unfetched("NOT_CONFIGURED", "the settings name no model")
        headers = {}
        if endpoint.secret:
            headers["authorization"] = f"Bearer {self._secret(endpoint.secret)}"
        try:
            async with self._open().post(
                endpoint.url,
                json=_question(request, endpoint.model),
                headers=headers,
                allow_redirects=False,
            ) as response:
                found = await answer(response, ANSWER_BYTES_MAX)
        except (aiohttp.ClientError, OSError) as error:
            return Unfetched("UNREACHABLE", type(error).__name__, again=True)
        return found if isinstance(found, Unfetched) else _checked(found.data, request)

    async def close(self) -> None:
        """Let go of connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


def _question(request: ModelRequest, model: str) -> dict[str, Any]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    return {
        "model": request.model or model,
        "messages": [*system, {"role": "user", "content": request.prompt}],
        "max_tokens": request.most_tokens,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": json.loads(request.schema)},
        },
    }


def _checked(data: Mapping[str, object], request: ModelRequest) -> FetchResult:
    """Return the answer in a completion, if it is an object of the schema."""
    text = _content(data)
    found = json_object(text) if text else None
    if found is None:
        return Unfetched("INVALID_ANSWER", "the model answered no JSON object", again=True)
    try:
        unmet = schemas.unmet(json.loads(request.schema), found)
    except ValueError as error:
        return Unfetched("INVALID_SCHEMA", str(error))
    if unmet is not None:
        return Unfetched("INVALID_ANSWER", unmet, again=True)
    return Fetched(found)


def _content(data: Mapping[str, Any]) -> str:
    try:
        content = data["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return ""
    return content if isinstance(content, str) else ""
