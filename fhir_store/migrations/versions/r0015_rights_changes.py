"""Which commits changed resources that rights hang on."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the table of such commits, what fills it, and what asks for it."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
