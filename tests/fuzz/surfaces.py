"""All that takes what others send."""

from __future__ import annotations

from typing import Final

from tests.fuzz import control, files, frames, http, lines, stanzas
from tests.fuzz.run import Surface

SURFACES: Final = (
    Surface("http", http.make, http.opened, clients=http.CLIENTS, weight=3),
    Surface("frames", frames.make, frames.opened, clients=http.CLIENTS, weight=1),
    Surface("stanzas", stanzas.make, stanzas.opened, weight=1),
    Surface("lines", lines.make, lines.opened, weight=0.6),
    Surface("settings", files.make_settings, files.settings_opened, weight=1),
    Surface("backups", files.make_backup, files.backups_opened, weight=0.1),
    Surface("control", control.make, control.opened, clients=4, weight=0.2),
)
