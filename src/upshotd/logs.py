"""Logging: one line per thing that happened, to stderr, without personal data."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, cast

import orjson
import structlog

#: Fields that may hold what belongs to a person. They do not belong into the log; where one gets
#: in all the same, what it holds does not come out.
PERSONAL: Final = frozenset(
    {
        *("address", "body", "content", "context", "email", "event_payload", "from_address"),
        *("contact", "family_name", "given_name", "html", "ip", "link_url", "name_of_person"),
        *("authorization", "cookie", "key", "password", "secret", "token"),
        *("payload", "phone", "phone_number", "properties", "recipient", "subject", "text", "to"),
        *("traits", "url", "user_name"),
    }
)
REDACTED: Final = "***"


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Blank the fields that may hold personal data or secrets."""
    for key in PERSONAL & event.keys():
        event[key] = REDACTED
    return event


class _Unfailing:
    """A stream that loses lines rather than fail: a full log disk or a closed pipe stops no work.

    How many were lost is said as soon as something can be said again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0

    def write(self, text: str) -> int:
        lost, self._lost = self._lost, 0
        try:
            if lost:
                self._stream.write(_json({"event": "log.lost", "lines": lost}) + "\n")
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._lost = lost + 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: every line is flushed as it is written."""


def set_up(level: str, style: str, stream: TextIO | None = None) -> None:
    """Send every log line to *stream* (stderr), from *level* on.

    *style* is `json`, `console`, or `auto`: console on a terminal, else json. Other people's
    loggers (grpc, aiohttp, asyncio) come out the same way, from WARNING on.
    """
    out = stream or sys.stderr
    steady = _Unfailing(out)
    console = style == "console" or (style == "auto" and out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    last: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_json),
    ]
    if console:
        # Plain traces: the fancy ones print local variables, and with them people's data.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, steady)),
        cache_logger_on_first_use=False,
    )
    foreign = logging.StreamHandler(cast(TextIO, steady))
    foreign.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[foreign], level=logging.WARNING, force=True)


def _json(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=repr).decode()
