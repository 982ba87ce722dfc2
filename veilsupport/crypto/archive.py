"""The archive: the words that open it, and what rests of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from nacl.public import PrivateKey

from veilsupport.crypto.credentials import letters, words
from veilsupport.crypto.keys import KeyPair, derive
from veilsupport.errors import SealError
from veilsupport.model import Private

ARCHIVE_WORDS: Final = 10  # 129 bits: nothing else guards the archive, for as long as a copy of the disk is kept
ARCHIVE_MAX_CHARACTERS: Final = 500


def new_archive_words() -> Private:
    return Private(" ".join(secrets.choice(words()) for _ in range(ARCHIVE_WORDS)))


def archive_keys(words: Private) -> KeyPair:
    """The pair that these words stand for; forgiving as a return code is.

    129 random bits need no slow hash. No pepper goes in: the words alone open the archive, when the appliance's key is
    lost as well.
    """
    private = derive(b"", "veil-archive-key", letters(words, ARCHIVE_MAX_CHARACTERS))
    return KeyPair(bytes(PrivateKey(private).public_key), private)


@dataclass(frozen=True, slots=True)
class ArchiveSetting:
    """What rests of it: the public key, and whether copies are made at present."""

    on: bool
    public_key: bytes

    def to_bytes(self, settings_key: bytes) -> bytes:
        """Authenticated and not wrapped: reading the archive must not need the appliance's key, but whoever can write
        to the disk of an appliance that is off must not make it seal to a key of theirs."""
        plain = bytes([self.on]) + self.public_key
        return plain + derive(settings_key, "veil-archive", plain)

    @classmethod
    def from_bytes(cls, raw: bytes, settings_key: bytes) -> ArchiveSetting:
        """SealError: it was changed, or made by another appliance."""
        found = cls.unproved(raw)
        if not secrets.compare_digest(found.to_bytes(settings_key), raw):
            raise SealError("The archive's setting is not ours.")
        return found

    @classmethod
    def unproved(cls, raw: bytes) -> ArchiveSetting:
        """As it stands on the disk: good for comparing words with it, not for sealing. SealError: it is none."""
        if len(raw) != 65:
            raise SealError("The archive's setting is damaged.")
        return cls(raw[0] == 1, raw[1:33])
