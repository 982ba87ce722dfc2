"""The values and words of OMEMO: what passes between omemo.py and the rest of the edge, and what admins are told.

It knows neither the library nor the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from xml.etree.ElementTree import Element

from veilsupport.errors import VeilError

NAMESPACE: Final = "eu.siacs.conversations.axolotl"  # XEP-0384 in version 0.3, which Conversations speaks
ENVELOPE: Final = f"{{{NAMESPACE}}}encrypted"
PAYLOAD: Final = f"{{{NAMESPACE}}}payload"
LOST: Final = "/veilsupport/lost/"  # …JID/device: an entry for each session that went with a restore


class DeviceTrust(StrEnum):
    """How an admin's device stands."""

    TRUSTED = "trusted"
    HELD = "held"  # new: neither written to nor listened to until it is confirmed
    DISTRUSTED = "distrusted"


class Why(StrEnum):
    """Why nothing can be encrypted to a JID. The values complete "… is not reached, because".

    Only for NO_DEVICE can it mean anything good to write in the clear: the others have had keys, or nobody knows.
    """

    NO_DEVICE = "none of their apps shows OMEMO keys"  # and none ever did
    VANISHED = "their apps with OMEMO have all gone from their account's list"
    HELD = "none of their devices is confirmed"
    UNREACHED = "the keys of their apps could not be fetched"


@dataclass(frozen=True, slots=True)
class Device:
    """One device of an admin. `fingerprint` is 64 hexadecimal digits, as apps show it; `active`: on the list today."""

    id: int
    fingerprint: str = field(repr=False)
    trust: DeviceTrust
    active: bool


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device that appeared after the first ones of its JID; `held` until `Omemo.trust` is called for it."""

    jid: str = field(repr=False)
    device_id: int
    fingerprint: str = field(repr=False)
    held: bool


@dataclass(frozen=True, slots=True)
class Sealed:
    """`message` is ready to post; None when nobody can be reached. `unreachable` says who cannot read it, and why."""

    message: Element | None = field(repr=False)
    unreachable: Mapping[str, Why] = field(repr=False)


class Undecryptable(VeilError):
    """Someone's words did not open; `message` tells them why and what helps. Not worth another try."""


_NOWHERE: Final = " Nothing of it went to anyone."
NOT_FOR_US: Final = (
    "That was encrypted, but not for the desk's present key. Please open this chat's OMEMO keys in your app, accept"
    " the desk's newest key, and send it again." + _NOWHERE
)
BROKEN: Final = (
    "That could not be opened: the desk and your app had lost step. The desk has begun a new OMEMO session, so please"
    " send it again." + _NOWHERE
)
REUSED: Final = (
    "That could not be opened: your app had used its key for another message. Please send it again." + _NOWHERE
)
UNKNOWN_DEVICE: Final = (
    "That could not be opened: the desk does not find the keys of the device that you wrote it on. Please switch OMEMO"
    " off and on again in that app, then send it again." + _NOWHERE
)
NEW_DEVICE: Final = (
    "You wrote that on a device that is new to the desk, so it was not opened. The device must be confirmed first;"
    " then please send it again." + _NOWHERE
)
DISTRUSTED_DEVICE: Final = "You wrote that on a device that the desk shall not trust, so it was not opened." + _NOWHERE
MALFORMED: Final = "That was encrypted in a way that the desk cannot read. Please send it again." + _NOWHERE
