"""Fewer indexes of the search rows."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Drop what no statement needs."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
