"""What the operator sees while it runs: tor's progress, the line to the admins, the address with its QR code.

On a terminal progress replaces its own line; elsewhere (a journal, a pipe) each step is a line. The onion address is
printed here and nowhere else: it is what the operator gives away, but it does not belong in a log.
"""

from __future__ import annotations

import io
import sys
from typing import TextIO

import segno

from veilsupport.errors import SetupError, SetupErrors
from veilsupport.tor import TorPhase, TorState
from veilsupport.xmpp import LinkState


class Terminal:
    """Prints what changes, and nothing twice."""

    def __init__(self, out: TextIO | None = None, *, prefix: str = "") -> None:
        """`prefix` stands before the page's path."""
        self._prefix = prefix
        self._out = out or sys.stdout
        if isinstance(self._out, io.TextIOWrapper):
            self._out.reconfigure(errors="replace")  # a terminal that lacks a letter must not end the desk
        self._is_terminal = self._out.isatty()
        self._progress = ""
        self._tor_line = ""
        self._link_line = ""
        self._shown_address = ""

    def page(self, port: int) -> None:
        """Served on a loopback port, without tor."""
        self.say(f"The page is at http://127.0.0.1:{port}{self._prefix}/ (on this machine only, not through Tor).")

    def tor(self, state: TorState) -> None:
        """A new state of tor: progress on the way, and the address once it has really been fetched through Tor."""
        if state.phase is TorPhase.REACHABLE and state.address:
            self._show_address(state.address)
            return
        line = f"Tor: {state.summary}" + (f" ({state.trouble})" if state.trouble else "")
        if state.phase is TorPhase.BOOTSTRAPPING:
            line = f"{_bar(state.progress)} {line}"
        if line != self._tor_line:
            self._tor_line = line
            self._replace(line)

    def link(self, state: LinkState) -> None:
        if state.summary != self._link_line:
            self._link_line = state.summary
            self.say(f"XMPP: {state.summary}")

    def say(self, line: str) -> None:
        """A line that stays."""
        self._end_progress()
        self._print(f"{line}\n")

    def _show_address(self, address: str) -> None:
        url = f"http://{address}{self._prefix}/"
        if url == self._shown_address:
            if self._tor_line != "reachable again":
                self._tor_line = "reachable again"
                self.say("Tor: the page is reachable again.")
            return
        self._shown_address = url
        self._tor_line = "reachable again"
        self.say("Your page is reachable: it has been fetched through Tor just now.")
        if self._is_terminal and "utf" in (self._out.encoding or "").lower():
            self.say(qr_code(url))
        self.say(url)

    def _replace(self, line: str) -> None:
        if not self._is_terminal:
            self.say(line)
            return
        self._print(f"\r\x1b[K{line}")
        self._progress = line

    def _end_progress(self) -> None:
        if self._progress:
            self._progress = ""
            self._print("\n")

    def _print(self, text: str) -> None:
        """A terminal or pipe that has been closed is no reason to end."""
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            pass


def qr_code(text: str) -> str:
    """A QR code in half blocks, dark on light whatever the terminal's colours."""
    drawn = io.StringIO()
    segno.make(text, error="l").terminal(drawn, compact=True, border=2)
    return drawn.getvalue().rstrip("\n")


def complain(error: SetupError) -> None:
    """`error:` and `hint:` on standard error, once for each thing that is wrong."""
    problems = error.problems if isinstance(error, SetupErrors) else (error,)
    for problem in problems:
        print(f"veilsupport: error: {problem.message}", file=sys.stderr)
        print(f"veilsupport: hint: {problem.hint}", file=sys.stderr)


def _bar(percent: int) -> str:
    full = percent * 20 // 100
    return f"[{'#' * full}{'.' * (20 - full)}] {percent:3d} %"
