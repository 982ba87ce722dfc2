"""The operator's settings: one small TOML file in the data directory, checked whole.

Knows what is allowed, not what it is for. The XMPP password is not here: it rests in the database, under the
appliance's key.
"""

from veilsupport.config.file import (
    FILE_NAME,
    check,
    load,
    locked,
    parse,
    save,
    with_health_port,
    write_private,
)
from veilsupport.config.sections import (
    AdminSettings,
    Config,
    OnionClientSettings,
    RoleName,
    SiteSettings,
    XmppOnionSettings,
    XmppSettings,
)

__all__ = [
    "FILE_NAME",
    "AdminSettings",
    "Config",
    "OnionClientSettings",
    "RoleName",
    "SiteSettings",
    "XmppOnionSettings",
    "XmppSettings",
    "check",
    "load",
    "locked",
    "parse",
    "save",
    "with_health_port",
    "write_private",
]
