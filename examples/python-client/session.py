"""One session of docs/protocol.md, section 6: offer keys, send what is wanted, commit.

A session takes one *opening* from row 56 to its end or to the first trouble; `replicate` opens
again after trouble and goes on where the target's bitmap says.
"""

import json
import random
import time
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

import frames
from connection import Connection, Cut, Refused, Stream
from frames import Bitmap, Entry, Malformed
from pairing import ROOT, Pairing
from volume import Volume

ATTEMPTS_MAX = 5
# After these, and after a cut, the image is opened again (section 6.8).
OPEN_AGAIN = {"session_unknown", "session_expired", "wrong_state", "incomplete", "lease_lost"}
# A body may have 1 GiB; frames have headers, and the last group is sent whole.
BODY_BYTES_MAX = (1 << 30) - (1 << 24)


@dataclass
class Image:
    """What is to be replicated: the body of row 56, the list, and where the bytes are."""

    body: dict
    entries: list[Entry]
    volume: Volume


@dataclass
class Report:
    """What one opening did."""

    resumed: bool = False
    positions_held: int = 0
    entries_offered: int = 0
    windows_answered: int = 0
    records_sent: int = 0
    record_bytes_sent: int = 0
    flushed_through: int = 0
    ended_by: str = ""


@dataclass
class Habits:
    """How this client goes about it; the rude ones of `rude.py` have others."""

    group_bytes_max: int = frames.GROUP_RAW_BYTES_MAX
    # After which a request of row 6 is ended and the next one begun.
    body_bytes_max: int = BODY_BYTES_MAX
    # Kills the TCP connection, once, after so many payload bytes of records.
    cut_after: int | None = None
    # And not before the target has said that something is durable.
    cut_when_flushed: bool = False


def replicate(pairing: Pairing, image: Image, habits: Habits) -> list[Report]:
    """Opens until the image is committed. One report per opening."""
    reports: list[Report] = []
    session: str | None = None
    idle_attempts = 0
    while True:
        report = Report()
        reports.append(report)
        try:
            opening = Opening(pairing.connect(), image, session, report)
            session = opening.id
            opening.run(habits)
            report.ended_by = "commit"
            return reports
        except (Cut, Refused, OSError) as trouble:
            if isinstance(trouble, Refused) and not (
                    trouble.retryable or trouble.code in OPEN_AGAIN):
                raise
            report.ended_by = str(trouble)
            progress = report.windows_answered or report.flushed_through
            idle_attempts = 0 if progress else idle_attempts + 1
            if idle_attempts == ATTEMPTS_MAX:
                raise
            time.sleep(random.uniform(0, min(0.1 * 2 ** idle_attempts, 5)))


