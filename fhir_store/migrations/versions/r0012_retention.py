"""Retention of the queues."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the index and the places."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
