"""A TimescaleDB of one test's own, to be killed, frozen and filled: a cluster of the shared server's parts.

The shared server may live in a tree of its own (`scripts/real-parts`); its processes say where.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from tests.support.ports import free_port

_CONFIG = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
timescaledb.max_background_workers = 0
shared_memory_type = mmap
dynamic_shared_memory_type = mmap
shared_buffers = 16MB
max_connections = 30
port = {port}
{more}
"""


class PrivateTimescale:
    """A cluster beside the shared one. `size_mb` gives it a disk of that size."""

    def __init__(self, tree: Path, programs: Path, *, size_mb: int = 0, more: str = "") -> None:
        self._tree, self._programs, self._size_mb, self._more = tree, programs, size_mb, more
        self._home = Path(tempfile.mkdtemp(prefix="andon-test-", dir=tree / "var/lib/postgresql"))
        self._port = 0
        self.data = self._home / "data"

    @property
    def dsn(self) -> str:
        return f"postgresql://andon@127.0.0.1:{self._port}/postgres"

    async def start(self) -> None:
        """Make it the first time, then start it."""
        if not self._port:
            self._port = free_port()
            if self._size_mb:
                await asyncio.to_thread(self._mount)
            shutil.chown(self._home, *self._owner())
            await self._run(
                f"initdb -N -D {self._inside(self.data)} -A trust -U andon --locale=C.UTF-8 -E UTF8"
            )
            with (self.data / "postgresql.conf").open("a") as config:
                config.write(_CONFIG.format(port=self._port, more=self._more))
        if not self.pids():
            # Nobody may have asked yet how the killed one ended: then it seems to be there still.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        log = self._inside(self._home / "log")
        await self._run(f"pg_ctl -w -t 90 -D {self._inside(self.data)} -l {log} start")

    async def stop(self) -> None:
        """End it without ceremony, if it runs."""
        if self.pids():
            await self._run(f"pg_ctl -w -D {self._inside(self.data)} -m immediate stop", check=False)

    async def remove(self) -> None:
        """Stop it and leave nothing behind."""
        await self.stop()
        if self._size_mb:
            await asyncio.to_thread(self._unmount)
        shutil.rmtree(self._home, ignore_errors=True)

    def _mount(self) -> None:
        options = f"size={self._size_mb}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self._home], check=True)

    def _unmount(self) -> None:
        subprocess.run(["umount", self._home], check=False)

    def postmaster(self) -> int:
        """Process id of the server."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def pids(self) -> list[int]:
        """The server and all its children."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").readlink() == self.data:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def _inside(self, path: Path) -> str:
        return f"/{path.relative_to(self._tree)}"

    def _owner(self) -> tuple[int, int]:
        status = (self._tree / "var/lib/postgresql").stat()
        return status.st_uid, status.st_gid

    async def _run(self, command: str, *, check: bool = True) -> None:
        in_tree = ["chroot", str(self._tree), "su", "postgres", "-c", f"{self._programs}/{command}"]
        done = await asyncio.to_thread(
            subprocess.run, in_tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=100
        )
        log = self._home / "log"
        assert not check or done.returncode == 0, f"{command}: {log.read_text() if log.exists() else ''}"


async def beside(dsn: str, *, size_mb: int = 0, more: str = "") -> PrivateTimescale | None:
    """A cluster made of the same parts as a running server; None where this process may not make one."""
    connection = await asyncpg.connect(dsn, timeout=60)
    try:
        found = _place_of(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()
    return None if found is None else PrivateTimescale(*found, size_mb=size_mb, more=more)


def _place_of(pid: int) -> tuple[Path, Path] | None:
    """The tree a process of a server lives in, and where its programs are inside."""
    try:
        tree, program = Path(f"/proc/{pid}/root").readlink(), Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return None
    if os.geteuid() != 0 or program.name != "postgres" or not (tree / "var/lib/postgresql").is_dir():
        return None
    return tree, Path("/") / program.relative_to(tree).parent
