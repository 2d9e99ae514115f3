"""How far the matching of services has come."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the place of the one who matches services to their sources."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
