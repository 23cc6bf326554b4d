#!/usr/bin/python3
"""A client of the protocol between a source and a target, in Python: see README.md."""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

from connection import Cut, OtherKey, Refused
from frames import GROUP_RAW_BYTES_MAX, Malformed
from pairing import NotPaired, Pairing
from session import BODY_BYTES_MAX, Habits, Image, replicate
from volume import Parent, Volume, list_digest

RECORD_BYTES = 16 << 10


def main() -> int:
    options = arguments()
    try:
        return options.run(Pairing(options.state), options)
    except (Refused, Cut, OtherKey, NotPaired, Malformed, OSError) as trouble:
        print(f"{type(trouble).__name__}: {trouble}", file=sys.stderr)
        return 1


def request(pairing: Pairing, options) -> int:
    """Files a request and prints the check code."""
    print(pairing.file(options.url, options.host, options.agent))
    return 0


def wait(pairing: Pairing, _) -> int:
    """Waits for the target's operator and installs the certificate."""
    pairing.wait()
    print(f"paired; agent {pairing.facts['agent']}")
    return 0


def send(pairing: Pairing, options) -> int:
    """Replicates a file: the first time as a base image, later as an increment of the last one."""
    chain = Chain(options.state / "chain.json")
    volume = Volume(options.image, options.record_bytes)
    image = chain.next(pairing, volume, options.taken_at or now())
    if options.hold:
        chain.hold(image)
        return 0
    # Its parent was held back, and may come later.
    image.body["allowOrphan"] = options.allow_orphan
    reports = replicate(pairing, image, Habits(
        options.group_bytes, options.body_bytes, options.cut_after,
        options.when_flushed))
    chain.committed(image)
    tell(chain, image, reports)
    return 0


def release(pairing: Pairing, options) -> int:
    """Sends what was held back by `send --hold`, from the same file."""
    chain = Chain(options.state / "chain.json")
    body, parent = chain.held()
    volume = Volume(options.image, body["recordSize"])
    image = Image(body, volume.entries(parent), volume)
    tell(chain, image, replicate(pairing, image, Habits()))
    return 0


def tell(chain: "Chain", image: Image, reports: list) -> None:
    print(json.dumps({
        "imageType": image.body["imageType"], "epochNumber": image.body["epochNumber"],
        "recoveryPointId": image.body["recoveryPointId"],
        "volume": chain.facts["volume"], "recordCount": image.body["recordCount"],
        "openings": [asdict(report) for report in reports]}))


class Chain:
    """What the client must remember of a volume: the last committed image, and the one under way.

    The one under way is kept before it is opened, so that a client that died goes on with the same
    ids and the same commit token."""

    def __init__(self, note: Path):
        self.note = note
        self.facts = json.loads(note.read_text()) if note.exists() else {
            "volume": str(uuid4()), "last": None, "keys": [], "next": None}

    def next(self, pairing: Pairing, volume: Volume, taken_at: str) -> Image:
        last = self.facts["last"]
        parent = Parent(last["sizeBytes"], list(map(bytes.fromhex, self.facts["keys"]))) \
            if last else None
        entries = volume.entries(parent)
        digest = list_digest(entries).hex()
        body = self.facts["next"]
        if body is None or body["imageDigest"] != digest:
            body = self._body(pairing, volume, len(entries), digest) | {
                "utcCreatedTimestamp": taken_at}
            self._keep(next=body)
        return Image(body, entries, volume)

    def hold(self, image: Image) -> None:
        """Goes on as if the image had been sent, and keeps what is needed to send it later."""
        self._keep(held={"body": image.body, "parent": self.facts["last"],
                         "parentKeys": self.facts["keys"]})
        self.committed(image)

    def held(self) -> tuple[dict, Parent]:
        held = self.facts["held"]
        keys = list(map(bytes.fromhex, held["parentKeys"]))
        return held["body"], Parent(held["parent"]["sizeBytes"], keys)

    def committed(self, image: Image) -> None:
        keys = [key.hex() for key in image.volume.keys]
        self._keep(last=image.body, keys=keys, next=None)

    def _body(self, pairing: Pairing, volume: Volume, n_entries: int, digest: str) -> dict:
        last = self.facts["last"]
        body = {
            "agentId": pairing.facts["agent"], "jobId": str(uuid4()),
            "recoveryPointId": str(uuid4()), "volumeImageCount": 1,
            "imageId": str(uuid4()), "volumeDriverId": self.facts["volume"],
            "epochNumber": last["epochNumber"] + 1 if last else 1,
            "imageType": "Incremental" if last else "Base",
            "sizeBytes": volume.size, "recordSize": volume.record_bytes,
            "recordCount": n_entries, "imageDigest": digest,
            "commitToken": str(uuid4())}
        if last:
            body |= {"previousEpochNumber": last["epochNumber"],
                     "parentImageId": last["imageId"], "parentImageDigest": last["imageDigest"]}
        return body

    def _keep(self, **facts) -> None:
        self.facts |= facts
        new = self.note.with_suffix(".new")
        new.write_text(json.dumps(self.facts))
        new.replace(self.note)


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="where this client keeps things")
    commands = parser.add_subparsers(required=True)
    step = commands.add_parser("request", help=request.__doc__)
    step.add_argument("url")
    step.add_argument("--host", default="python-client")
    step.add_argument("--agent", default="web")
    step.set_defaults(run=request)
    step = commands.add_parser("wait", help=wait.__doc__)
    step.set_defaults(run=wait)
    step = commands.add_parser("send", help=send.__doc__)
    step.add_argument("image", type=Path)
    step.add_argument("--taken-at", help="when the image was taken, RFC 3339 in UTC [now]")
    step.add_argument("--record-bytes", type=int, default=RECORD_BYTES)
    step.add_argument("--group-bytes", type=int, default=GROUP_RAW_BYTES_MAX,
                      help="bytes of records in one group at most")
    step.add_argument("--body-bytes", type=int, default=BODY_BYTES_MAX,
                      help="payload bytes after which a request of row 6 is ended")
    step.add_argument("--cut-after", type=int, help="kill the connection once after so many bytes")
    step.add_argument("--when-flushed", action="store_true",
                      help="and wait first until the target says that something is durable")
    step.add_argument("--hold", action="store_true", help="do not send it yet; see release")
    step.add_argument("--allow-orphan", action="store_true",
                      help="let it arrive before its parent, which was held back")
    step.set_defaults(run=send)
    step = commands.add_parser("release", help=release.__doc__)
    step.add_argument("image", type=Path)
    step.set_defaults(run=release)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
