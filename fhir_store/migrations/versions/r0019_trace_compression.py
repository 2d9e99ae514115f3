"""Traces are compressed at less cost."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Change how new traces are compressed."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
