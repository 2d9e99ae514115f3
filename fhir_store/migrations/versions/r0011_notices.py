"""How far the timers of notices have come."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the place of the one who sets the timers."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
