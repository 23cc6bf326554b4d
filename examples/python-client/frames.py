"""Record streams: preamble, frames, groups and the bitmap (docs/protocol.md, section 5)."""

import struct
from dataclasses import dataclass
from uuid import UUID

# What the binary layouts and their media types carry, in one place.
VERSION = 1

KIND_KEYS, KIND_WANTED, KIND_RECORDS, KIND_RECEIPT = 1, 2, 3, 4
KEYS, WANTED, RECORDS, CREDIT, FLUSHED, PING, FAIL, END = 1, 2, 3, 4, 5, 7, 254, 255
SKIPPABLE_FROM = 0x8000

MAGIC = b"OFST"
PREAMBLE_BYTES = 16
HEADER = struct.Struct("<HHI")
PAYLOAD_BYTES_MAX = (1 << 20) + (1 << 16)
KEYS_PER_WINDOW_MAX = 8192
RECORDS_PER_GROUP_MAX = 256
GROUP_RAW_BYTES_MAX = 1 << 20
FLAG_ZEROS = 1
ZERO_KEY = bytes(32)


class Malformed(Exception):
    """The other side sent what the protocol does not allow."""


@dataclass(frozen=True)
class Entry:
    """One line of an image's list: a record, or a run of zeros where the key is all zeros."""

    offset: int
    length: int
    key: bytes

    @property
    def is_zeros(self) -> bool:
        return self.key == ZERO_KEY


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes


def media_type(word: str) -> str:
    return f"application/vnd.offsite.{word}; version={VERSION}"


def preamble(kind: int, session: UUID, version: int = VERSION) -> bytes:
    return struct.pack("<4sBBH8s", MAGIC, kind, version, PREAMBLE_BYTES, session.bytes[:8])


def frame(opcode: int, payload: bytes = b"") -> bytes:
    body = HEADER.pack(0, opcode, len(payload)) + payload
    return body + struct.pack("<I", crc32c(body))


def keys_payload(window: int, first: int, entries: list[Entry]) -> bytes:
    """The payload of a KEYS frame: the entries of one window, with consecutive ordinals."""
    lines = (struct.pack("<QII32s", e.offset, e.length, FLAG_ZEROS if e.is_zeros else 0, e.key)
             for e in entries)
    return struct.pack("<IIQ", window, len(entries), first) + b"".join(lines)


def wanted(payload: bytes) -> tuple[int, list[int]]:
    """A WANTED payload as its window and the ordinals that are to be sent."""
    window, count, first = struct.unpack_from("<IIQ", payload)
    bits = payload[16:]
    if len(bits) != -(-count // 8):
        raise Malformed(f"WANTED of {count} keys has {len(bits)} bytes of bits")
    return window, [first + i for i in range(count) if bits[i // 8] >> i % 8 & 1]


def group(records: list[tuple[int, bytes, bytes]]) -> bytes:
    """One group of codec 0. A record is its ordinal, its key and its bytes; ordinals ascend."""
    raw = b"".join(content for _, _, content in records)
    header = struct.pack("<IIIBBH", len(records), len(raw), len(raw), 0, 0, 0)
    table = (struct.pack("<Q32sII", ordinal, key, len(content), 0)
             for ordinal, key, content in records)
    return header + b"".join(table) + raw


def end(items: int, n_bytes: int) -> bytes:
    return frame(END, struct.pack("<QQ", items, n_bytes))


class Parser:
    """Takes the bytes of a stream as they come and gives its frames."""

    def __init__(self, kind: int, session: UUID):
        self._expected = preamble(kind, session)
        self._bytes = bytearray()
        self._begun = False

    def feed(self, more: bytes) -> list[Frame]:
        self._bytes += more
        if not self._begun:
            if len(self._bytes) < PREAMBLE_BYTES:
                return []
            if self._bytes[:PREAMBLE_BYTES] != self._expected:
                raise Malformed(f"preamble {self._bytes[:PREAMBLE_BYTES].hex()}, "
                                f"expected {self._expected.hex()}")
            del self._bytes[:PREAMBLE_BYTES]
            self._begun = True
        frames = []
        while (whole := self._next()) is not None:
            if whole.opcode < SKIPPABLE_FROM:
                frames.append(whole)
        return frames

    def _next(self) -> Frame | None:
        if len(self._bytes) < HEADER.size:
            return None
        channel, opcode, length = HEADER.unpack_from(self._bytes)
        if channel != 0 or length > PAYLOAD_BYTES_MAX:
            raise Malformed(f"frame of channel {channel} and {length} bytes")
        size = HEADER.size + length + 4
        if len(self._bytes) < size:
            return None
        body = bytes(self._bytes[:size - 4])
        if crc32c(body) != struct.unpack_from("<I", self._bytes, size - 4)[0]:
            raise Malformed(f"checksum of a frame of opcode {opcode}")
        del self._bytes[:size]
        return Frame(opcode, body[HEADER.size:])


class Bitmap:
    """Which positions of an image the target has."""

    HEADER = struct.Struct("<4sBBHIIQQII")
    PLAIN, RUNS = 0, 1

    def __init__(self, raw: bytes):
        (magic, version, encoding, _, self.block_size, self.epoch, self.capacity,
         self.flushed_through, length, crc) = self.HEADER.unpack_from(raw)
        payload = raw[self.HEADER.size:]
        if magic != b"OFBM" or version != VERSION:
            raise Malformed(f"bitmap of magic {magic!r} and version {version}")
        if len(payload) != length or crc32c(payload) != crc:
            raise Malformed("bitmap does not match its length or checksum")
        if encoding == self.PLAIN:
            self._held = {8 * i + bit for i, byte in enumerate(payload) for bit in range(8)
                          if byte >> bit & 1}
        elif encoding == self.RUNS:
            self._held = {position for start, count in struct.iter_unpack("<QQ", payload)
                          for position in range(start, start + count)}
        else:
            raise Malformed(f"bitmap of encoding {encoding}, which this client does not read")

    def covers(self, entry: Entry) -> bool:
        """Whether every position of an entry is held."""
        first = entry.offset // self.block_size
        last = (entry.offset + entry.length - 1) // self.block_size
        return all(position in self._held for position in range(first, last + 1))

    def __len__(self) -> int:
        return len(self._held)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli)."""
    table, crc = CRC_TABLE, 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
