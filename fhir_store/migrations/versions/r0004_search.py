"""Indexes and tables of search: type order, code systems, words, custom parameters."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create them."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
