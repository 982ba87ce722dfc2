"""The accounts of a reference: made up by the harness, and given to the server when it starts, as a file of JSON.

The file has the BLAKE2b hash of each token, in hexadecimal, and the account's public key. The server never sees a token
before its owner signs in, and never a private key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe

import nacl.bindings


@dataclass(frozen=True, slots=True)
class Owner:
    """What only the account's owner has."""

    token: str
    public_key: bytes
    private_key: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Owner:
        return cls(token_urlsafe(32), *nacl.bindings.crypto_box_keypair())


def hash_of(token: str) -> str:
    return hashlib.blake2b(token.encode(), digest_size=32).hexdigest()


def write(path: Path, owners: list[Owner]) -> None:
    path.write_text(json.dumps({hash_of(owner.token): owner.public_key.hex() for owner in owners}))


def read(path: Path) -> dict[str, bytes]:
    """The public key of each account, by its token's hash."""
    return {token_hash: bytes.fromhex(key) for token_hash, key in json.loads(path.read_text()).items()}
