"""The one executable, built by packaging/build when anything it is made of has changed since."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from pathlib import Path
from typing import Final

from tests.live.appliance import TOP

EXECUTABLE: Final = TOP / "dist" / "veilsupport"
_STAMP: Final = TOP / "build" / "made-of.sha256"
_MADE_OF: Final = ("veilsupport.py", "veilsupport", "static", "packaging", "pyproject.toml", "LICENSE")
_SECONDS: Final = 900


def built() -> Path:
    """Its path. Several test processes may ask at once: one of them builds."""
    _STAMP.parent.mkdir(exist_ok=True)
    with (_STAMP.parent / "made-of.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = _of_what()
        if not _is_stamped(before):
            build(TOP)
            _STAMP.write_text(f"{before} {_digest(EXECUTABLE)}\n")
    return EXECUTABLE


def build(checkout: Path) -> Path:
    done = subprocess.run(
        [str(checkout / "packaging" / "build")], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / "dist" / "veilsupport"


def _is_stamped(made_of: str) -> bool:
    if not (_STAMP.exists() and EXECUTABLE.exists()):
        return False
    return _STAMP.read_text() == f"{made_of} {_digest(EXECUTABLE)}\n"


def _of_what() -> str:
    """Changes whenever a file that goes in does, the commit, or the system's packages."""
    digest = hashlib.sha256()
    for name in _MADE_OF:
        top = TOP / name
        files = sorted(top.rglob("*")) if top.is_dir() else [top]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(TOP)} {_digest(file)}\n".encode())
    digest.update((TOP / ".venv" / "requirements.sha256").read_bytes())
    digest.update(Path("/var/lib/dpkg/status").read_bytes())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TOP, capture_output=True, check=False)
    digest.update(commit.stdout)
    return digest.hexdigest()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
