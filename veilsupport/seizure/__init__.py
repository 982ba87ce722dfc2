"""What a seizure would tell, of this configuration and of what is kept now, in words for whoever runs the desk. Pure.

Every sentence is chosen by the settings and the facts; none is there for all cases but those that are true in all.
Whoever changes what is kept, changes disk.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from veilsupport.config import Config
from veilsupport.machine import Swap
from veilsupport.seizure.disk import disk_tells
from veilsupport.seizure.elsewhere import phone_tells, server_tells
from veilsupport.seizure.facts import Facts, names
from veilsupport.store.inventory import Inventory

__all__ = ["Facts", "Section", "seizure"]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page."""

    title: str
    sentences: tuple[str, ...]


def seizure(settings: Config, facts: Facts) -> list[Section]:
    """The whole page."""
    parts = (
        ("A disk that is switched off", disk_tells(settings, facts)),
        ("The machine while it runs", _running(settings, facts)),
        ("The XMPP server and its archive", server_tells(settings)),
        ("An admin's phone", phone_tells(settings)),
        ("What would make it less", _advice(settings, facts)),
    )
    return [Section(title, tuple(sentences)) for title, sentences in parts]


# ---- the running machine -----------------------------------------------------------------------------------------


def _running(settings: Config, facts: Facts) -> Iterator[str]:
    kept = facts.kept or Inventory()
    yield "Whoever controls it reads every message that comes in or goes out from then on, and can answer in your name."
    if facts.has_passphrase:
        yield "The passphrase does not help then: the appliance's key is in memory, and with it all that it protects."
    if facts.disk_is_encrypted:
        yield "Nor does the disk's encryption, which is open while the machine runs."
    if kept.messages:
        yield (
            "What was delivered before stays sealed, until its visitor comes: with a visitor's next visit their whole"
            " conversation is open."
        )
    if kept.archive or kept.copies:
        yield "The archive's copies stay shut: its recovery words are not on this machine."
    yield "It does not tell where visitors are: Tor brings them without any address."
    if settings.onion.client:
        yield "The page answers only to devices that have a key from you; this machine has the public halves."
    if settings.health.port:
        yield "Numbers of requests and messages since the start can be read on its health port, by any of its users."


# ---- what would make it less -------------------------------------------------------------------------------------


def _advice(settings: Config, facts: Facts) -> Iterator[str]:
    """Only what applies, the greatest effect first."""
    kept, xmpp, admins = facts.kept or Inventory(), settings.xmpp, settings.admin
    weak = [each for each in admins if each.omemo != "require"]
    if not facts.has_passphrase:
        yield "Protect the appliance's key by a long passphrase: veilsupport setup."
        if facts.disk_spins is not True:
            yield "It has lain in the open, and on an SSD it could still be found: begin on a new disk if you can."
    if facts.disk_is_encrypted is not True:
        unseen = "if it is not yet" if facts.disk_is_encrypted is None else "for example with LUKS"
        yield f"Encrypt the disk, {unseen}; and switch the machine off before it is taken: it only helps then."
    if xmpp is not None and xmpp.form == "component":
        yield 'Use an account and rooms instead of a component (form = "rooms"), where words can be encrypted (OMEMO).'
    elif weak:
        yield f'Require encryption: omemo = "require" for {names(weak)}, once their apps can.'
    if facts.swap is Swap.DISK:
        yield "Turn swap off (swapoff -a, and its line in /etc/fstab), or encrypt it."
    if not settings.desk.idle_days and not settings.desk.retention_days:
        yield "Let old things go: retention_days and idle_days under [desk] in the settings' file."
    if kept.archive:
        yield "Turn your own archive off, if you can do without it: veilsupport archive disable."
    if kept.held:
        yield "Ask for the lines that are held, or close their conversations; or burn these, if they are folded."
    if xmpp is not None and xmpp.archive and xmpp.form != "component" and weak:
        yield "Ask the server not to keep the desk's lines: archive = false under [xmpp]; README names its price."
    if admins and not all(each.notify_only for each in admins):
        yield "Let phones lock, and their apps forget after some days; notify_only = true keeps words off them."
    yield "Keep backup files somewhere else than their passphrases, and destroy old ones."
