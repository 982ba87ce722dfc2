"""A file that one passphrase opens: sealed while it is written, and read in one go, chunk for chunk.

    head    magic, format, Argon2id's cost and salt, key check, the stream's header; then a checksum of all that
    chunks  of 64 KiB, each 17 bytes longer than what it holds; the last says that it is the last

Every chunk is authenticated together with the head. The checksum has no key: it only tells a damaged head from a
wrong passphrase, which the key check finds out before anything is opened. The length of the file shows that of its
content only roughly: zeros fill it up as Padmé does (Nikitin et al., PETS 2019), by an eighth at most, and to 1 MiB.

Knows nothing of what is in it.
"""

from __future__ import annotations

import hmac
import struct
from typing import BinaryIO, Final

from veilsupport import crypto
from veilsupport.crypto import Cost, OpeningStream, SealingStream
from veilsupport.errors import SealError, SetupError
from veilsupport.model import Private

MAGIC: Final = b"VeilSupport\0bkp\n"
CHUNK_BYTES: Final = 65_536
_FORMAT: Final = 1
_FILLED_BYTES: Final = 1 << 20  # the least that any file holds
_CHECKSUM_BYTES: Final = 16
# magic, format, passes, KiB of memory, salt, key check, header of the stream
_HEAD: Final = struct.Struct(f">16sBII16s16s{crypto.STREAM_HEADER_BYTES}s")
# Above this a file is no work of ours, and would only cost its reader time and memory.
_COST_MAX: Final = Cost(passes=64, memory_kib=4 << 20)

_TRY_ANOTHER: Final = "Take another copy of this backup, or an earlier one."
DAMAGED: Final = SetupError("The backup is damaged: a part of it is not what was written.", hint=_TRY_ANOTHER)
CUT_SHORT: Final = SetupError("The backup is damaged: it ends too early.", hint=_TRY_ANOTHER)
TOO_LONG: Final = SetupError("The backup is damaged: something was added at its end.", hint=_TRY_ANOTHER)
HEAD_DAMAGED: Final = SetupError("The backup is damaged: its head is not what was written.", hint=_TRY_ANOTHER)
NO_BACKUP: Final = SetupError(
    "This is not a backup of VeilSupport, or its very beginning is damaged.", hint="Look at the name of the file."
)
NEWER: Final = SetupError(
    "The backup was made by a newer VeilSupport.", hint="Use that newer version; nothing was changed."
)
WRONG_PASSPHRASE: Final = SetupError(
    "The passphrase does not open this backup.", hint="It is the one that was given when the backup was made."
)


class SealingFile:
    """Seals what is written to it into another file. `close` makes it whole; until then it opens for nobody."""

    def __init__(self, file: BinaryIO, passphrase: Private, *, cost: Cost = crypto.PASSPHRASE) -> None:
        salt = crypto.random_bytes(16)
        root = crypto.slow_hash(passphrase, salt, cost)
        self._stream = SealingStream(_key(root))
        head = _HEAD.pack(MAGIC, _FORMAT, cost.passes, cost.memory_kib, salt, _check(root), self._stream.header)
        self._head = head + _checksum(head)
        self._file = file
        self._waiting = bytearray()
        self._written_bytes = 0
        file.write(self._head)

    def write(self, content: bytes) -> int:
        self._waiting += content
        self._written_bytes += len(content)
        while len(self._waiting) > CHUNK_BYTES:  # one chunk always waits, because the last is told from the others
            self._seal(last=False)
        return len(content)

    def close(self) -> None:
        fill = filled(self._written_bytes) - self._written_bytes
        while fill > 0:
            fill -= self.write(bytes(min(fill, CHUNK_BYTES)))
        self._seal(last=True)

    def _seal(self, *, last: bool) -> None:
        self._file.write(self._stream.seal(bytes(self._waiting[:CHUNK_BYTES]), self._head, last=last))
        del self._waiting[:CHUNK_BYTES]


class OpenedFile:
    """Reads what was sealed into a file. Every method raises SetupError: which of the constants above says why."""

    def __init__(self, file: BinaryIO, passphrase: Private) -> None:
        head = file.read(_HEAD.size + _CHECKSUM_BYTES)
        if not head.startswith(MAGIC):
            raise NO_BACKUP.anew()
        if head[len(MAGIC) : len(MAGIC) + 1] > bytes([_FORMAT]):
            raise NEWER.anew()
        if len(head) < _HEAD.size + _CHECKSUM_BYTES:
            raise CUT_SHORT.anew()
        _, version, passes, memory_kib, salt, check, header = _HEAD.unpack(head[: _HEAD.size])
        sane = version == _FORMAT and 0 < passes <= _COST_MAX.passes and 8 <= memory_kib <= _COST_MAX.memory_kib
        if not sane or not hmac.compare_digest(head[_HEAD.size :], _checksum(head[: _HEAD.size])):
            raise HEAD_DAMAGED.anew()
        root = crypto.slow_hash(passphrase, salt, Cost(passes, memory_kib))
        if not hmac.compare_digest(check, _check(root)):
            raise WRONG_PASSPHRASE.anew()
        self._stream = OpeningStream(_key(root), header)
        self._head = head
        self._file = file
        self._opened = b""
        self._is_last = False

    def read(self, count: int) -> bytes:
        """As many bytes, or fewer at the end; none of which was not authenticated."""
        while len(self._opened) < count and not self._is_last:
            self._opened += self._next()
        taken, self._opened = self._opened[:count], self._opened[count:]
        return taken

    def finish(self) -> None:
        """Read what is left, which must be filling: afterwards every byte of the file has been authenticated."""
        while content := self.read(CHUNK_BYTES):
            if content.strip(b"\0"):
                raise DAMAGED.anew()
        if self._file.read(1):
            raise TOO_LONG.anew()

    def _next(self) -> bytes:
        sealed = self._file.read(CHUNK_BYTES + crypto.STREAM_EXTRA_BYTES)
        try:
            chunk, self._is_last = self._stream.open(sealed, self._head)
        except SealError:
            is_short = len(sealed) < CHUNK_BYTES + crypto.STREAM_EXTRA_BYTES
            raise (CUT_SHORT if is_short else DAMAGED).anew() from None
        return chunk


def filled(count: int) -> int:
    """The next length that a file may have: whole chunks, and its binary digits after the highest few are zeros."""
    count = max(count, _FILLED_BYTES)
    exponent = count.bit_length() - 1
    free_bits = max(exponent - exponent.bit_length(), CHUNK_BYTES.bit_length() - 1)
    return -(-count >> free_bits) << free_bits


def _key(root: bytes) -> bytes:
    return crypto.derive(root, "veil-backup")


def _check(root: bytes) -> bytes:
    """Tells a wrong passphrase from damage. Gives nothing away: whoever guesses could as well try the first chunk."""
    return crypto.derive(root, "veil-backup-test")[:16]


def _checksum(head: bytes) -> bytes:
    return crypto.derive(b"", "veil-backup-head", head)[:_CHECKSUM_BYTES]
