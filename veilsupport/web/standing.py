"""How things stand with the desk and with one's conversation, as the REST API and the WebSocket both tell it.

Fields for the types of `shapes` and `frames`; knows neither HTTP nor sockets.
"""

from __future__ import annotations

from typing import Any

from veilsupport.desk import Desk
from veilsupport.model import Session
from veilsupport.web import shapes
from veilsupport.web.reading import Reading


def attendance_of(desk: Desk, site: str, *, now: float) -> dict[str, Any]:
    """What visitors of that site are told before they write, in every shape that tells it."""
    attendance = desk.attendance(site, now=now)
    return {
        "open": attendance.line_is_up,
        "staffed": attendance.staffed,
        "away": attendance.away or None,
        "archived": attendance.archived,
    }


def desk_of(desk: Desk, session: Session, site: str, *, now: float) -> dict[str, Any]:
    """What `DeskState` and `DeskFrame` are made of. `site`: where a conversation that is none yet would begin."""
    conversation = desk.conversation(session)
    return {
        **attendance_of(desk, conversation.site if conversation else site, now=now),
        "answer_minutes": desk.answer_minutes(now=now),
        "conversation": conversation.standing.value if conversation else None,
    }


def standing_of(desk: Desk, session: Session, site: str, *, now: float) -> dict[str, Any]:
    """What `Status` is made of, and `ReadyFrame` but for its user. `site` as above."""
    conversation = desk.conversation(session)
    return {
        "desk": shapes.DeskState(**desk_of(desk, session, site, now=now)),
        "last_seq": conversation.last_seq if conversation else 0,
        "read_seq": conversation.read_seq if conversation else 0,
        "states": [shapes.MessageState(**shapes.state_of(*each)) for each in Reading(desk, session).progress()],
    }
