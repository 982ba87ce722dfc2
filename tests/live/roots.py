"""Bare systems to try the executable in: Debian's smallest, made by debootstrap, without Python, tor or libevent.

Kept between runs in the user's cache directory, as making one takes a minute, and copied for each use. They come from
wherever this machine takes its own packages, which apt is asked for; apt checks their signatures' keys.

    with BareSystem("trixie") as system:
        system.put(executable)
        subprocess.Popen(system.command("/veilsupport", "run"))   # chroot, with an empty environment
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

CHROOT: Final = "/usr/sbin/chroot"
_DEBOOTSTRAP: Final = "/usr/sbin/debootstrap"
_SECONDS: Final = 900
_PLAIN: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class BareSystem:
    """A copy of a root, removed at the end. Only root may make it, and step into it."""

    def __init__(self, suite: str) -> None:
        self._kept = kept_root(suite)
        self.path = Path(tempfile.mkdtemp(prefix="bare-"))

    def put(self, file: Path) -> None:
        """At the top of its tree, under the same name."""
        shutil.copy(file, self.path / file.name)

    def inside(self, path: Path) -> str:
        """How the system itself names a path of ours that lies in it."""
        return "/" + str(path.relative_to(self.path))

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """To be run from outside; inside, nothing is set but what is given."""
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        return [CHROOT, str(self.path), "/usr/bin/env", "-i", *settings, *arguments]

    def has(self, name: str) -> bool:
        """Whether any file of that name, or beginning with it, is in it."""
        return next(self.path.glob(f"usr/**/{name}*"), None) is not None

    def __enter__(self) -> Self:
        # Links instead of copies of what nobody writes to; a chroot sees no device but these two.
        command = ("cp", "--archive", "--link", "--no-target-directory", str(self._kept), str(self.path))
        subprocess.run(command, check=True, timeout=120)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def kept_root(suite: str) -> Path:
    """The root of that suite, made when it is missing."""
    roots = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "veilsupport-tests"
    roots.mkdir(parents=True, exist_ok=True)
    root = roots / suite
    with (roots / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(suite, root)
    return root


def _make(suite: str, root: Path) -> None:
    made = root.with_name(f"{suite}.half-made")
    shutil.rmtree(made, ignore_errors=True)
    command = (_DEBOOTSTRAP, "--variant=minbase", suite, str(made), mirror())
    done = subprocess.run(
        command, env=_PLAIN, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise RuntimeError(f"debootstrap cannot make {suite}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    for packages in (made / "var/cache/apt", made / "var/lib/apt/lists"):
        shutil.rmtree(packages, ignore_errors=True)
    made.rename(root)


def mirror() -> str:
    """Where this machine takes Debian from."""
    asked = ("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages")
    told = subprocess.run(asked, env=_PLAIN, capture_output=True, text=True, timeout=60, check=True).stdout
    found = [line.partition("|")[2] for line in told.splitlines() if line.startswith("Debian|")]
    if not found:
        raise RuntimeError("apt knows no Debian archive")
    return found[0]
