"""The XMPP edge: the desk's own account, through which the admins are reached.

It knows the desk and the admins' language; it knows no web page and no tor, only a SOCKS port.
"""

from veilsupport.xmpp.account import Account, Tls, Trust
from veilsupport.xmpp.bridge import Bridge, LinkState, Pace, Phase

__all__ = ["Account", "Bridge", "LinkState", "Pace", "Phase", "Tls", "Trust"]
