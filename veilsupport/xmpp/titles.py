"""What a room is called, and the line below its name. Pure: values in, text out."""

from __future__ import annotations

from datetime import UTC, datetime

from veilsupport.model import Conversation, Site, Standing


def name(alias: str, site: Site) -> str:
    return f"{alias} · {site.title}" if site.title else alias


def subject(conversation: Conversation, site: Site, *, language: str, owner: str) -> str:
    """Alias, site, language, and how it stands. It does not change with the time: each change is a line in the room."""
    parts = [conversation.alias, site.title if conversation.site else "", language]
    if conversation.standing is not Standing.OPEN:
        parts.append(conversation.standing.value)
    elif conversation.waiting_minute is not None:
        parts.append(f"waiting since {_time(conversation.waiting_minute)}")
    if owner:
        parts.append(f"with {owner}")
    return " · ".join(part for part in parts if part)


def _time(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%d %b %H:%M UTC")
