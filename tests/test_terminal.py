"""What the operator sees while tor connects: one line that grows on a terminal, a line a step elsewhere."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from veilsupport.cli.terminal import Terminal, grouped
from veilsupport.tor import TorPhase, TorState
from veilsupport.xmpp import LinkState, Phase


class Tty(io.StringIO):
    """A terminal of 80 columns; `rows` is what would stand on it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def rows(self) -> list[str]:
        return [row.rpartition("\x1b[K")[2] for row in self.getvalue().split("\n")]


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Tty:
    monkeypatch.setenv("COLUMNS", "80")
    return Tty()


@pytest.fixture
def handler() -> Iterator[logging.Handler]:
    """As log.set_up makes it."""
    logger = logging.getLogger("veilsupport")
    before, level = logger.handlers, logger.level
    made = logging.StreamHandler()
    logger.handlers = [made]
    logger.setLevel(logging.INFO)
    yield made
    logger.handlers = before
    logger.setLevel(level)


def on_the_way(progress: int, summary: str = "Loading relay descriptors", trouble: str | None = None) -> TorState:
    return TorState(TorPhase.BOOTSTRAPPING, progress, summary, trouble=trouble)


def test_progress_keeps_to_one_line_that_fits(tty: Tty) -> None:
    terminal = Terminal(tty)
    terminal.tor(TorState(TorPhase.STARTING, summary="tor is starting"))
    terminal.tor(on_the_way(50))
    assert tty.rows == ["██████████░░░░░░░░░░  50 % Tor: Loading relay descriptors"]
    terminal.tor(on_the_way(90, "long " * 20))
    assert len(tty.rows[0]) == 79
    terminal.tor(TorState(TorPhase.CONNECTED, 100, "connected to the Tor network"))
    assert tty.rows == ["Tor: connected to the Tor network", ""]


def test_trouble_is_told_once_in_a_line_that_stays(tty: Tty) -> None:
    terminal = Terminal(tty)
    for progress in (5, 10, 15):
        terminal.tor(on_the_way(progress, trouble="a firewall may block Tor"))
    assert tty.rows == ["Tor: a firewall may block Tor.", "███░░░░░░░░░░░░░░░░░  15 % Tor: Loading relay descriptors"]


def test_what_others_write_begins_a_line_of_its_own(tty: Tty, handler: logging.StreamHandler[io.StringIO]) -> None:
    handler.setStream(tty)
    terminal = Terminal(tty)
    terminal.tor(on_the_way(5))
    logging.getLogger("veilsupport.tor").info("tor is connected")
    terminal.tor(on_the_way(10))
    terminal.settle()
    assert tty.rows[1] == "tor is connected"
    assert tty.rows[2].endswith("10 % Tor: Loading relay descriptors")
    assert tty.rows[3] == ""


def test_elsewhere_each_step_is_a_line_with_its_trouble() -> None:
    out = io.StringIO()
    terminal = Terminal(out)
    terminal.tor(on_the_way(5))
    terminal.tor(on_the_way(5))
    terminal.tor(on_the_way(10, trouble="a firewall may block Tor"))
    assert out.getvalue().splitlines() == [
        "[#...................]   5 % Tor: Loading relay descriptors",
        "[##..................]  10 % Tor: Loading relay descriptors (a firewall may block Tor)",
    ]


def test_fingerprint_is_written_as_openssl_does() -> None:
    assert grouped("0a" * 32) == "  " + ":".join(["0A"] * 16) + ":\n  " + ":".join(["0A"] * 16)


def test_line_that_a_human_has_to_mend_says_why() -> None:
    out = io.StringIO()
    terminal = Terminal(out)
    refused = LinkState(Phase.REFUSED, "the XMPP server cannot be used", trouble="the password is wrong")
    for state in (refused, refused, LinkState(Phase.WAITING, "not connected", trouble="the server hung up")):
        terminal.link(state)
    assert out.getvalue() == "XMPP: the XMPP server cannot be used (the password is wrong)\nXMPP: not connected\n"
