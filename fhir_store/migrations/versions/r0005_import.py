"""Progress of imports."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table of finished stretches."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
