"""A change of rights says whom it touches."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Let rights be compared with the changes that touch them alone."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
