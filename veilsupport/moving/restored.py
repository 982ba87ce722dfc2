"""The first start of a data directory that came out of a backup: what has to be done before anyone hears of it.

Its OMEMO sessions are older than what was sent since, so they are begun anew; and while another desk answers at its
address (the old machine still runs), it does not start. The mark of the restore goes when both are done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from veilsupport import config, onions, people
from veilsupport.config import Config
from veilsupport.crypto import ApplianceKey
from veilsupport.directory import ONION_KEY, RESTORED, DataDirectory, Onion
from veilsupport.errors import SetupError, Unavailable
from veilsupport.moving import twin
from veilsupport.tor import TorState
from veilsupport.xmpp.omemo_renewal import renew
from veilsupport.xmpp.sealing import Kept

_ANOTHER: Final = SetupError(
    "Another VeilSupport answers at this address.",
    hint="Stop that one for good and start this one again. If it shall run all the same: veilsupport run --alone",
)
_UNKNOWN: Final = SetupError(
    "It cannot be found out whether another VeilSupport answers at this address.",
    hint="If the old machine is stopped for good, start this one with: veilsupport run --alone",
)


async def first_start(
    house: DataDirectory,
    settings: Config,
    key: ApplianceKey,
    *,
    uses_tor: bool,
    alone: bool,
    on_change: Callable[[TorState], None] = lambda state: None,
) -> None:
    """Before the appliance is made. Without Tor the address cannot be looked for: the next start with it does.

    `alone`: the operator says that there is no other. SetupError: there is, or that cannot be known; nothing was
    published, and the next start asks again.
    """
    mark = house.path / RESTORED
    if not (mark.exists() and mark.stat().st_size):  # Once: it may stay for long, and sessions of since must go on.
        await _renew_omemo(house, settings, key)
        config.write_private(mark, b"renewed\n")
    if not alone:
        if not uses_tor:
            return
        await _require_alone(house, settings, key, on_change)
    house.forget_restored()


async def _renew_omemo(house: DataDirectory, settings: Config, key: ApplianceKey) -> None:
    with people.desk_at_rest(house.database, settings, key) as desk:
        await renew(Kept(desk, clock=time.time))


async def _require_alone(
    house: DataDirectory, settings: Config, key: ApplianceKey, on_change: Callable[[TorState], None]
) -> None:
    if house.known_address(Onion.PAGE, key) is None:
        return  # It has never been published.
    access = onions.access((house.onion(Onion.PAGE, key) / ONION_KEY).read_bytes())
    tor = onions.client_tor(settings, house.tor, access)
    try:
        found = await twin.answers_elsewhere(tor, access.address, on_change=on_change)
    except Unavailable:
        raise _UNKNOWN.anew() from None
    if found:
        raise _ANOTHER.anew()
