"""What a room is called, and the line below its name, or a contact's. Pure: values in, text out."""

from __future__ import annotations

from datetime import UTC, datetime

from veilsupport.model import Conversation, Request, Site, Standing


def name(alias: str, site: Site) -> str:
    return f"{alias} · {site.title}" if site.title else alias


def subject(conversation: Conversation, site: Site, *, language: str, owner: str) -> str:
    """Alias, site, language, and how it stands. It does not change with the time: each change is a line in the room."""
    site_title = site.title if conversation.site else ""
    return _joined(conversation.alias, site_title, language, *_how_it_stands(conversation, owner))


def status(conversation: Conversation, site: Site, *, owner: str) -> str:
    """Site, and how it stands; "" when it is not open."""
    if conversation.standing is not Standing.OPEN:
        return ""
    return _joined(site.title, *_how_it_stands(conversation, owner)) or "open"


def _how_it_stands(conversation: Conversation, owner: str) -> tuple[str, ...]:
    whose = f"with {owner}" if owner else ""
    if conversation.standing is not Standing.OPEN:
        return conversation.standing.value, whose
    waits = conversation.waiting_minute is not None
    new = "request" if conversation.request is not Request.ACCEPTED else ""
    return new, f"waiting since {_time(conversation.waiting_minute or 0)}" if waits else "", whose


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _time(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%d %b %H:%M UTC")
