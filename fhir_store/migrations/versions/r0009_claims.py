"""Claims by the instant they end or begin, and the place of the follower of deaths."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the indexes and the place."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
