"""What every test needs: logs that are short, and without personal data."""

import pytest
import structlog


@pytest.fixture(autouse=True)
def short_logs() -> None:
    """Set up logs anew: a test before may have changed them, and the default prints locals."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=repr),
        ],
        cache_logger_on_first_use=False,
    )
