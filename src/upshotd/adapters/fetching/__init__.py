"""What runs ask: addresses of the web, and a language model."""

from typing import assert_never

from upshotd.adapters.fetching.model import ModelFetcher
from upshotd.adapters.fetching.web import WebFetcher
from upshotd.domain.fetching import (
    Fetch,
    FetchResult,
    HttpRequest,
    ModelRequest,
    ReviewersRequest,
)


class OutsideFetcher:
    """Asks whoever a request is for."""

    def __init__(self, web: WebFetcher, model: ModelFetcher) -> None:
        self._web = web
        self._model = model

    async def fetch(self, fetch: Fetch) -> FetchResult:
        """Make one attempt; the caller cuts it off when its time is over."""
        match fetch.request:
            case HttpRequest():
                return await self._web.fetch(fetch.request, fetch.key)
            case ModelRequest():
                return await self._model.fetch(fetch.request)
            case ReviewersRequest():
                raise AssertionError("reviewers are found in the store, not outside")
            case _:
                assert_never(fetch.request)

    async def close(self) -> None:
        """Release connections."""
        await self._web.close()
        await self._model.close()
