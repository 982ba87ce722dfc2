"""Commands that need a running desk: what they say when there is none, and when it says no."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.live.appliance import run_command
from veilsupport import controlsocket
from veilsupport.controlsocket import STATUS_SOCKET, Document

WITHOUT = "veilsupport: error: No VeilSupport runs on this data directory"


@pytest.mark.parametrize("command", ["reload", "status", "omemo", "desk"])
def test_without_a_desk_it_is_said_and_ends_with_1(command: str, tmp_path: Path) -> None:
    done = run_command(command, "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    nothing = ", so nothing was done" if command == "desk" else ""
    assert done.stderr == f"{WITHOUT}{nothing}.\nveilsupport: hint: Start it with: veilsupport run\n"


@pytest.mark.parametrize(
    ("command", "status"), [("reload", 2), ("status", 2), ("omemo", 2), ("expire", 2), ("desk", 1)]
)
def test_what_the_desk_says_is_wrong_is_said_in_its_words(command: str, status: int, tmp_path: Path) -> None:
    async def no(word: str, rest: str) -> AsyncGenerator[Document, None]:
        yield {"error": "The disk is full.", "hint": "Make room."}

    async def go() -> None:
        async with controlsocket.served(tmp_path / STATUS_SOCKET, no):
            done = await asyncio.to_thread(run_command, command, "--data", str(tmp_path))
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr == "veilsupport: error: The disk is full.\nveilsupport: hint: Make room.\n"

    asyncio.run(go())