class Opening:
    """One answer to row 56 and the streams under it."""

    def __init__(self, connection: Connection, image: Image, earlier: str | None, report: Report):
        self.connection, self.image, self.report = connection, image, report
        self.agent, self.job = image.body["agentId"], image.body["jobId"]
        # Together, so that a resume costs one round trip.
        opened = connection.begin("POST", f"{ROOT}/sessions/new", image.body)
        asked = connection.begin(
            "GET", f"{ROOT}/sessions/{earlier}/transferredblocks") if earlier else None
        answer = json.loads(opened.answer())
        if answer["hashAlgorithm"] != "blake3-256":
            raise Malformed(f"hash algorithm {ascii(answer['hashAlgorithm'])}")
        self.id, self.state = answer["sessionId"], answer["state"]
        self.window_keys, self.windows_max = answer["windowKeys"], answer["windowsInFlight"]
        self.credit = int(answer["initialCredit"])
        self.payload_max = min(answer["maxFrameBytes"], frames.PAYLOAD_BYTES_MAX)
        report.resumed = answer["resumed"]
        self.bitmap = self._bitmap(asked) if report.resumed else None
        self.keys: Half | None = None
        self.records: Half | None = None
        # Ordinals that are wanted and not sent, and windows without an answer.
        self.wanted: deque[int] = deque()
        self.windows_open: set[int] = set()
        self.sent_in_session = 0

    def run(self, habits: Habits) -> None:
        """To the commit."""
        if self.state in ("Open", "Transferring"):
            self.transfer(habits)
            self.commit()
        if self.state != "Committed":
            self.wait_for_commit()

    def transfer(self, habits: Habits) -> None:
        """Offers windows ahead of their answers and sends records as they are wanted."""
        self.keys = self.open_half("keys", frames.KIND_KEYS, frames.KIND_WANTED)
        windows = deque(self.windows())
        number = 0
        while windows or self.windows_open or self.wanted:
            while windows and len(self.windows_open) < self.windows_max:
                first, entries = windows.popleft()
                self.offer(number, first, entries)
                number += 1
            if not windows:
                self.keys.end(number)
            if not self.send_group(habits):
                self.listen()
        self.keys.end(number)
        if self.records is not None:
            self.records.end(self.records.items)
        while not all(half.answered for half in (self.keys, self.records) if half is not None):
            self.listen()

    def windows(self):
        """What has to be offered, in runs of consecutive ordinals: (first ordinal, entries)."""
        first, window = 0, []
        for ordinal, entry in enumerate(self.image.entries):
            if self.bitmap is not None and self.bitmap.covers(entry):
                continue
            if window and (first + len(window) != ordinal or len(window) == self.window_keys):
                yield first, window
                window = []
            if not window:
                first = ordinal
            window.append(entry)
        if window:
            yield first, window

    def offer(self, number: int, first: int, entries: list[Entry]) -> None:
        self.windows_open.add(number)
        self.report.entries_offered += len(entries)
        self.keys.send(frames.KEYS, frames.keys_payload(number, first, entries))

    def send_group(self, habits: Habits) -> bool:
        """Sends one group of wanted records; False where nothing is wanted or credit is short."""
        ordinals, size = self._next_group(habits.group_bytes_max)
        if not ordinals or self.sent_in_session + size > self.credit:
            return False
        if self.records is None:
            self.records = self.open_half("rawdata", frames.KIND_RECORDS, frames.KIND_RECEIPT)
        entries = [self.image.entries[ordinal] for ordinal in ordinals]
        payload = frames.group([(ordinal, entry.key, self.image.volume.read(entry))
                                for ordinal, entry in zip(ordinals, entries)])
        self.records.send(frames.RECORDS, payload, items=len(ordinals))
        for _ in ordinals:
            self.wanted.popleft()
        self.sent_in_session += len(payload)
        self.report.records_sent += len(ordinals)
        self.report.record_bytes_sent += sum(entry.length for entry in entries)
        if habits.cut_after is not None and self.sent_in_session >= habits.cut_after:
            self._cut(habits)
        if self.records.n_bytes >= habits.body_bytes_max:
            self.finish_records()
        return True

    def _cut(self, habits: Habits) -> None:
        while habits.cut_when_flushed and self.report.flushed_through == 0:
            self.listen()
        habits.cut_after = None
        self.connection.cut()
        raise Cut("this client was told to cut the connection")

    def finish_records(self) -> None:
        """Ends this request of row 6 and waits until the target has all of it."""
        self.records.end(self.records.items)
        while not self.records.answered:
            self.listen()
        self.records = None

    def _next_group(self, raw_max: int) -> tuple[list[int], int]:
        """The wanted ordinals that fit into one group, ascending, and the payload's size."""
        ordinals: list[int] = []
        size, raw = 16, 0
        for ordinal in self.wanted:
            length = self.image.entries[ordinal].length
            if len(ordinals) == frames.RECORDS_PER_GROUP_MAX \
                    or raw + length > raw_max \
                    or size + 48 + length > self.payload_max \
                    or ordinals and ordinal <= ordinals[-1]:
                break
            ordinals.append(ordinal)
            raw += length
            size += 48 + length
        return ordinals, size

    def listen(self) -> None:
        """Waits for the target and takes what it says on either stream."""
        has_come = self.connection.turn()
        for half in (self.keys, self.records):
            if half is not None:
                if not has_come and not half.ended:
                    half.stream.send(frames.frame(frames.PING))
                for frame in half.frames():
                    self._take(half, frame)

    def _take(self, half: "Half", frame: frames.Frame) -> None:
        if frame.opcode == frames.WANTED:
            window, ordinals = frames.wanted(frame.payload)
            self.windows_open.remove(window)
            self.report.windows_answered += 1
            self.wanted.extend(ordinals)
        elif frame.opcode == frames.CREDIT:
            self.credit = max(self.credit, int.from_bytes(frame.payload, "little"))
        elif frame.opcode == frames.FLUSHED:
            self.report.flushed_through = int.from_bytes(frame.payload[:8], "little")
        elif frame.opcode == frames.END:
            half.answered = True
        elif frame.opcode == frames.FAIL:
            raise Refused(None, frame.payload)
        elif frame.opcode != frames.PING:
            raise Malformed(f"opcode {frame.opcode} from the target")

    def commit(self) -> None:
        self.connection.call(
            "DELETE", f"{ROOT}/start/{self.agent}/{self.job}/{self.id}?commit=true")

    def wait_for_commit(self) -> None:
        path = f"{ROOT}/poke/{self.agent}/{self.job}/{self.id}?wait=30"
        while json.loads(self.connection.call("POST", path)) is not True:
            pass

    def open_half(self, what: str, up: int, down: int) -> "Half":
        path = f"{ROOT}/{self.agent}/{self.job}/{self.id}/records/{what}"
        word = {frames.KIND_KEYS: "keys", frames.KIND_RECORDS: "records"}[up]
        stream = self.connection.open("POST", path, frames.media_type(word))
        return Half(stream, UUID(self.id), up, down)

    def _bitmap(self, asked: Stream | None) -> Bitmap:
        try:
            if asked is not None:
                raw = asked.answer()
            else:
                body = self.image.body
                raw = self.connection.call(
                    "GET", f"{ROOT}/{self.agent}/{body['volumeDriverId']}"
                           f"/{body['epochNumber']}/transferredblocks")
        except Refused as refused:
            if refused.code not in ("session_unknown", "session_expired", "image_unknown"):
                raise
            return None
        bitmap = Bitmap(raw)
        self.report.positions_held = len(bitmap)
        return bitmap


@dataclass
class Half:
    """A request of row 5 or 6: frames up, frames down."""

    stream: Stream
    session: UUID
    up: int
    down: int
    n_bytes: int = 0
    items: int = 0
    ended: bool = False
    answered: bool = False
    is_begun: bool = False
    parser: frames.Parser = field(init=False)

    def __post_init__(self):
        self.parser = frames.Parser(self.down, self.session)
        if not self.is_begun:
            self.stream.send(frames.preamble(self.up, self.session))

    def send(self, opcode: int, payload: bytes, items: int = 0) -> None:
        self.n_bytes += len(payload)
        self.items += items
        self.stream.send(frames.frame(opcode, payload))

    def end(self, items: int) -> None:
        if not self.ended:
            self.ended = True
            self.stream.send(frames.end(items, self.n_bytes))
            self.stream.finish()

    def frames(self) -> list[frames.Frame]:
        """What has come. A stream that ends without END or FAIL was cut."""
        if self.stream.status is not None and self.stream.status >= 400:
            self.stream.answer()
        taken = self.parser.feed(self.stream.take())
        if self.stream.ended and not self.answered and not any(
                frame.opcode in (frames.END, frames.FAIL) for frame in taken):
            raise Cut("the target's stream ended without END")
        return taken
