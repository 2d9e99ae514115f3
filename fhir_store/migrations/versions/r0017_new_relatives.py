"""New relatives move nobody's rights."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Let the triggers leave new RelatedPersons out."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
