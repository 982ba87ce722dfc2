"""What the page is told by: what was found on the machine; and how numbers and admins are named on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from veilsupport.config import AdminSettings
from veilsupport.machine import Swap
from veilsupport.store.inventory import Inventory


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found on the machine. None: it cannot be seen."""

    has_passphrase: bool = False  # the appliance's key; False also while there is none
    kept: Inventory | None = None  # None: there is no database, or it cannot be read
    has_onion_key: bool = False  # in the open, on the disk
    swap: Swap = Swap.UNKNOWN
    disk_is_encrypted: bool | None = None  # by dm-crypt
    disk_spins: bool | None = None  # False: an SSD or the like, where what was overwritten may still be found


def count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def names(admins: Collection[AdminSettings]) -> str:
    return ", ".join(each.name for each in admins)
