"""A few questions to our tor over a control connection of their own, which owns nothing: tor lives on when it closes.

Not by stem, which would take ownership of a tor whose __OwningControllerProcess we are, and end it when it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from veilsupport.errors import Unavailable

_SECONDS: Final = 5.0
_OK: Final = "250 OK"


async def inquire(directory: Path, keys: Sequence[str]) -> dict[str, str]:
    """GETINFO (control-spec §3.9) of values of one line; what tor does not know is left out.

    `directory`: TorSettings' own. Unavailable: tor does not answer.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            cookie = (directory / "run" / "cookie").read_bytes()
            reader, writer = await asyncio.open_unix_connection(directory / "run" / "control.sock")
            try:
                if await _asked(reader, writer, f"AUTHENTICATE {cookie.hex()}") != _OK:
                    raise Unavailable("tor's control port does not let us in")
                answers = [(key, await _asked(reader, writer, f"GETINFO {key}")) for key in keys]
            finally:
                writer.close()
    except (OSError, TimeoutError, EOFError, ValueError):
        raise Unavailable("tor's control port does not answer") from None
    return {key: answer.partition("=")[2] for key, answer in answers if answer.startswith(f"250-{key}=")}


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str) -> str:
    """The answer's first line; the others are read past."""
    writer.write(f"{line}\r\n".encode())
    lines: list[str] = []
    while not lines or lines[-1][3:4] == "-":
        raw = await reader.readline()
        if not raw:
            raise EOFError
        lines.append(raw.decode("ascii", "replace").rstrip("\r\n"))
    return lines[0]
