"""The pairs of characters of a resource's texts stand in one row."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Gather them from the texts."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
