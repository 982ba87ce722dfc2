"""What may be logged, and how: that something happened, never who, what or where.

Other libraries' loggers are cut off altogether, because they print request paths, raw stanzas and addresses at
levels that look harmless. A bug is reported as its type and its place in our code; its message may hold a
visitor's words and is never printed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_PACKAGE: Final = Path(__file__).resolve().parent
_said_at: Final[dict[str, float]] = {}  # when each kind of background error was last logged, by the loop's clock
logger = logging.getLogger("veilsupport")


def set_up(*, verbose: bool = False) -> None:
    """Our lines go to standard error; nobody else's go anywhere."""
    root = logging.getLogger()
    root.handlers = [logging.NullHandler()]
    root.setLevel(logging.CRITICAL + 1)
    for name in list(logging.root.manager.loggerDict):
        if name.split(".", 1)[0] != "veilsupport":
            other = logging.getLogger(name)
            other.handlers = []
            other.propagate = True
            other.setLevel(logging.NOTSET)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M"))
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.raiseExceptions = False  # A failing handler would print the record's arguments.
    sys.excepthook = _excepthook
    threading.excepthook = _thread_excepthook
    sys.unraisablehook = _unraisablehook


def place(error: BaseException) -> str:
    """Type and innermost place of ours: `KeyError at desk/core.py:51`. For a group, those of all its members."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(sorted({place(each) for each in error.exceptions}))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_PACKAGE):
            return f"{type(error).__name__} at {path.relative_to(_PACKAGE)}:{frame.lineno}"
    return type(error).__name__


def loop_exception_handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own handler would print the exception's message and the task's arguments. Each kind once a minute."""
    error = context.get("exception")
    where = place(error) if error else "no exception"
    now = loop.time()
    if now - _said_at.get(where, -60.0) >= 60:
        _said_at[where] = now
        logger.error("Something went wrong in the background: %s", where)


def _excepthook(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if not isinstance(error, KeyboardInterrupt):
        logger.critical("This is a bug in VeilSupport: %s", place(error))


def _unraisablehook(hooked: sys.UnraisableHookArgs) -> None:
    if hooked.exc_value is not None:
        logger.error("Something could not be put away: %s", place(hooked.exc_value))


def _thread_excepthook(hooked: threading.ExceptHookArgs) -> None:
    if hooked.exc_value is not None:
        logger.critical("This is a bug in VeilSupport: %s", place(hooked.exc_value))
