"""The XMPP edge: the desk's own account, or component, through which the admins are reached.

It knows the desk and the admins' language; it knows no web page and no tor, only a SOCKS port.
"""

from veilsupport.xmpp.account import Account, ComponentAccount, Tls, Trust
from veilsupport.xmpp.bridge import Bridge
from veilsupport.xmpp.contactsbridge import ContactsBridge
from veilsupport.xmpp.supervise import LinkState, Pace, Phase

__all__ = ["Account", "Bridge", "ComponentAccount", "ContactsBridge", "LinkState", "Pace", "Phase", "Tls", "Trust"]
