"""Puts the console beside the FHIR base: its routes with what they need."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter

from fhir_store.store import Store
from mappings.engine.library import default_folder
from ops.channel_reload import Reloading
from ops.console_build import ConsolePages
from ops.rehearsal import Rehearsals
from routes.console.desk import Desk
from routes.console.router import console_router
from routes.hub import Hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The console of one process; `opened` wakes who works on messages."""

    store: Store
    reloading: Reloading
    opened: Callable[[], None]
    home: pathlib.Path
    pages: ConsolePages

    def router(self, hub: Hub) -> APIRouter:
        """Return its routes."""
        book = self.reloading.book
        desk = Desk(
            hub=hub,
            profiles=book.profiles,
            translator=book.translator,
            rehearse=Rehearsals(store=self.store, book=book).rehearse,
            resolved=self.reloading.tell_codes,
            opened=self.opened,
            assets=self.pages.assets,
            cases=self.home / "cases",
            maps=default_folder(),
        )
        return console_router(desk)
