"""`QIAO_HOME/ports.json`: where each server of this deployment listens, by name."""

import contextlib
import json
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Protocol

NAME = "ports.json"


def read_ports(home: pathlib.Path) -> dict[str, str]:
    """Return the addresses by name; empty where none are written."""
    try:
        found = json.loads((home / NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(address) for name, address in found.items()}


def write_port(home: pathlib.Path, name: str, address: str | None) -> None:
    """Set the address of one server, or take it out; readers see the old or the new file whole."""
    home.mkdir(parents=True, exist_ok=True)
    ports = read_ports(home)
    ports.pop(name, None)
    if address is not None:
        ports[name] = address
    fresh = home / f"{NAME}.{secrets.token_hex(4)}"
    fresh.write_text(json.dumps(ports, indent=2, sort_keys=True) + "\n", "utf-8")
    fresh.replace(home / NAME)


class Listening(Protocol):
    """What says where a hub listens."""

    @property
    def http_port(self) -> int | None:
        """The port of HTTP."""

    @property
    def mllp_port(self) -> int | None:
        """The port of the first channel."""

    @property
    def channel_ports(self) -> Callable[[], Mapping[str, int]]:
        """The ports of all channels."""


def show_ports(
    stack: contextlib.AsyncExitStack, home: pathlib.Path, host: str, hub: Listening
) -> dict[str, str]:
    """Write where a hub listens until the stack is left; return the addresses by name."""
    ports = {"http": hub.http_port, "mllp": hub.mllp_port}
    ports |= {f"mllp-{name}": port for name, port in hub.channel_ports().items()}
    found = {name: f"{host}:{port}" for name, port in ports.items() if port is not None}
    for name, address in found.items():
        write_port(home, name, address)
        stack.callback(write_port, home, name, None)
    return found


def province_key(home: pathlib.Path) -> bytes:
    """Return the key shared with the simulated province, made on first use (mode 0600)."""
    path = home / "province.key"
    home.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="ascii") as file:
            path.chmod(0o600)
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    return path.read_text("ascii").strip().encode()
