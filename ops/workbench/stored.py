"""Messages that the hub has kept, each with its channel, for the workbench's commands."""

import asyncio
import pathlib
from collections.abc import Callable, Sequence

import typer

from conformance.problem import Problem
from fhir_store.message_browser import MessageFilter, find_messages, read_raws
from fhir_store.store import make_pool
from mappings.channels.profile import ChannelProfile
from ops.channel_reload import Reloading
from ops.cli import USAGE
from ops.command_channels import book_of_files
from ops.command_database import reached_database
from ops.settings import read_settings
from ops.workbench.documents import tell
from ops.workbench.shadow import Shadow

See = Callable[[int, bytes, ChannelProfile], None]
"""Is given an entry's number, its bytes, and its channel with the codes that people resolved."""

_PAGE = 200  # bodies held at a time


def require_one_source(
    files: Sequence[pathlib.Path] | None, *, is_stored: bool, channel: pathlib.Path | None
) -> None:
    """End with 2 where files and stored messages are both asked for, or neither."""
    if is_stored and channel is not None:
        said = "--stored reads each message by its own channel (QIAO_CHANNELS), not by --channel"
    elif is_stored == bool(files):
        said = "Name HL7 v2 files or folders, or --stored for what the hub has kept"
    else:
        return
    advice = "Next: qiao map shadow OLD FOLDER, or qiao map shadow OLD --stored"
    typer.echo(f"{said}.\n{advice}", err=True)
    raise typer.Exit(USAGE)


def shadow_stored(seen: Shadow, *, channel: str | None, last: int) -> None:
    """Compare the newest `last` messages; what neither version can read is told and left out."""

    def see(number: int, raw: bytes, profile: ChannelProfile) -> None:
        try:
            seen.compare(f"message {number}", raw, profile)
        except Problem as problem:
            tell(f"message {number}", problem)

    walk_stored(see, channel=channel, last=last)


def walk_stored(see: See, *, channel: str | None, last: int) -> None:
    """Show `see` the newest `last` messages of the inbox, the newest first.

    `channel` is a channel's name, None all of them. A channel that the files do not declare any
    more is read as one without settings. Ends with 1 where the channels' files are wrong, with 3
    where there is no database.
    """
    settings = read_settings()
    book = book_of_files(settings)

    async def run(url: str) -> None:
        async with make_pool(url, size=1) as pool:
            await Reloading(book=book, pool=pool).refresh_codes()
            profiles, left, before = book.profiles(), last, None
            while left > 0:
                wanted = MessageFilter(channel=channel, before=before, limit=min(left, _PAGE))
                async with pool.connection() as connection:
                    found = (await find_messages(connection, wanted))[: wanted.limit]
                    rows = await read_raws(connection, [row["id"] for row in found])
                for row in rows:
                    name = row["channel"]
                    see(row["id"], bytes(row["raw"]), profiles.get(name, ChannelProfile(name=name)))
                if len(found) < wanted.limit:
                    return
                left, before = left - len(found), found[-1]["id"]

    with reached_database(settings, makes=False) as url:
        asyncio.run(run(url))
