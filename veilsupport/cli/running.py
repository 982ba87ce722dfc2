"""What the commands that need a running desk share: to ask it, and to end when there is none or it says no."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

from veilsupport import controlsocket
from veilsupport.cli.terminal import complain
from veilsupport.errors import SetupError


def asked(data: Path, line: str) -> dict[str, Any]:
    """What the desk that runs there answers. SetupError: it was not done. Without one the command ends."""
    told = answered(data, line)
    if told is None:
        fail(SetupError("No VeilSupport runs on this data directory.", hint="Start it with: veilsupport run"))
    return told


def answered(data: Path, line: str, *, seconds: float = 30.0) -> dict[str, Any] | None:
    """The same; None: none runs."""
    told = controlsocket.ask(data, line, seconds=seconds)
    if told is not None and (why := refusal(told)):
        raise why
    return told


def refusal(told: dict[str, Any]) -> SetupError | None:
    """Why it was not done, in the desk's words; None: it was."""
    return SetupError(told["error"], hint=told["hint"]) if "error" in told else None


def fail(why: SetupError) -> NoReturn:
    """End the command with 1: all is set up rightly, and yet it was not done."""
    complain(why)
    sys.exit(1)
