"""Finds the files that ship with the program: templates, static files, words, schema.

One rule: the built executable unpacks them in the same places as they have in a checkout. Knows nothing of what
the files are for, and nothing of the data directory.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

# https://pyinstaller.org/en/stable/runtime-information.html
IS_BUILT: Final[bool] = getattr(sys, "frozen", False)  # the one executable, not a checkout
MANIFEST: Final = "bundle.json"  # what is inside it; only there

_ROOT: Final = Path(getattr(sys, "_MEIPASS", Path(__file__).resolve().parent.parent))


def path(relative: str) -> Path:
    """Where a shipped file or directory lies; `relative` counts from the top of the checkout."""
    return _ROOT / relative


def text(relative: str) -> str:
    """A shipped UTF-8 text file."""
    return path(relative).read_text(encoding="utf-8")
