"""What the hub needs from its machine, each with the fix where it is missing."""

import errno
import importlib.metadata
import pathlib
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg

from conformance.problem import Problem
from ops.data_folder import require_data_folder
from ops.database import CANNOT_USE, shortcomings
from ops.embedded_postgres import PostgresUnavailable, running
from ops.ports_file import read_ports
from ops.settings import Settings

FREE_DISK_BYTES = 1 << 30
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
    try:
        require_data_folder(settings.home)
    except Problem as problem:
        issue = problem.issues[0]
        return Finding(name="Data folder", ok=False, seen=issue.text_en, fix=issue.fix_en)
    free = shutil.disk_usage(settings.home).free
    return Finding(
        name="Data folder",
        ok=free >= FREE_DISK_BYTES,
        seen=f"{free >> 20} MiB free at {settings.home}",
        fix="free some disk, or set QIAO_HOME to a folder with 1 GiB free",
    )


def look_at_http_port(settings: Settings) -> Finding:
    """Require that nobody else listens on the HTTP port."""
    return _look_at_port(settings, "http", settings.http_port)


def look_at_mllp_port(settings: Settings) -> Finding:
    """Require that nobody else listens on the MLLP port, nor is to."""
    if settings.mllp_port and settings.mllp_port == settings.http_port:
        seen = f"HTTP is to listen on {settings.mllp_port} too"
        fix = "set QIAO_MLLP_PORT or QIAO_HTTP_PORT to another port"
        return Finding(name="MLLP port", ok=False, seen=seen, fix=fix)
    return _look_at_port(settings, "mllp", settings.mllp_port)


def _look_at_port(settings: Settings, kind: str, port: int) -> Finding:
    name, setting, host = f"{kind.upper()} port", f"QIAO_{kind.upper()}_PORT", settings.host
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address[4])
    except OSError as refusal:
        if read_ports(settings.home).get(kind) == f"{host}:{port}" and _is_answered(host, port):
            return Finding(
                name=name, ok=True, seen=f"{host}:{port} is a running hub's of this folder"
            )
        fix = {
            errno.EADDRINUSE: f"stop what listens there, or set {setting} to another port",
            errno.EACCES: f"set {setting} to a port over 1023, which needs no privilege",
        }.get(refusal.errno or 0, "set QIAO_HOST to an address of this machine")
        seen = f"{host}:{port} {refusal.strerror}"
        return Finding(name=name, ok=False, seen=seen, fix=fix)
    return Finding(name=name, ok=True, seen=f"{host}:{port} is free")


def _is_answered(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def look_at_database(settings: Settings) -> Finding:
    """Require a PostgreSQL of version 15 or later that keeps what it commits."""
    try:
        if settings.database_url:
            return _look_at_server(settings.database_url)
        with running(settings.home) as server:
            return _look_at_server(server.url)
    except (PostgresUnavailable, Problem, OSError) as failure:
        fix = "mend that, or set QIAO_DATABASE_URL to a server of version 15 or later"
        seen = f"the embedded server cannot be had: {_line_of(failure)}"
        return Finding(name="PostgreSQL", ok=False, seen=seen, fix=fix)
    except CANNOT_USE as failure:
        fix = (
            "start that server, or correct the host, port, user, password and database in "
            "QIAO_DATABASE_URL, or unset it to use the embedded server"
        )
        return Finding(name="PostgreSQL", ok=False, seen=_line_of(failure), fix=fix)


def _line_of(failure: Exception) -> str:
    if isinstance(failure, Problem):
        return failure.issues[0].text_en
    return str(failure).strip().splitlines()[0]


def _look_at_server(url: str) -> Finding:
    lacks = shortcomings(url)
    with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
        version = connection.info.server_version
        for name, wanted in NEEDED_ON.items():
            row = connection.execute("select current_setting(%s) = %s", [name, wanted]).fetchone()
            if row != (True,):
                fix = f"set {name} = {wanted} in postgresql.conf and reload"
                lacks.append((f"{name} is not {wanted}, so commits can be lost", fix))
    seen = ", ".join([f"{version // 10000}.{version % 10000}", *(what for what, _ in lacks)])
    fix = "; ".join(fix for _, fix in lacks)
    return Finding(name="PostgreSQL", ok=not lacks, seen=seen, fix=fix)


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
