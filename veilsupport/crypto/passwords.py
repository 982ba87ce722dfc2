"""Passwords and passphrases: the slow hash that both go through."""

from __future__ import annotations

import asyncio
import os
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import argon2.exceptions
import argon2.low_level

from veilsupport.crypto.keys import derive, random_bytes
from veilsupport.errors import SetupError, VisitorError
from veilsupport.model import Private


@dataclass(frozen=True, slots=True)
class Cost:
    passes: int
    memory_kib: int


PASSWORD: Final = Cost(passes=3, memory_kib=65_536)  # RFC 9106 §4, second recommendation; 0.14 s here
PASSPHRASE: Final = Cost(passes=4, memory_kib=262_144)  # once per start, so it may cost a second


def slow_hash(secret: Private, salt: bytes, cost: Cost) -> bytes:
    """32 bytes of Argon2id; as slow, and as hungry for memory, as the cost says. SetupError: there is not so much."""
    plain = unicodedata.normalize("NFKC", secret.reveal()).encode(errors="replace")
    try:
        return argon2.low_level.hash_secret_raw(
            plain, salt, cost.passes, cost.memory_kib, parallelism=1, hash_len=32, type=argon2.low_level.Type.ID
        )
    except argon2.exceptions.HashingError:
        raise SetupError(
            "There is too little memory to try the passphrase.",
            hint=f"It takes {-(-cost.memory_kib // 1024)} MB for a moment: end something else, or raise the limit.",
        ) from None


SALT_BYTES: Final = 32


def new_salt() -> bytes:
    """For a password."""
    return random_bytes(SALT_BYTES)


def _give_way() -> None:
    """Whoever writes goes before whoever signs in; on Linux this thread alone gets nicer (setpriority(2), NOTES)."""
    if sys.platform == "linux":
        os.nice(10)


class Passwords:
    """Argon2id on two threads with a bounded queue: two workers give the most log-ins a second, and each takes
    64 MiB, so more at once would cost memory and win nothing (facts/speed.md)."""

    WORKERS: Final = 2
    WAITING_MAX: Final = 128

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._pool = ThreadPoolExecutor(self.WORKERS, thread_name_prefix="argon2", initializer=_give_way)
        self._waiting = 0

    async def wrapping_key(self, password: Private, salt: bytes) -> bytes:
        """The key that wraps the visitor's private key. VisitorError (503): too many wait already, or no memory.

        It depends on the pepper, so that under a passphrase nobody can try passwords on a seized disk; but not with a
        salt of the shorter kind, which version 0.1.0 drew.
        """
        if self._waiting >= self.WAITING_MAX:
            raise _too_many()
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            root = await loop.run_in_executor(self._pool, slow_hash, password, salt, PASSWORD)
        except SetupError:  # too little memory just now, which must not end the desk
            raise _too_many() from None
        finally:
            self._waiting -= 1
        return derive(root, "veil-wrap", self._pepper if len(salt) == SALT_BYTES else b"")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _too_many() -> VisitorError:
    return VisitorError(
        "Too many people are signing in just now. Please try again in a few seconds.",
        status=503,
        code="busy",
        retry_after_seconds=10,
    )
