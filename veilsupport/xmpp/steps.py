"""How far deliveries have come, as the signals in a row tell it: one transaction for all of them.

A server and a phone that are quicker than the disk else make it commit for each line again and again. Only what says
nothing but that is gathered, and never past anything else, so that all takes effect in its order. It knows no desk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport.model import Admin
from veilsupport.xmpp.signals import Acknowledged, Asked, Heard, Signal

_MANY: Final = 200  # in a row; then the loop and the disk have their turn


@dataclass(frozen=True, slots=True)
class Steps:
    """`reflected`: stanza ids, and under which id the room's archive has them. `asked` waits for the commit."""

    acknowledged: list[str] = field(default_factory=list)
    arrived: list[tuple[str, Admin]] = field(default_factory=list)
    reflected: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)


def gathered(
    queue: deque[Signal],
    *,
    reflection: Callable[[Element, str], tuple[str, str] | None],
    receipt: Callable[[Element], tuple[str, Admin] | None],
) -> Steps | None:
    """What the queue begins with, taken from it; None: with something else.

    `reflection` and `receipt` tell what a stanza is, or None when it is anything else.
    """
    steps = Steps()
    count = 0
    while queue and count < _MANY:
        match queue[0]:
            case Acknowledged(stanza_id):
                steps.acknowledged.append(stanza_id)
            case Asked() as asked:
                steps.asked.append(asked)
            case Heard(message, speaker) if (found := reflection(message, speaker)) is not None:
                steps.reflected[found[0]] = found[1]
            case Heard(message, "") if (arrived := receipt(message)) is not None:
                steps.arrived.append(arrived)
            case _:
                break
        queue.popleft()
        count += 1
    return steps if count else None
