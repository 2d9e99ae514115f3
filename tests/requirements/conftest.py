"""One district for everything that is shown of it."""

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from district import District, served


@pytest.fixture(scope="module")
def district(postgres_url: str, template_database: str) -> Iterator[District]:
    """One hub for all showings; each has residents of its own."""
    name = f"qiao_requirements_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template_database}"'.encode())
    try:
        with served(urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))) as district:
            yield district
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f'drop database "{name}" with (force)'.encode())
