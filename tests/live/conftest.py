"""What the live tests share: one private Tor network for the whole session, and a server of the main desk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.maindesk import PASSWORDS
from tests.live.privnet import PrivateTorNetwork
from tests.live.prosody import Prosody


@pytest.fixture(scope="session")
def tornet() -> Iterator[PrivateTorNetwork]:
    """Started once, with one retry: its free ports may have been taken between choosing and binding."""
    net = PrivateTorNetwork()
    try:
        net.start()
    except (RuntimeError, TimeoutError):
        net.stop()
        net = PrivateTorNetwork()
        net.start()
    try:
        yield net
    finally:
        net.stop()


@pytest.fixture
def prosody() -> Iterator[Prosody]:
    with Prosody(accounts=PASSWORDS) as server:
        yield server
