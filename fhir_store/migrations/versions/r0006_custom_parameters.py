"""Custom search parameters and the secrets a site's processes share."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create them."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
