#!/usr/bin/python3
"""What a target must bear: a client that breaks one rule of docs/protocol.md at a time.

Every case opens the same image again, so an image that is sent properly afterwards (`client.py
send`) has survived all of them. Prints one JSON object: case -> how the target answered."""

import argparse
import json
import sys
from pathlib import Path
from uuid import UUID, uuid4

import frames
from client import RECORD_BYTES, Chain, now
from connection import Cut, Refused
from frames import Entry
from pairing import ROOT, Pairing
from session import Habits, Half, Image, Opening, Report, replicate
from volume import Volume, list_digest


class Rudeness:
    """An image, and a new opening of it for every case."""

    def __init__(self, pairing: Pairing, image: Image):
        self.pairing, self.image = pairing, image

    def open(self) -> Opening:
        return Opening(self.pairing.connect(), self.image, None, Report())

    def truncated_window(self) -> dict:
        """The body ends in the middle of a KEYS frame: cut, and nobody is told more."""
        opening = self.open()
        keys = self.keys(opening)
        whole = frames.frame(frames.KEYS, frames.keys_payload(0, 0, self.image.entries))
        keys.stream.send(whole[:len(whole) // 2])
        keys.stream.finish()
        return answer(opening, keys)

    def truncated_group(self) -> dict:
        """The body ends in the middle of a RECORDS frame."""
        opening, wanted = self.offered()
        records = self.records(opening)
        whole = frames.frame(frames.RECORDS, self.group(wanted[:2]))
        records.stream.send(whole[:len(whole) - 5])
        records.stream.finish()
        return answer(opening, records)

    def window_ahead(self) -> dict:
        """The first window begins at the list's second entry."""
        opening = self.open()
        keys = self.keys(opening)
        # One more than an earlier opening may have made known.
        first = len(self.image.entries)
        keys.send(frames.KEYS, frames.keys_payload(0, first + 1, self.image.entries[-1:]))
        return answer(opening, keys)

    def unknown_version(self) -> dict:
        """A preamble of the next version."""
        opening = self.open()
        stream = opening.connection.open("POST", self.path(opening, "keys"),
                                         frames.media_type("keys"))
        stream.send(frames.preamble(frames.KIND_KEYS, UUID(opening.id), frames.VERSION + 1))
        return answer(opening, Half(stream, UUID(opening.id), frames.KIND_KEYS,
                                    frames.KIND_WANTED, is_begun=True))

    def unknown_media_version(self) -> dict:
        """A media type of the next version."""
        opening = self.open()
        later = f"application/vnd.offsite.keys; version={frames.VERSION + 1}"
        return answer(opening, self.keys(opening, media=later))

    def other_sessions_prefix(self) -> dict:
        """The stream's preamble names another open session of this client."""
        opening = self.open()
        other = Opening(self.pairing.connect(), self.other_image(), None, Report())
        stream = opening.connection.open("POST", self.path(opening, "keys"),
                                         frames.media_type("keys"))
        half = Half(stream, UUID(other.id), frames.KIND_KEYS, frames.KIND_WANTED)
        half.parser = frames.Parser(frames.KIND_WANTED, UUID(opening.id))
        half.send(frames.KEYS, frames.keys_payload(0, 0, self.image.entries))
        said = answer(opening, half)
        other.connection.call("DELETE", f"{ROOT}/start/{other.agent}/{other.job}/{other.id}"
                                        "?commit=false")
        return said

    def other_sessions_path(self) -> dict:
        """A path that names one session and the job of another."""
        opening = self.open()
        path = f"{ROOT}/{opening.agent}/{uuid4()}/{opening.id}/records/keys"
        return answer(opening, self.keys(opening, path=path))

    def damaged_frame(self) -> dict:
        """A frame whose checksum is wrong."""
        opening = self.open()
        keys = self.keys(opening)
        whole = bytearray(frames.frame(
            frames.KEYS, frames.keys_payload(0, 0, self.image.entries)))
        whole[-1] ^= 1
        keys.stream.send(bytes(whole))
        return answer(opening, keys)

    def long_frame(self) -> dict:
        """A frame that announces one byte more than may be."""
        opening = self.open()
        keys = self.keys(opening)
        keys.stream.send(frames.HEADER.pack(0, frames.KEYS, frames.PAYLOAD_BYTES_MAX + 1))
        return answer(opening, keys)

    def unknown_opcode(self) -> dict:
        """An opcode that may not be skipped."""
        opening = self.open()
        keys = self.keys(opening)
        keys.send(99, b"")
        return answer(opening, keys)

    def skippable_opcode(self) -> dict:
        """An opcode that may be skipped, and then everything as it should be: no fault."""
        opening = self.open()
        keys = self.keys(opening)
        keys.stream.send(frames.frame(frames.SKIPPABLE_FROM, b"of a later version"))
        keys.send(frames.KEYS, frames.keys_payload(0, 0, self.image.entries))
        keys.end(1)
        return answer(opening, keys)

    def wrong_end(self) -> dict:
        """An END that counts one window more than came."""
        opening = self.open()
        keys = self.keys(opening)
        keys.send(frames.KEYS, frames.keys_payload(0, 0, self.image.entries))
        keys.end(2)
        return answer(opening, keys)

    def entry_off_position(self) -> dict:
        """An entry that lies beside the positions of recordSize."""
        opening = self.open()
        keys = self.keys(opening)
        entry = Entry(1, RECORD_BYTES, self.image.entries[0].key)
        keys.send(frames.KEYS, frames.keys_payload(0, 0, [entry]))
        return answer(opening, keys)

    def changed_entry(self) -> dict:
        """A known entry is offered again with another key."""
        opening, _ = self.offered()
        opening = self.open()
        keys = self.keys(opening)
        index = self.a_record()
        known = self.image.entries[index]
        entry = Entry(known.offset, known.length, bytes(31) + b"\1")
        keys.send(frames.KEYS, frames.keys_payload(0, index, [entry]))
        return answer(opening, keys)

    def wrong_record(self) -> dict:
        """Bytes that are not their key's; then the same record as it should be."""
        opening, wanted = self.offered()
        records = self.records(opening)
        records.send(frames.RECORDS, self.group(wanted[:1], damage=1))
        said = answer(opening, records)
        again = self.records(opening)
        again.send(frames.RECORDS, self.group(wanted[:1]), items=1)
        again.end(1)
        return said | {"expected_ordinals": wanted[:1],
                       "then": answer(opening, again)["answer"]}

    def unwanted_record(self) -> dict:
        """A record under the ordinal of a run of zeros, which was not wanted."""
        opening, wanted = self.offered()
        records = self.records(opening)
        entry = self.image.entries[wanted[0]]
        payload = frames.group([(wanted[0] + 1000, entry.key, self.image.volume.read(entry))])
        records.send(frames.RECORDS, payload)
        return answer(opening, records)

    def early_commit(self) -> dict:
        """A commit while wanted records are missing."""
        opening, _ = self.offered()
        try:
            opening.commit()
        except Refused as refused:
            return {"answer": refused.code, "status": refused.status,
                    "detail": sorted(refused.detail or {})}
        return {"answer": "taken"}

    def missing_growth(self) -> dict:
        """An increment of a volume twice as large, whose list leaves out what was added."""
        parent = self.other_image()
        replicate(self.pairing, parent, Habits())
        body = parent.body | fresh("jobId", "recoveryPointId", "imageId", "commitToken") | {
            "imageType": "Incremental", "epochNumber": parent.body["epochNumber"] + 1,
            "previousEpochNumber": parent.body["epochNumber"],
            "parentImageId": parent.body["imageId"],
            "parentImageDigest": parent.body["imageDigest"],
            "sizeBytes": 2 * parent.body["sizeBytes"], "recordCount": 0,
            "imageDigest": list_digest([]).hex()}
        try:
            child = Image(body, [], self.image.volume)
            Opening(self.pairing.connect(), child, None, Report()).run(Habits())
        except Refused as refused:
            return {"answer": refused.code, "status": refused.status, "message": str(refused)}
        return {"answer": "taken"}

    def beyond_credit(self) -> dict:
        """One byte more of RECORDS payloads than was granted, all ready beforehand.

        Credit grows while the target stores: the caller sees to it that this is slow."""
        opening, wanted = self.offered()
        records = self.records(opening)
        ready, size = [], 0
        for ordinal in wanted:
            payload = self.group([ordinal])
            if size + len(payload) > opening.credit:
                break
            ready.append(frames.frame(frames.RECORDS, payload))
            size += len(payload)
        excess = opening.credit + 1 - size - 16 - 48
        last = next(o for o in wanted[len(ready):] if self.image.entries[o].length == excess)
        ready.append(frames.frame(frames.RECORDS, self.group([last])))
        records.stream.send(b"".join(ready))
        return answer(opening, records)

    # What the cases are made of.

    def offered(self) -> tuple[Opening, list[int]]:
        """An opening whose whole list was offered, and what is wanted of it."""
        opening = self.open()
        opening.keys = self.keys(opening)
        opening.offer(0, 0, self.image.entries)
        opening.keys.end(1)
        while not opening.keys.answered:
            opening.listen()
        return opening, list(opening.wanted)

    def keys(self, opening: Opening, media: str | None = None, path: str | None = None) -> Half:
        stream = opening.connection.open("POST", path or self.path(opening, "keys"),
                                         media or frames.media_type("keys"))
        return Half(stream, UUID(opening.id), frames.KIND_KEYS, frames.KIND_WANTED)

    def records(self, opening: Opening) -> Half:
        return opening.open_half("rawdata", frames.KIND_RECORDS, frames.KIND_RECEIPT)

    def path(self, opening: Opening, what: str) -> str:
        return f"{ROOT}/{opening.agent}/{opening.job}/{opening.id}/records/{what}"

    def group(self, ordinals: list[int], damage: int = 0) -> bytes:
        records = []
        for ordinal in ordinals:
            entry = self.image.entries[ordinal]
            content = bytearray(self.image.volume.read(entry))
            content[0] ^= damage
            records.append((ordinal, entry.key, bytes(content)))
        return frames.group(records)

    def a_record(self) -> int:
        return next(i for i, entry in enumerate(self.image.entries) if not entry.is_zeros)

    def other_image(self) -> Image:
        body = self.image.body | fresh(
            "jobId", "recoveryPointId", "imageId", "volumeDriverId", "commitToken")
        return Image(body, self.image.entries, self.image.volume)


def fresh(*names: str) -> dict:
    return {name: str(uuid4()) for name in names}


def answer(opening: Opening, half: Half) -> dict:
    """How the target answers a stream: END, a cut, an error answer or a FAIL frame."""
    try:
        while True:
            opening.connection.turn()
            for frame in half.frames():
                if frame.opcode == frames.FAIL:
                    raise Refused(None, frame.payload)
                if frame.opcode == frames.END:
                    return {"answer": "END"}
    except Cut as cut:
        return {"answer": "cut", "cause": str(cut)}
    except Refused as refused:
        return {"answer": refused.code, "status": refused.status or "FAIL",
                "message": str(refused), "ordinals": (refused.detail or {}).get("ordinals")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--record-bytes", type=int, default=RECORD_BYTES)
    parser.add_argument("image", type=Path)
    parser.add_argument("case", nargs="+")
    options = parser.parse_args()
    pairing = Pairing(options.state)
    chain = Chain(options.state / "chain.json")
    image = chain.next(pairing, Volume(options.image, options.record_bytes), now())
    rudeness = Rudeness(pairing, image)
    print(json.dumps({case: getattr(rudeness, case)() for case in options.case}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
