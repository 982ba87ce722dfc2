"""What the product is held against: the same chat, as others would write it, and the ceilings above it.

    python -m tests.bench.peers        starts each of them, and checks that it does what it is said to do

Each is as small as it can honestly be, and has none of the product's limits, pages and admins. `servers` starts them;
the servers for XMPP, which take other accounts, are in `xmpp`.
"""
