"""The record store's first tables."""

from alembic import op

from fhir_store.migrations.script import statements_of
from fhir_store.resource_types import TYPES

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables and number the resource types."""
    connection = op.get_bind()
    connection.exec_driver_sql(statements_of(__file__))
    connection.exec_driver_sql(
        "INSERT INTO rtype (tid, name) SELECT number, name"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS types (name, number)",
        (list(TYPES),),
    )
