"""Examining the desk: its files, its machine, and itself while it runs, up to a message that comes in through Tor."""
