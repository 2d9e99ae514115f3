"""What the hub needs from its machine, each with the fix where it is missing."""

import importlib.metadata
import os
import pathlib
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg

from ops.embedded_postgres import PostgresUnavailable, running
from ops.settings import Settings

FREE_DISK_BYTES = 1 << 30
OLDEST_POSTGRES = 150_000
NEEDED_ON = {"fsync": "on", "full_page_writes": "on"}
CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at: fine or not, what was seen, and what to do about it."""

    name: str
    ok: bool
    seen: str
    fix: str = ""
    required: bool = True


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything the hub needs, cheapest first."""
    looks: list[Callable[[Settings], Finding]] = [
        look_at_python, look_at_packages, look_at_disk, look_at_http_port, look_at_mllp_port,
        look_at_database, look_at_rabbitmq, look_at_node,
    ]  # fmt: skip
    for look in looks:
        yield look(settings)


def look_at_python(_: Settings) -> Finding:
    """Require Python 3.11 or later."""
    return Finding(
        name="Python",
        ok=sys.version_info >= (3, 11),
        seen=sys.version.split()[0],
        fix="apt-get install python3.11 python3.11-venv, then make PYTHON=python3.11 run",
    )


def look_at_packages(_: Settings) -> Finding:
    """Require every package that pyproject.toml asks for."""
    missing = []
    for requirement in importlib.metadata.requires("qiao") or []:
        name = requirement.split(";")[0].split("[")[0].split("=")[0].strip()
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    seen = f"missing: {', '.join(missing)}" if missing else "all installed"
    return Finding(name="Packages", ok=not missing, seen=seen, fix="make clean run")


def look_at_disk(settings: Settings) -> Finding:
    """Require a data folder that can be written, with a gigabyte of free disk."""
    folder = settings.home.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    return Finding(
        name="Data folder",
        ok=writable and free >= FREE_DISK_BYTES,
        seen=f"{free >> 20} MiB free at {settings.home}" + ("" if writable else ", not writable"),
        fix="free some disk, or set QIAO_HOME to a folder with 1 GiB that you may write",
    )


def look_at_http_port(settings: Settings) -> Finding:
    """Require that nobody else listens on the HTTP port."""
    return _look_at_port("HTTP port", settings.host, settings.http_port, "QIAO_HTTP_PORT")


def look_at_mllp_port(settings: Settings) -> Finding:
    """Require that nobody else listens on the MLLP port."""
    return _look_at_port("MLLP port", settings.host, settings.mllp_port, "QIAO_MLLP_PORT")


def _look_at_port(name: str, host: str, port: int, setting: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as refusal:
            seen = f"{host}:{port} {refusal.strerror}"
            fix = f"stop what listens there, or set {setting} to another port"
            return Finding(name=name, ok=False, seen=seen, fix=fix)
    return Finding(name=name, ok=True, seen=f"{host}:{port} is free")


def look_at_database(settings: Settings) -> Finding:
    """Require a PostgreSQL of version 15 or later that keeps what it commits."""
    try:
        if settings.database_url:
            return _look_at_server(settings.database_url)
        with running(settings.home) as server:
            return _look_at_server(server.url)
    except (PostgresUnavailable, psycopg.OperationalError) as failure:
        return Finding(
            name="PostgreSQL",
            ok=False,
            seen=str(failure).strip(),
            fix="check QIAO_DATABASE_URL, or unset it to use the embedded server",
        )


def _look_at_server(url: str) -> Finding:
    with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
        version = connection.info.server_version
        unsafe = []
        for name, wanted in NEEDED_ON.items():
            row = connection.execute("select current_setting(%s)", [name]).fetchone()
            if row and row[0] != wanted:
                unsafe.append(f"{name} = {row[0]}")
    seen = ", ".join([f"{version // 10000}.{version % 10000}", *unsafe])
    return Finding(
        name="PostgreSQL",
        ok=version >= OLDEST_POSTGRES and not unsafe,
        seen=seen,
        fix="use PostgreSQL 15 or later with fsync and full_page_writes on",
    )


def look_at_rabbitmq(settings: Settings) -> Finding:
    """Ask RabbitMQ where it is configured; it is never required."""
    if not settings.amqp_url:
        return Finding(name="RabbitMQ", ok=True, seen="off (QIAO_AMQP_URL is not set)")
    parts = urlsplit(settings.amqp_url)
    try:
        address = (parts.hostname or "localhost", parts.port or 5672)
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError as failure:
        fix = "start the broker, or unset QIAO_AMQP_URL to switch that adapter off"
        return Finding(name="RabbitMQ", ok=False, seen=str(failure), fix=fix, required=False)
    return Finding(name="RabbitMQ", ok=True, seen="answers")


def look_at_node(_: Settings) -> Finding:
    """Look for Node, which builds the web pages; without it everything else works."""
    node = shutil.which("node")
    seen = str(pathlib.Path(node)) if node else "absent: web pages are not built"
    fix = "apt-get install nodejs npm (version 20 or later)"
    return Finding(name="Node", ok=bool(node), seen=seen, fix=fix, required=False)
