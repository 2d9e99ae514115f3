"""The horizon of changes looks past transactions of other databases."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the new function and let the horizon stand on it."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
