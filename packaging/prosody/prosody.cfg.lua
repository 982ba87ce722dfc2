-- A Prosody of your own for VeilSupport, on one machine with the appliance: for Prosody 0.12, as Debian 12 has it.
-- README.md beside it has the steps. What differs from one installation to the next stands in veilsupport.lua.
--
-- It listens on 127.0.0.1 only. The admins' phones come through the onion service that the appliance publishes and
-- whose name is this server's; it speaks to no other server, looks nothing up and dials nobody.

local here = RunScript "veilsupport.lua"

pidfile = here.pidfile or "/run/prosody/prosody.pid"
data_path = here.data_path or "/var/lib/prosody"

-- Errors only: at "info" each sign-in is a line with the account's name, and some warnings hold one, too.
log = { error = here.log or "/var/log/prosody/prosody.log" }

---------- Who may connect ----------

interfaces = { "127.0.0.1" }
local_interfaces = { "127.0.0.1" }
component_interfaces = { "127.0.0.1" }
c2s_ports = { here.c2s_port or 5222 }
component_ports = { here.component_port or 5347 }
c2s_direct_tls_ports = { }
s2s_ports = { }
s2s_direct_tls_ports = { }
http_ports = { }
https_ports = { }

-- No TLS: on the way here the onion service encrypts and its name is its key, and from tor it is the loopback. A
-- certificate that nobody can verify would only make every phone ask. Passwords are proved by SCRAM, never sent.
c2s_require_encryption = false
allow_unencrypted_plain_auth = false

authentication = "internal_hashed"
allow_registration = false -- accounts are made with prosodyctl
admins = { } -- the desk owns its rooms; a server's admin would own, and so enter, every room

---------- What it does ----------

local modules = {
	"disco", "roster", "saslauth", "ping", "blocklist",
	"user_account_management", -- people change their own password
	"private", "vcard4", "vcard_legacy", "bookmarks",
	"pep", -- also OMEMO's keys, which apps publish for everybody to read
	"carbons", -- all devices of a person see the same
	"smacks", -- nothing is lost when a circuit breaks
	"mam", -- nor when a phone was off
	"csi_simple", -- what is not urgent waits until the screen is on
}
-- Push (XEP-0357), from Debian's prosody-modules. It wakes apps through servers of their makers, which this server
-- cannot reach: it is of use only with a push service that is itself a component here.
if here.push then
	modules[#modules + 1] = "cloud_notify"
end
modules_enabled = modules
modules_disabled = { "s2s", "s2s_auth_certs" }
-- There are no limits on the rate of stanzas: whoever gets here has a client key and an account.

smacks_hibernation_time = 900 -- seconds for which a phone without a circuit keeps its place
push_max_hibernation_timeout = 900 -- not three days: whoever is gone must not seem to be there
smacks_max_queue_size = 2000

-- The archive. It is what a phone has missed, and what the desk asks after it was down itself. What is not
-- end-to-end encrypted lies in it readably, on this disk, for this long.
default_archive_policy = true
archive_expires_after = here.archive_expires_after or "1w"
muc_log_expires_after = here.archive_expires_after or "1w"

---------- Names ----------

VirtualHost(here.onion)

-- A room for each visitor, and the staff room.
Component("rooms." .. here.onion) "muc"
	name = "Rooms"
	modules_enabled = { "muc_mam" }
	restrict_room_creation = "local"
	muc_room_cache_size = 1000
	muc_room_default_public = false
	muc_room_default_persistent = true
	muc_room_default_members_only = true
	muc_room_default_allow_member_invites = false
	muc_room_default_public_jids = true -- members see each other's account, or apps notify on mention only
	muc_log_by_default = true
	-- A destroyed room leaves its random name behind for a while: apps that come back are told it is gone, and
	-- do not make it anew.
	muc_tombstones = true
	muc_tombstone_expiry = 31 * 24 * 3600

-- Where the appliance signs in when each visitor is to be a contact of their own (XEP-0114).
Component("support." .. here.onion)
	component_secret = here.component_secret
