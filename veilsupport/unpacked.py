"""The care of the directory into which the built executable unpacks itself, below TMPDIR, and from which it runs.

An outer process waits for the inner one (this one) and removes the directory after it. When the outer process is
killed it can do neither, so the inner one does both: it ends with it, and removes what it and earlier ones leave.
Knows nothing of what is in the directory but its list of parts, by which ours are known.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import Final

from veilsupport import hardening, resources

_MARK: Final = ".veilsupport"  # in an unpacked directory whose program has run
_DIRECTORIES: Final = "_MEI*"  # how PyInstaller names them
_UNPACKING_SECONDS: Final = 600.0  # older without a mark: killed while it was being unpacked


def settle() -> None:
    """At the very start of the built executable: die with the outer process, and keep the unpacked directory in order.

    In a checkout it does nothing.
    """
    if not resources.IS_BUILT:
        return
    outer = os.getppid()
    clean_environment()
    hardening.end_with_parent()
    home = resources.path("")
    if os.getppid() != outer or _is_orphan(outer):  # The outer process died before the kernel knew of our wish.
        shutil.rmtree(home, ignore_errors=True)
        os._exit(1)
    atexit.register(_tidy_for, outer, home)
    occupy(home)
    remove_stale(home.parent)


def clean_environment() -> None:
    """What the outer process set for the inner one is not for children: neither its libraries nor its state."""
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    os.environ.pop("LD_LIBRARY_PATH", None)  # read once, at our own start
    if before:
        os.environ["LD_LIBRARY_PATH"] = before
    for name in [each for each in os.environ if each.startswith("_PYI_")]:
        del os.environ[name]


def occupy(home: Path) -> int:
    """Lock the unpacked directory for as long as we live, and mark it; the file descriptor of the lock.

    The lock also keeps systemd-tmpfiles away, which would otherwise empty /tmp below a desk that runs for weeks
    (tmpfiles.d(5)). No child inherits it.
    """
    lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (home / _MARK).touch(mode=0o600)
    return lock


def remove_stale(directory: Path) -> None:
    """Remove unpacked directories whose program is gone; only ours, of this user, and never one that is in use."""
    for found in directory.glob(_DIRECTORIES):
        with contextlib.suppress(OSError):  # somebody else's, or just being removed
            if _is_ours(found) and _is_left(found):
                shutil.rmtree(found, ignore_errors=True)


def _is_ours(found: Path) -> bool:
    return not found.is_symlink() and found.stat().st_uid == os.getuid() and (found / resources.MANIFEST).is_file()


def _is_left(found: Path) -> bool:
    """Nobody holds it, and it is not one that is being unpacked just now."""
    if not (found / _MARK).exists() and time.time() - found.stat().st_mtime < _UNPACKING_SECONDS:
        return False
    lock = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _is_orphan(parent: int) -> bool:
    """Whether our parent is not the outer process, which runs the same file. Where /proc is missing: not known, no."""
    try:
        return not Path(f"/proc/{parent}/exe").samefile("/proc/self/exe")
    except OSError:
        return False


def _tidy_for(outer: int, home: Path) -> None:
    """At our end: what the outer process would do, if it is no more."""
    if os.getppid() != outer:
        shutil.rmtree(home, ignore_errors=True)
