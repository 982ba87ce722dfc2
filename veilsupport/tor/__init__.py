"""Our own tor and its onion services: launched, published, checked from outside, restarted, ended with us.

    daemon   the child process and its life
    onion    torrc, address, clients, self-check
    control  stem, at arm's length
    state    what is known, in plain words

Gets the path of a unix socket and gives an address; knows nothing of the web behind it, nor of the desk, nor of what
stands behind the private service.
"""

from veilsupport.tor.daemon import TorDaemon
from veilsupport.tor.onion import Client, PrivateService, TorSettings
from veilsupport.tor.state import TorPhase, TorState

__all__ = ["Client", "PrivateService", "TorDaemon", "TorPhase", "TorSettings", "TorState"]
