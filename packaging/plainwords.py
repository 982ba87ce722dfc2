"""Lets the executable's start say plainly why it cannot: instead of "Failed to load Python shared library".

That fails for two reasons only: the system is older than the libraries inside, or the directory for temporary files
is mounted noexec. PyInstaller's words for it stand in its compiled start, so ours may not be longer than theirs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

THEIRS: Final = b"Failed to load Python shared library '%s': %s\n"
OURS: Final = b"Needs Debian 12+ and a TMPDIR not noexec:%.0s\n"  # %.0s: not the path, nor what the loader said


def main(executable: Path) -> None:
    """Replace the one by the other, in place."""
    assert len(OURS) <= len(THEIRS)
    content = executable.read_bytes()
    if content.count(THEIRS + b"\0") != 1:
        raise SystemExit(
            "packaging/build: error: this PyInstaller says something else when it cannot start\n"
            "packaging/build: hint: Look for it in its bootloader, and mend packaging/plainwords.py."
        )
    executable.write_bytes(content.replace(THEIRS + b"\0", OURS.ljust(len(THEIRS) + 1, b"\0")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
