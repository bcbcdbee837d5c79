"""What a call costs of its key's quota: events of Ingest one by one, any other call as one."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from upshot.v1 import service_pb2 as pb

#: What a request costs, and what of it is given back by its response.
Cost: TypeAlias = tuple[Callable[[Any], int], Callable[[Any], int]]


def _events(request: pb.IngestRequest) -> int:
    return max(1, len(request.events))


def _repeated(response: pb.IngestResponse) -> int:
    """Return how many events were known already; a call of nothing else costs one."""
    states = [result.state for result in response.results]
    known = states.count(pb.INGEST_STATE_DUPLICATE)
    return known - 1 if known and known == len(states) else known


PLAIN: Final[Cost] = (lambda _request: 1, lambda _response: 0)
COSTS: Final[Mapping[str, Cost]] = MappingProxyType({"UpshotService/Ingest": (_events, _repeated)})
