"""VeilSupport: an anonymous support desk, from an onion page to an XMPP app and back."""

__version__ = "0.1.0"
