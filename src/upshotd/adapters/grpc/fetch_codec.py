"""fetch and generate of the contract <-> those of the domain, but for the steps inside them."""

from upshot.v1 import workflow_pb2 as pb
from upshotd import schemas
from upshotd.adapters.grpc import structs
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import duration
from upshotd.domain.fetching import HttpMethod
from upshotd.domain.steps.fetch import (
    ATTEMPTS_DEFAULT,
    TIMEOUT_DEFAULT_US,
    TOKENS_DEFAULT,
    FetchStep,
    Generate,
)


def fetch(message: pb.Fetch, path: str, reading: Reading) -> FetchStep:
    """Return the fetch at *path*; faults go into *reading*."""
    return FetchStep(
        message.url,
        reading.enum(
            HttpMethod, message.method or HttpMethod.GET, f"{path}.method", HttpMethod.GET
        ),
        dict(message.headers),
        message.body,
        _timeout_us(message, TIMEOUT_DEFAULT_US, path, reading),
        message.max_attempts or ATTEMPTS_DEFAULT,
    )


def generate(message: pb.Generate, path: str, reading: Reading) -> Generate:
    """Return the question at *path*; faults go into *reading*."""
    schema = reading.plain(message.schema, f"{path}.schema")
    fault = schemas.fault(schema)
    if fault is not None:
        reading.fault(f"{path}.schema", fault)
    return Generate(
        message.prompt,
        schema,
        message.system,
        message.model,
        message.max_tokens or TOKENS_DEFAULT,
        _timeout_us(message, 3 * TIMEOUT_DEFAULT_US, path, reading),
        message.max_attempts or ATTEMPTS_DEFAULT,
    )


def _timeout_us(
    message: pb.Fetch | pb.Generate, default_us: int, path: str, reading: Reading
) -> int:
    if not message.HasField("timeout"):
        return default_us
    return reading.span_us(message.timeout, f"{path}.timeout")


def fetch_message(step: FetchStep) -> pb.Fetch:
    """Return a fetch as a message, in canonical form."""
    return pb.Fetch(
        method=pb.FetchMethod.ValueType(step.method),
        url=step.url,
        headers=step.headers,
        body=step.body,
        timeout=duration(step.timeout_us),
        max_attempts=step.attempts,
    )


def generate_message(step: Generate) -> pb.Generate:
    """Return a question to a model as a message, in canonical form."""
    return pb.Generate(
        prompt=step.prompt,
        system=step.system,
        schema=structs.struct(dict(step.schema)),
        model=step.model,
        max_tokens=step.most_tokens,
        timeout=duration(step.timeout_us),
        max_attempts=step.attempts,
    )
