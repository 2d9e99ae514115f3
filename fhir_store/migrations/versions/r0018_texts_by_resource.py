"""The texts of a resource are found by their parameter."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Index texts by resource and parameter."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
