"""What one socket has told its reader, so that it tells only differences.

The desk's events say that something may differ for somebody; every phone of every admin that comes or goes raises one
for all. A frame for each would be read by its mere timing: whoever watches the network of a suspected admin would see
it drop, and a frame come, again and again. The same holds for the receipts of a reading that is not to be shown.

Knows neither frames nor the desk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from veilsupport.model import Message, Progress


class Told:
    """One socket's. Each method remembers what it is given; True when it is news to the reader."""

    def __init__(self) -> None:
        self._desk: Mapping[str, object] = {}
        self._progress: dict[int, Progress] = {}
        self._words: dict[int, int] = {}

    def desk(self, state: Mapping[str, object]) -> bool:
        """`state`: the fields of `shapes.DeskState`.

        How long answers take changes by itself and goes along with what else is told: alone it would wait for the next
        phone that comes or goes, and tell of that. A conversation is open from its first message on, which says so.
        """
        before = self._desk
        self._desk = {**state, "answer_minutes": None, "conversation": state["conversation"] or "open"}
        return self._desk != before

    def states(self, states: Iterable[tuple[int, Progress]]) -> None:
        self._progress |= dict(states)

    def state(self, seq: int, progress: Progress, *, shown: Progress) -> bool:
        """`shown`: as much of `progress` as this reader may know. All of it, where what was told is not known."""
        known = self._progress.get(seq)
        if shown < progress if known is None else shown <= known:
            return False
        self._progress[seq] = shown
        return True

    def message(self, message: Message) -> bool:
        before, words = self._words.get(message.seq), words_of(message)
        self._words[message.seq] = words
        self._progress[message.seq] = message.progress
        return words != before


def words_of(message: Message) -> int:
    """Tells one form of a message from another, without keeping it for as long as somebody looks on."""
    return hash((message.state, message.body))
