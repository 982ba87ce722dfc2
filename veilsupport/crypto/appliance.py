"""The appliance's own key: what it rests on, and how it rests on the disk."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Final

from veilsupport.crypto.keys import WRAP_BYTES, derive, random_bytes, unwrap, wrap
from veilsupport.crypto.passwords import PASSPHRASE, slow_hash
from veilsupport.errors import SealError, SetupError
from veilsupport.model import Private


@dataclass(frozen=True, slots=True)
class ApplianceKey:
    """The one secret that the appliance itself rests on: 32 bytes, from which its working keys come."""

    secret: bytes = field(repr=False)
    pepper: bytes = field(init=False, repr=False)
    outbox: bytes = field(init=False, repr=False)
    settings: bytes = field(init=False, repr=False)
    forms: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("pepper", "outbox", "settings", "forms"):
            object.__setattr__(self, name, derive(self.secret, f"veil-{name}"))

    @classmethod
    def generate(cls) -> ApplianceKey:
        return cls(random_bytes(32))

    def to_file(self, passphrase: Private | None) -> bytes:
        """What rests on disk: the key itself, or the key wrapped under Argon2id of the passphrase."""
        if passphrase is None:
            return _json({"version": 1, "key": _b64(self.secret)})
        salt = random_bytes(16)
        wrapped = wrap(slow_hash(passphrase, salt, PASSPHRASE), self.secret, b"appliance")
        return _json({"version": 1, "salt": _b64(salt), "wrapped": _b64(wrapped)})

    @classmethod
    def from_file(cls, raw: bytes, passphrase: Private | None) -> ApplianceKey:
        """SetupError when the file is damaged, the passphrase wrong, or missing where one is needed."""
        try:
            stored = json.loads(raw)
            if "key" in stored:
                return cls(_unb64(stored["key"], 32))
            salt, wrapped = _unb64(stored["salt"], 16), _unb64(stored["wrapped"])
            if passphrase is None:
                raise SetupError("The appliance's key is protected by a passphrase.", hint="Give the passphrase.")
            return cls(unwrap(slow_hash(passphrase, salt, PASSPHRASE), wrapped, b"appliance"))
        except SealError:
            raise SetupError("The passphrase does not open the appliance's key.", hint="Try it again.") from None
        except (ValueError, KeyError, TypeError):
            raise _KEY_DAMAGED.anew() from None

    @staticmethod
    def needs_passphrase(raw: bytes) -> bool:
        return b'"wrapped"' in raw

    @classmethod
    def check_file(cls, raw: bytes) -> None:
        """As far as can be told without the passphrase. SetupError: it is damaged."""
        if not cls.needs_passphrase(raw):
            cls.from_file(raw, None)
            return
        try:
            stored = json.loads(raw)
            _unb64(stored["salt"], 16)
            _unb64(stored["wrapped"], 32 + WRAP_BYTES)
        except (ValueError, KeyError, TypeError):
            raise _KEY_DAMAGED.anew() from None


_KEY_DAMAGED: Final = SetupError(
    "The appliance's key file is damaged.", hint="Put back appliance.key from a backup; do not delete it."
)


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unb64(text: str, length: int | None = None) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if length is not None and len(raw) != length:
        raise ValueError("wrong length")
    return raw
