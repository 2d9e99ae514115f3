"""`QIAO_HOME/ports.json`: where each server of this deployment listens, by name."""

import json
import pathlib
import secrets

NAME = "ports.json"


def read_ports(home: pathlib.Path) -> dict[str, str]:
    """Return the addresses by name; empty where none are written."""
    try:
        found = json.loads((home / NAME).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
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
