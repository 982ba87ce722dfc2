"""The core: what a visitor, an admin and time may do.

It knows no web page, no XMPP stanza, no Tor and no clock: `now` (Unix seconds) is an argument, an admin is a
name with an address that is never looked into, and what becomes of a delivery on the wire is the XMPP edge's
business. Every method that accepts something returns after it is on disk; then, and only then, the open pages
are told and the XMPP edge is woken.

    out:   visitor_starts, visitor_says → store (message and deliveries, one transaction) → wake → due → delivery_…
    back:  admin_says → store (message and the stanza's id, one transaction) → listeners
"""

from veilsupport.desk.admins import Admins
from veilsupport.desk.archive import ArchiveState
from veilsupport.desk.attendance import Attendances
from veilsupport.desk.expiry import Expiries
from veilsupport.desk.listener import Listener
from veilsupport.desk.outbox import Outbox, Unacknowledged
from veilsupport.desk.overview import Waiting
from veilsupport.desk.visitors import Visitors
from veilsupport.desk.ways_in import SignedIn

__all__ = ["ArchiveState", "Desk", "Listener", "SignedIn", "Unacknowledged", "Waiting"]


class Desk(Visitors, Admins, Attendances, Outbox, Expiries):
    """One desk: its visitors, its admins and what is due between them. Each part stands in a module of its own."""
