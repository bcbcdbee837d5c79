"""What came of the variants of experiments is counted."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table of tallies."""
    op.create_table(
        "tallies",
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("workspace_id", "experiment", "variant")
        ),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("exposures", "successes")),
        sa.PrimaryKeyConstraint("workspace_id", "experiment", "variant", name="pk_tallies"),
        sqlite_with_rowid=False,
    )
