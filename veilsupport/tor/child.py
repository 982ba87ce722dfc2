"""tor as a child process: found, locked to its directory, started, listened to, ended.

Knows processes and files; does not know the control port, nor when tor is to be started again (daemon.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from veilsupport.errors import SetupError
from veilsupport.tor.onion import TorSettings, clear_leftovers, write_torrc

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EXIT_SECONDS: Final = 2  # for tor to end after SIGTERM, before SIGKILL
_QUESTION_SECONDS: Final = 10  # for `tor --list-modules`


@dataclass(slots=True)
class Child:
    """A started tor and its latest warnings, which stay in memory: they may hold addresses."""

    process: asyncio.subprocess.Process
    complaints: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    async def read_complaints(self) -> None:
        """Keep tor's output flowing until it ends."""
        assert self.process.stdout is not None
        while True:
            try:
                line = await self.process.stdout.readline()
            except ValueError:  # longer than the buffer: dropped
                continue
            if not line:
                return
            if b"[warn]" in line or b"[err]" in line:
                self.complaints.append(line.decode("utf-8", "replace").strip())

    async def end(self) -> None:
        """Within about two seconds, by force if need be."""
        if self.process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        """Not by the process object, which would reap a tor that has just died: asyncio then takes its end for 255."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def why_ended(self) -> str:
        """In words of ours."""
        code = self.process.returncode
        if not code:
            return "tor ended by itself"
        return f"tor was killed by signal {-code}" if code < 0 else f"tor ended with exit code {code}"

    def raise_if_misconfigured(self) -> None:
        """SetupError with tor's complaint about the operator's own lines, if it ended because of one."""
        if not any("Reading config failed" in line for line in self.complaints):
            return
        *_, reason = ["nothing more", *filter(None, map(_complaint_words, self.complaints))]
        raise SetupError("tor does not accept its configuration", hint=f"check the torrc lines; tor says: {reason}")


def _complaint_words(line: str) -> str:
    """`Nov 20 11:43:33.588 [warn] Failed to parse/validate config: WORDS` → WORDS; empty for the closing line."""
    words = line.partition("] ")[2].removeprefix("Failed to parse/validate config: ")
    return "" if words.startswith("Reading config failed") else words


async def launch(settings: TorSettings, executable: str, *, lock_fd: int) -> Child:
    """Write the torrc and start tor, which stays off the network until told otherwise. Raises SetupError."""
    write_torrc(settings)
    clear_leftovers(settings)
    process = await _start(
        settings,
        [executable, "--defaults-torrc", "/nonexistent", "-f", str(settings.torrc)],
        pass_fds=(lock_fd,),
    )
    return Child(process)


async def find_executable(settings: TorSettings) -> str:
    """A tor that has proof-of-work defence (0.4.8 and later, built with it). Raises SetupError."""
    found = shutil.which(settings.executable, path=f"{os.environ.get('PATH', '')}:{_PATH}")
    if found is None:
        raise SetupError("tor is not installed", hint="install it, for example with: apt install tor")
    process = await _start(settings, [found, "--list-modules"])
    try:
        async with asyncio.timeout(_QUESTION_SECONDS):
            modules, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        modules, _ = await process.communicate()
    if not re.search(rb"^pow: yes$", modules, re.MULTILINE):
        raise SetupError(
            "this tor is too old or lacks the proof-of-work module",
            hint="install tor 0.4.8 or later, built with --enable-gpl as Debian's is",
        )
    return found


async def _start(
    settings: TorSettings, command: list[str], *, pass_fds: tuple[int, ...] = ()
) -> asyncio.subprocess.Process:
    # Nothing of our environment: a built executable's library path, or a proxy setting, must not reach tor.
    environment = {"PATH": _PATH, "HOME": str(settings.directory), "LC_ALL": "C"}
    if settings.library_path is not None:
        environment["LD_LIBRARY_PATH"] = settings.library_path
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for us; we end tor in order
            pass_fds=pass_fds,
        )
    except OSError:
        raise SetupError("tor cannot be started", hint="check that the tor program can be run here") from None


@contextlib.asynccontextmanager
async def locked(settings: TorSettings, stop: asyncio.Event, *, on_wait: Callable[[], None]) -> AsyncIterator[int]:
    """Hold tor's directory; gives the lock's file descriptor, for tor to inherit.

    A second tor on the directory would unlink the first one's sockets before it notices. As tor inherits the
    lock, one that outlived a killed owner holds it until it has ended too, which is waited for.
    Raises SetupError.
    """
    with (settings.directory / "lock").open("w") as lock:
        give_up_at = time.monotonic() + settings.leftover_seconds
        while not (_try_lock(lock.fileno()) or stop.is_set()):
            if time.monotonic() > give_up_at:
                raise SetupError(
                    "another tor is running on this data directory",
                    hint="stop the other VeilSupport first, or give this one another data directory",
                )
            on_wait()
            await set_within(stop, 0.1)
        yield lock.fileno()


def _try_lock(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, for that time at most; says whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
