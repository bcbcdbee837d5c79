"""What every test needs: logs that are short and without personal data, examples that repeat."""

import pytest
import structlog
from hypothesis import settings

# What refuses a change must not depend on luck. `make explore` looks for new examples; what it
# finds becomes an `@example`.
settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile("repeat")


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
