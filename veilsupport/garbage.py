"""How often Python looks for objects that only refer to each other.

By itself after every 700th new one: with ten thousand open pages a full look takes more than half a second, and a tenth
of what a message costs went there. Almost everything of ours goes by itself when nobody refers to it any more; what
uvicorn and asyncio leave of a closed connection does not, a kilobyte each, and waits for the hourly look.
"""

from __future__ import annotations

import gc


def look_seldom() -> None:
    """Once everything is made that stays: that is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def look() -> None:
    """At everything: a connection that was open for long is found by this alone. 60 us for each open page."""
    gc.collect()
