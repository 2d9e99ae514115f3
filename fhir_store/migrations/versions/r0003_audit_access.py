"""Audit rows of reads and refusals."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the outcome and the indexes of the read side."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
