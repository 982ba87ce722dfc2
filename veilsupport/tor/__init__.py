"""Our own tor and its onion services: launched, published, checked from outside, restarted, ended with us.

    daemon   the child process and its life
    onion    torrc, address, clients, self-check
    control  stem, at arm's length
    state    what is known, in plain words

Gets the path of a unix socket and gives an address; or gets none, and is a client of the Tor network only. Knows
nothing of the web behind it, nor of the desk, nor of what stands behind the private service.
"""

from veilsupport.tor.daemon import TorDaemon
from veilsupport.tor.onion import OURSELVES, Access, Client, PrivateService, TorSettings, check_reachable
from veilsupport.tor.state import TorPhase, TorState

__all__ = [
    "OURSELVES",
    "Access",
    "Client",
    "PrivateService",
    "TorDaemon",
    "TorPhase",
    "TorSettings",
    "TorState",
    "check_reachable",
]
