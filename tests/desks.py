"""A real desk over a real store in a temporary directory, and the people of the tests."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from veilsupport.crypto import ApplianceKey
from veilsupport.desk import Desk
from veilsupport.model import Admin, Delivery, DeliveryKind, Intake, Private, Session, Site
from veilsupport.store import Store

NOON = 1_800_000_000.0  # Unix seconds; any instant will do
ADA = Admin("Ada", Private("ada@chat.example"))
BERT = Admin("Bert", Private("bert@chat.example"))
KEY = ApplianceKey(b"k" * 32)
# Where a visitor may write any number of lines before the first answer.
FREELY = {"": Site("", "", "", request_messages=0, request_characters=0)}

_stanza_numbers = itertools.count()


@contextlib.asynccontextmanager
async def desk_in(
    directory: Path,
    admins: Sequence[Admin] = (ADA,),
    key: ApplianceKey = KEY,
    *,
    sites: Mapping[str, Site] | None = None,
    uses_rooms: bool = False,
) -> AsyncIterator[Desk]:
    """The desk of that directory, open for the length of the block; a second block finds what the first left."""
    store = Store(directory / "veilsupport.sqlite")
    desk = Desk(store, key, admins, sites=sites, uses_rooms=uses_rooms)
    await desk.reassign(now=NOON)
    try:
        yield desk
    finally:
        desk.close()
        store.close()


def intake() -> Intake:
    """A stanza that never came before."""
    return Intake(f"stanza-{next(_stanza_numbers)}")


async def start(desk: Desk, body: str = "is anyone there?", *, seed: bytes | None = None, site: str = "") -> Session:
    """A visitor writes a first message; their open session."""
    seed = seed or f"seed-{next(_stanza_numbers)}".encode()
    signed_in = await desk.visitor_starts(body, seed=seed, now=NOON, site=site)
    return reopened(desk, signed_in.token)


def reopened(desk: Desk, token: Private) -> Session:
    session = desk.open_session(token)
    assert session is not None
    return session


async def hand_over(desk: Desk) -> list[Delivery]:
    """Play the XMPP edge: send all that is due, and let the server acknowledge it."""
    due = desk.due(now=NOON)
    ids = [delivery.stanza_id for delivery in due]
    await desk.delivery_sent(ids, now=NOON)
    await desk.delivery_acknowledged(ids)
    return due


def admin_of(delivery: Delivery) -> Admin:
    """Whose chat it goes to; not for what goes to a room."""
    assert delivery.admin
    return delivery.admin


def bodies(deliveries: Sequence[Delivery], kind: DeliveryKind = DeliveryKind.MESSAGE) -> list[str]:
    return [delivery.body for delivery in deliveries if delivery.kind is kind]
