"""Inbox, outbox and the trace between them."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the queues."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
