"""The channels of one command, as the files declare them; faults end it."""

import typer

from mappings.engine.rows import FaultyMaps
from ops.channels import ChannelBook
from ops.cli import CHECK_FAILED
from ops.province_choice import NAME as PROVINCE
from ops.settings import Settings


def book_of_files(settings: Settings) -> ChannelBook:
    """Return the channels that the hub would take; every fault is told and ends it with code 1."""
    book = ChannelBook(folder=settings.channels, partners=(PROVINCE,))
    try:
        book.take(book.read())
    except FaultyMaps as faulty:
        for fault in faulty.faults:
            typer.echo(str(fault), err=True)
        raise typer.Exit(CHECK_FAILED) from None
    return book
