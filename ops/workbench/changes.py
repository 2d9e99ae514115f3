"""Edited Bundles written back into the messages they came from."""

import pathlib
import sys

import typer

from mappings.changes_back import ChangesBack, NotPutBack
from mappings.channels.profile import ChannelProfile
from mappings.engine.library import Library
from mappings.hl7.message import parse
from mappings.put_back import PutBack
from mappings.translate import Translator
from mappings.translated import Unmapped
from ops.cli import CHECK_FAILED, PARTIAL, USAGE
from ops.workbench.documents import bundle_of
from ops.workbench.messages import messages_of


def back_message(
    library: Library, profile: ChannelProfile, file: pathlib.Path, bundle: pathlib.Path | None
) -> None:
    """Print the original with a Bundle's changes, or the fields that FHIR alone restores.

    Ends with 5 where the message cannot say every change; each is then named.
    """
    name, data = _only_message(file)
    message = parse(data, profile.charset)
    result = Translator(library).translate(message, profile)
    if isinstance(result, Unmapped):
        typer.echo(f"{name}: no map covers {result.event or 'a message without MSH-9'}", err=True)
        raise typer.Exit(CHECK_FAILED)
    if bundle is None:
        made = PutBack(library).rebuild(result.resources, profile.sender, message.separators)
        for place, fields in made:
            for (segment, number), raw in sorted(fields.items()):
                typer.echo(f"{place} {segment}-{number} {raw}")
        return
    after = {
        entry["fullUrl"].removeprefix("urn:uuid:"): entry["resource"]
        for entry in bundle_of(bundle)["entry"]
    }
    changed = ChangesBack(library).write(data, after, profile)
    sys.stdout.buffer.write(changed.data)
    for one in changed.missing:
        typer.echo(f"{name}: {_words(one)}", err=True)
    if changed.missing:
        raise typer.Exit(PARTIAL)


def _only_message(file: pathlib.Path) -> tuple[str, bytes]:
    messages = list(messages_of([file]))
    if len(messages) != 1:
        typer.echo(f"{file} holds {len(messages)} messages; give one at a time", err=True)
        raise typer.Exit(USAGE)
    return messages[0]


def _words(one: NotPutBack) -> str:
    if not one.path:
        return f"{one.resource} is none of the message's resources; nothing of it is put back"
    wanted = "shall be absent" if one.wanted is None else f"shall be {one.wanted}"
    stays = "says nothing of it" if one.stays is None else f"says {one.stays}"
    row = f" (row {one.row})" if one.row else ""
    return f"{one.resource}: {one.path} {wanted}; the message {stays}{row}"
