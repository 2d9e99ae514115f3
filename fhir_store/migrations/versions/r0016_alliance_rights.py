"""Alliances are among what rights hang on."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Let the trigger keep the commits that write affiliations."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
