"""Indexes and tables of search: type order, code systems, words, custom parameters."""

from alembic import op

from fhir_store.migrations.script import statements_of

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create them."""
    op.get_bind().exec_driver_sql(statements_of(__file__))
