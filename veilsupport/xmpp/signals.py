"""What the connection tells the rest of the XMPP edge, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element


@dataclass(frozen=True, slots=True)
class Started:
    """A fresh session: what the last one left open must be asked from the archive. `connection` counts dials."""

    connection: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The old session lives on (XEP-0198); `kept` are the stanza ids that slixmpp has just sent again."""

    connection: int
    kept: frozenset[str]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The server has taken that stanza of ours (XEP-0198)."""

    stanza_id: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The server asks how many stanzas we have taken; `handled` is the count up to its question."""

    connection: int
    handled: int


@dataclass(frozen=True, slots=True)
class Heard:
    """A message stanza from an admin, our server, our own account or a room of ours.

    `speaker`: who really spoke in the room, as a bare JID, at the moment it came; "" when the room did not say.
    """

    message: Element = field(repr=False)
    speaker: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Expelled:
    """We are not in that room any more, and did not leave it ourselves."""

    room: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone."""


Signal = Started | Resumed | Acknowledged | Asked | Heard | Expelled | Lost


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no connection, in plain words without any address. `refused`: a human has to change something."""

    words: str
    refused: bool = False


HUNG_UP: Final = Trouble("the server hung up")
SILENT: Final = Trouble("the server does not answer any more")
NO_SESSION: Final = Trouble("the server connects but does not speak; is the tls setting right for its port?")
NO_SET_UP: Final = Trouble("the server did not let us in completely")
FLOODED: Final = Trouble("more came in than could be kept; it is fetched from the archive")
BROKEN: Final = Trouble("the connection to the server broke")
TLS_FAILED: Final = Trouble("TLS failed; is the tls setting right for this port?")
UNTRUSTED: Final = Trouble("the server's certificate is not trusted, so the password was not sent", refused=True)
WRONG_PIN: Final = Trouble(
    "the server's certificate is not the one with the configured fingerprint, so the password was not sent",
    refused=True,
)
NO_TLS: Final = Trouble("the server offers no encryption, so the password was not sent", refused=True)
NO_SIGN_IN: Final = Trouble("the server offers no way of signing in that we know", refused=True)
WRONG_PASSWORD: Final = Trouble("the server does not accept the account's name and password", refused=True)
NOT_NOW: Final = Trouble("the server cannot check the password at the moment")
WRONG_SECRET: Final = Trouble("the server does not accept the component's name and secret", refused=True)
UNKNOWN_NAME: Final = Trouble("the server has no component of that name", refused=True)
NAME_TAKEN: Final = Trouble("somebody is connected as this component already, perhaps our own lost connection")
REPLACED: Final = Trouble("the same account has signed in elsewhere under our resource")
