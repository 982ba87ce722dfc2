"""After a restore: the OMEMO state is older than what was sent and received since the backup was made.

A ratchet that is set back would use message keys again that have been used, which gives both messages away, and would
open nothing of what the devices send by the keys that came after. So the sessions go, all of them, and the pre keys,
which others may have used up since; our identity, the number of our device, what we know of other devices and whom we
trust stay, so that nobody has to confirm anything again. New ids are far above the old: an id that comes again with
another key would break what somebody is just beginning.

When the line is up again, our new bundle is published (Omemo.start) and each device gets a new session, before anyone
writes (Omemo.caught_up).
"""

from __future__ import annotations

from typing import Final

from veilsupport.xmpp.omemo_entries import Entries, KeptState
from veilsupport.xmpp.omemo_terms import LOST, NAMESPACE

# More than a desk gives out between a backup and its restore: the library takes about a hundred for each new session.
_IDS_PASSED_OVER: Final = 100_000
_PRE_KEYS: Final = 100  # as many as the library shows


async def renew(state: KeptState) -> None:
    """Drop what must not be used again, in one step. Before anything is sent; as often as one likes."""
    from veilsupport.xmpp.omemo_library import Backend, EntryStorage  # not before it is needed

    entries = Entries(state)
    storage = EntryStorage(entries)
    pre_key_id = (await storage.load_primitive(f"/{NAMESPACE}/pre_key_id_counter", int)).maybe(None)
    if pre_key_id is None:
        return  # There are no keys yet.
    signed = (await storage.load_dict(f"/{NAMESPACE}/signed_pre_key_ids", int)).maybe({})
    for jid in (await storage.load_list(f"/{NAMESPACE}/bare_jids", str)).maybe([]):
        for device_id in (await storage.load_list(f"/{NAMESPACE}/{jid}/device_ids", int)).maybe([]):
            entries.put(f"{LOST}{jid}/{device_id}", "1")
    backend = Backend(storage)
    await backend.purge()
    await storage.store(f"/{NAMESPACE}/pre_key_id_counter", pre_key_id + _IDS_PASSED_OVER)
    # The highest id that is there counts, whatever key it is of; this one is of none.
    await storage.store(f"/{NAMESPACE}/signed_pre_key_ids", {"": max(signed.values(), default=0) + _IDS_PASSED_OVER})
    await backend.generate_pre_keys(_PRE_KEYS)  # The library does so for a new device only.
    await entries.flush()
