"""The control socket: whoever may open it (0600) asks one line of the running appliance, and gets JSON documents.

A line is a word, and perhaps a blank and a JSON value. Each document of the answer is a line; most questions have one,
a long job says each step as it is done. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any, Final

from veilsupport.errors import SetupError

STATUS_SOCKET: Final = "status.sock"  # its name in the data directory
NOT_OURS: Final = SetupError(
    "The data directory belongs to another user.", hint="Run this as the user that the desk runs as."
)
_NO_ANSWER: Final = SetupError(
    "The running VeilSupport has not answered, so it is not known whether that was done.",
    hint="Wait a moment, and look at it with: veilsupport status",
)
_ASKING_SECONDS: Final = 5.0
_UNREADABLE: Final = {"error": "This question cannot be read.", "hint": "Ask with the commands of this very version."}

Document = dict[str, Any]
Answer = Callable[[str, str], AsyncGenerator[Document, None]]  # to a word, and the JSON text behind it or ""


@contextlib.asynccontextmanager
async def served(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer there as long as the block lasts.

    What a document tells is done to its end before, however long the disk takes: half of it would be worse than nobody
    to tell. Whoever goes away in the middle of a longer answer ends it there, and so does the end of the block, which
    waits until each has tidied up.
    """
    answering: set[asyncio.Task[Any]] = set()

    async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        task.add_done_callback(answering.discard)
        with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError):
            try:
                await _tell(reader, writer, answer)
            except (ValueError, RecursionError):  # a line without end, not UTF-8, no JSON, or JSON too deep
                writer.write(json.dumps(_UNREADABLE).encode() + b"\n")

    _clear(path)
    server = await asyncio.start_unix_server(told, path)
    _close_to_others(path)
    try:
        yield
    finally:
        server.close()
        _clear(path)
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


async def _tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    async with asyncio.timeout(_ASKING_SECONDS):
        line = (await reader.readline()).decode()
    word, _, rest = line.strip().partition(" ")
    async with contextlib.aclosing(answer(word, rest)) as documents:
        async for document in documents:
            writer.write(json.dumps(document).encode() + b"\n")
            async with asyncio.timeout(_ASKING_SECONDS):
                await writer.drain()


def _clear(path: Path) -> None:
    path.unlink(missing_ok=True)


def _close_to_others(path: Path) -> None:
    path.chmod(0o600)


# ---- asking ------------------------------------------------------------------------------------------------------


def ask(data: Path, line: str, *, seconds: float = 30.0) -> Document | None:
    """The first document of what the appliance that runs on that directory answers; None: none runs.

    SetupError: it is there, but has not answered within `seconds`.
    """
    with contextlib.closing(ask_on(data, line, seconds=seconds)) as documents:
        return next(documents, None)


def ask_on(data: Path, line: str, *, seconds: float = 30.0) -> Generator[Document, None, None]:
    """Every document of its answer as it comes, none when no appliance runs there.

    SetupError: it has not answered, or not gone on, within `seconds`; or it ended in the middle.
    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(seconds)
        try:
            link.connect(str(data / STATUS_SOCKET))
        except TimeoutError:
            raise _NO_ANSWER.anew() from None
        except PermissionError:
            raise NOT_OURS.anew() from None
        except OSError:
            return
        try:
            link.sendall(f"{line}\n".encode())
            answered = False
            with link.makefile("rb") as answer:
                for document in answer:
                    answered = True
                    yield json.loads(document)
            if not answered:
                raise _NO_ANSWER.anew()
        except (OSError, ValueError):  # ValueError: it ended in the middle of its answer
            raise _NO_ANSWER.anew() from None
