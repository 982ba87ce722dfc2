"""Cases by chance, the same for the same seed: words that have hurt others, pieces put together, bytes bent."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

MARK: Final = "MARKfuzzqx"  # begins every mark; no log may hold it
SPLIT: Final = b"\x00<wait>\x00"  # where a slow sender waits

NASTY: Final = (
    *("", " ", "\t", "\n", "\r\n", "\0", "\x7f", "\x85", "\u2028", "\ufeff", "\u202e", "\u0300" * 40, "ﷺ" * 30, "😀"),
    *("0", "-0", "-1", "1e999", "NaN", "9" * 400, "0x1f", "1_0", "٣", "²", "true", "null", "[]", "{}", '"', "'", "\\"),
    *("%", "%00", "%zz", "%ff%fe", "%u0000", "../../..", "//", "/.", "?", "#", ";", "&", "=", "&&==", ",", ",,", ":"),
    *("<script>", "]]>", "<!--", "&lt;&amp;", "{{7*7}}", "{% raw %}", "${x}", "%s%n", "' OR 1=1 --", "\r\nX: y"),
    *("!", "!!", "! !", "!burn", "@", "@heron-42", "[heron-42]", "> ", "[" * 3000, "a" * 5000, "é" * 4001, "🏳️‍🌈" * 99),
)


_One = TypeVar("_One")


class Chance:
    """A seeded generator, and what is made of it. Each case has a mark of its own (`mark`)."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self._cases = 0

    def next_case(self) -> None:
        self._cases += 1

    @property
    def mark(self) -> str:
        return f"{MARK}{self._cases}x"

    def happens(self, share: float) -> bool:
        return self.random.random() < share

    def one_of(self, *choices: _One) -> _One:
        return self.random.choice(choices)

    def pick(self, choices: Sequence[_One]) -> _One:
        return self.random.choice(choices)

    def number(self) -> int:
        return int(self.one_of(-1, 0, 1, 2, 7, 50, 255, 65_536, 2**31, 2**63, 10**15, self.random.getrandbits(70)))

    def text(self) -> str:
        """Words with the mark somewhere in them."""
        parts = [self.mark, *(self.pick(NASTY) for _ in range(self.random.randrange(3)))]
        self.random.shuffle(parts)
        return "".join(parts)

    def word(self, *usual: str) -> str:
        """Mostly one of the usual ones."""
        return str(self.pick(usual)) if usual and not self.happens(0.15) else self.text()

    def value(self, depth: int = 0) -> Any:
        """Anything that JSON can say."""
        kind = self.random.randrange(8 if depth < 3 else 6)
        match kind:
            case 0 | 1:
                return self.text()
            case 2:
                return self.number()
            case 3:
                return self.one_of(None, True, False, 1.5, -0.0, 1e308)
            case 4 | 5:
                return self.pick(NASTY)
            case 6:
                return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
            case _:
                return {self.word("type", "id", "content"): self.value(depth + 1) for _ in range(3)}

    def fields(self, **usual: Callable[[], Any]) -> dict[str, Any]:
        """Those fields, each sometimes missing or of another kind, and sometimes one more."""
        found = {name: made() if not self.happens(0.15) else self.value() for name, made in usual.items()}
        for name in list(found):
            if self.happens(0.05):
                del found[name]
        if self.happens(0.1):
            found[self.word("id", "type", "token")] = self.value()
        return found

    def bent(self, data: bytes, *, share: float = 0.3) -> bytes:
        """Mostly as it is; else with a few bytes changed, lost, doubled or put in."""
        if not self.happens(share):
            return data
        for _ in range(self.random.randrange(1, 5)):
            begin = self.random.randrange(len(data) + 1)
            end = min(len(data), begin + self.random.choice((1, 1, 2, 8, 200)))
            middle = data[begin:end]
            match self.random.randrange(6):
                case 0:
                    middle = bytes(self.random.getrandbits(8) for _ in middle)
                case 1:
                    middle = b""
                case 2:
                    middle = middle * self.random.choice((2, 3, 50))
                case 3:
                    middle = str(self.pick(NASTY)).encode("utf-8", "replace") + middle
                case 4:
                    middle = bytes(byte ^ 1 << self.random.randrange(8) for byte in middle)
                case _:
                    data, middle, end = data[:begin], b"", begin
            data = data[:begin] + middle + data[end:]
        return data
