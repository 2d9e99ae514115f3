"""What the workbench needs: resolved codes, and the inbox found by any filter."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create them."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
