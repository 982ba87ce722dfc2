"""What the live tests share: one private Tor network for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.privnet import PrivateTorNetwork


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
