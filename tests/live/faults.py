"""Faults of a machine, for the live tests: a disk that is full, slow or locked by a stranger, and a clock that is set.

A disk is a tmpfs of a few megabytes, which only root may mount. A slow sync and a wrong clock come from a small library
that is compiled here and loaded before all others (ld.so(8)).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from veilsupport.directory import DATABASE

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long number(const char *variable) {
    char text[32] = "";
    const char *path = getenv(variable);
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atoll(text);
}

static void wait_for_disk(void) {
    long long milliseconds = number("TEST_SYNC_FILE");
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    if (milliseconds) nanosleep(&pause, NULL);
}

int fsync(int file) { wait_for_disk(); return syscall(SYS_fsync, file); }

int fdatasync(int file) { wait_for_disk(); return syscall(SYS_fdatasync, file); }

int clock_gettime(clockid_t which, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, which, now);
    if (which == CLOCK_REALTIME) now->tv_sec += number("TEST_CLOCK_FILE");
    return done;
}
"""


class Shim:
    """What a program is started with; `sync` and `clock` may be changed while it runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._sync, self._clock, library = directory / "sync", directory / "clock", directory / "shim.so"
        self.sync(milliseconds=0)
        self.clock(seconds=0)
        command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), "-x", "c", "-"]
        subprocess.run(command, input=_SOURCE, text=True, check=True, timeout=60)
        self.command = (
            "env",
            f"LD_PRELOAD={library}",
            f"TEST_SYNC_FILE={self._sync}",
            f"TEST_CLOCK_FILE={self._clock}",
        )

    def sync(self, *, milliseconds: int) -> None:
        """How long each sync takes beyond its own time."""
        _write(self._sync, milliseconds)

    def clock(self, *, seconds: int) -> None:
        """How far the clock is set from the true one."""
        _write(self._clock, seconds)


def _write(path: Path, number: int) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(str(number))
    fresh.rename(path)


class SmallDisk:
    """A file system of its own; `with` mounts it."""

    def __init__(self, path: Path, *, megabytes: int) -> None:
        self.path = path
        self._megabytes = megabytes
        self._filler = path / "filler"

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Until nothing, or hardly anything, is left."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        if leave_bytes:
            os.truncate(self._filler, self._filler.stat().st_size - leave_bytes)

    def clear(self) -> None:
        self._filler.unlink()

    def __enter__(self) -> SmallDisk:
        self.path.mkdir()
        options = f"size={self._megabytes}m,mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(self.path)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@contextlib.contextmanager
def locked_by_a_stranger(data: Path) -> Iterator[None]:
    """Another program holds the database's only write lock."""
    stranger = sqlite3.connect(data / DATABASE, isolation_level=None)
    try:
        stranger.execute("BEGIN EXCLUSIVE")
        yield
        stranger.execute("ROLLBACK")
    finally:
        stranger.close()


def is_sound(data: Path) -> bool:
    """SQLite's own examination, after the desk has ended."""
    database = sqlite3.connect(data / DATABASE)
    try:
        return bool(database.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        database.close()
