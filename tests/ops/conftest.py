"""A database for tests most of which start a whole hub."""

import pytest


@pytest.fixture
def database_url(used_database_url: str) -> str:
    """A database with the package, as each start of a hub but the first finds it."""
    return used_database_url
