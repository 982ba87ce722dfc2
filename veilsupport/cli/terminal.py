"""What the operator sees while it runs: tor's progress, the line to the admins, the address with its QR code.

On a terminal progress replaces its own line; elsewhere (a journal, a pipe) each step is a line. The onion address is
printed here and nowhere else: it is what the operator gives away, but it does not belong in a log.
"""

from __future__ import annotations

import io
import logging
import shutil
import sys
from typing import TextIO

import segno

from veilsupport.errors import SetupError, SetupErrors
from veilsupport.tor import TorPhase, TorState
from veilsupport.xmpp import LinkState, Phase


class Terminal:
    """Prints what changes, and nothing twice."""

    def __init__(self, out: TextIO | None = None, *, prefix: str = "") -> None:
        """`prefix` stands before the page's path."""
        self._prefix = prefix
        self._out = out or sys.stdout
        if isinstance(self._out, io.TextIOWrapper):
            self._out.reconfigure(errors="replace")  # a terminal that lacks a letter must not end the desk
        self._is_terminal = self._out.isatty()
        if self._is_terminal:
            for handler in logging.getLogger("veilsupport").handlers:
                handler.addFilter(self._before_a_log_line)
        self._progress = ""
        self._tor_line = ""
        self._trouble = ""
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
        trouble = f" ({state.trouble})" if state.trouble and not self._is_terminal else ""
        line = f"Tor: {state.summary.removeprefix('tor is ')}{trouble}"
        if state.phase is TorPhase.BOOTSTRAPPING:
            line = f"{self._bar(state.progress)} {line}"
        if self._is_terminal:
            self._tell_trouble(state.trouble)
        if line == self._tor_line:
            return
        self._tor_line = line
        self._replace(line)
        if state.phase is TorPhase.CONNECTED:
            self.settle()

    def link(self, state: LinkState) -> None:
        """A new state of the line to the admins; why, when a human has to change something."""
        why = f" ({state.trouble})" if state.phase is Phase.REFUSED and state.trouble else ""
        line = f"XMPP: {state.summary}{why}"
        if line != self._link_line:
            self._link_line = line
            self.say(line)

    def settle(self) -> None:
        """What is written next, by whomever, begins a line of its own."""
        if self._progress:
            self._progress = ""
            self._print("\n")

    def _before_a_log_line(self, _: logging.LogRecord) -> bool:
        self.settle()
        return True

    def say(self, line: str) -> None:
        """A line that stays."""
        self.settle()
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
        if self._draws:
            self.say(qr_code(url))
        self.say(url)

    def _replace(self, line: str) -> None:
        if not self._is_terminal:
            self.say(line)
            return
        # A line that wraps could not be replaced by the next.
        room = shutil.get_terminal_size().columns - 1
        line = line if len(line) <= room else line[: room - 1] + "…"
        self._print(f"\r\x1b[K{line}")
        self._progress = line

    def _tell_trouble(self, trouble: str | None) -> None:
        """Once, in a line that stays."""
        if trouble and trouble != self._trouble:
            self.say(f"Tor: {trouble}.")
        self._trouble = trouble or ""

    def _bar(self, percent: int) -> str:
        full = percent * 20 // 100
        if self._draws:
            return f"{'█' * full}{'░' * (20 - full)} {percent:3d} %"
        return f"[{'#' * full}{'.' * (20 - full)}] {percent:3d} %"

    @property
    def _draws(self) -> bool:
        """Whether there is a person with more than ASCII before them."""
        return self._is_terminal and "utf" in (self._out.encoding or "").lower()

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


def grouped(fingerprint: str) -> str:
    """A SHA-256 as openssl prints it, in two lines."""
    pairs = [fingerprint[at : at + 2].upper() for at in range(0, len(fingerprint), 2)]
    return f"  {':'.join(pairs[:16])}:\n  {':'.join(pairs[16:])}"
