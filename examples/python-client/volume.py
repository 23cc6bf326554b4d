"""A disk image as the list of section 6.1 of docs/protocol.md: positions, entries, digest."""

import struct
from dataclasses import dataclass
from pathlib import Path

import blake3
from frames import ZERO_KEY, Entry

RUN_CUT_BYTES = 1 << 31


class Volume:
    """One version of a volume: a file, cut into positions, each with its key."""

    def __init__(self, file: Path, record_bytes: int):
        self.file, self.record_bytes = file, record_bytes
        self.size = file.stat().st_size
        self.keys = [key_of(self._read(offset)) for offset in range(0, self.size, record_bytes)]

    def entries(self, parent: "Parent | None" = None) -> list[Entry]:
        """The list: every position, or those that differ from the parent's."""
        entries: list[Entry] = []
        n_common = 0 if parent is None else parent.n_common(self)
        for position, key in enumerate(self.keys):
            if position < n_common and parent.keys[position] == key:
                continue
            offset = position * self.record_bytes
            length = min(self.record_bytes, self.size - offset)
            if key == ZERO_KEY and entries and self._continues(entries[-1], offset):
                entries[-1] = Entry(entries[-1].offset, entries[-1].length + length, ZERO_KEY)
            else:
                entries.append(Entry(offset, length, key))
        return entries

    def read(self, entry: Entry) -> bytes:
        """The bytes of a record."""
        return self._read(entry.offset)[:entry.length]

    def _continues(self, run: Entry, offset: int) -> bool:
        return run.is_zeros and run.offset + run.length == offset and offset % RUN_CUT_BYTES != 0

    def _read(self, offset: int) -> bytes:
        with self.file.open("rb") as file:
            file.seek(offset)
            return file.read(self.record_bytes)


@dataclass(frozen=True)
class Parent:
    """What must be known of an earlier version to tell what has changed since."""

    size: int
    keys: list[bytes]

    def n_common(self, volume: Volume) -> int:
        """Positions that both have in the same length: a short last one ends at its own volume."""
        if self.size == volume.size:
            return len(self.keys)
        return min(self.size, volume.size) // volume.record_bytes


def key_of(content: bytes) -> bytes:
    return blake3.digest(content) if any(content) else ZERO_KEY


def list_digest(entries: list[Entry]) -> bytes:
    """What row 56 calls imageDigest."""
    return blake3.digest(b"".join(
        struct.pack("<QI32s", entry.offset, entry.length, entry.key) for entry in entries))
