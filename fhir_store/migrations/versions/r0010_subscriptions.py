"""Subscribers, their events and how far each has been told."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the tables of subscriptions."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
