"""What may be logged, and how: that something happened, never who, what or where.

Other libraries' loggers are cut off altogether, because they print request paths, raw stanzas and addresses at
levels that look harmless. A bug is reported as its type and its place in our code; its message may hold a
visitor's words and is never printed.

Times are minutes, in either form: with seconds, whoever has the log and has watched a line to the Tor network could lay
the two side by side. Lines that belong to one request carry the same number, which is random and stands for nothing
else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_PACKAGE: Final = Path(__file__).resolve().parent
_said_at: Final[dict[str, float]] = {}  # when each kind of what may come often was last logged
_request: Final[ContextVar[str]] = ContextVar("request", default="")
logger = logging.getLogger("veilsupport")


class Lines(logging.Formatter):
    """For people: `2026-11-20 18:00 INFO tor is connected to the Tor network`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M")

    def format(self, record: logging.LogRecord) -> str:
        request = request_id()
        return super().format(record) + (f" [{request}]" if request else "")


class Objects(logging.Formatter):
    """For programs: one JSON object a line, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("veilsupport").lstrip(".") or "app",
            "message": record.getMessage(),
        }
        request = request_id()
        return json.dumps(line | ({"request": request} if request else {}), ensure_ascii=False)


@contextlib.contextmanager
def request() -> Iterator[None]:
    """What is logged in this block, and in tasks begun there, belongs to one request."""
    token = _request.set(secrets.token_hex(4))
    try:
        yield
    finally:
        _request.reset(token)


def request_id() -> str:
    """Of the request in hand; "" when there is none."""
    return _request.get()


def is_time_for(kind: str) -> bool:
    """Whether the last line of that kind is a minute old, so that nobody can fill a disk with lines."""
    now = time.monotonic()
    if now - _said_at.get(kind, -60.0) < 60:
        return False
    _said_at[kind] = now
    return True


def set_up(*, verbose: bool = False, as_json: bool = False) -> None:
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
    handler.setFormatter(Objects() if as_json else Lines())
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
    if is_time_for(where):
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
