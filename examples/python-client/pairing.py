"""Pairing by request (docs/protocol.md, section 4): from a URL to an installed certificate.

The state is a directory: `pairing.json`, the private key, the self-signed certificate with which
the request is filed, and after the acceptance the issued one. The program openssl does the
cryptography.
"""

import hashlib
import json
import os
import re
import ssl
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import der
from connection import Connection

ROOT = "/replicationcomms/slave"
CHECK_CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SKEW = timedelta(days=1)


class NotPaired(Exception):
    """The request was refused, or what came back is not what was asked for."""


class Pairing:
    """One side of a pairing, as it lies in its directory."""

    def __init__(self, state: Path):
        self.state = state
        self.key = state / "key.pem"
        self.request_certificate = state / "request-certificate.pem"
        self.certificate = state / "certificate.pem"
        self.note = state / "pairing.json"
        self.facts = json.loads(self.note.read_text()) if self.note.exists() else {}

    def file(self, url: str, host: str, agent: str) -> str:
        """Files the request and answers the check code that both operators compare."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.key.exists():
            self._make_key(host)
        self._keep(url=url, host=host, core=str(uuid4()), agent=str(uuid4()))
        connection = Connection(url, str(self.request_certificate), str(self.key))
        pin = connection.target_key
        self._keep(pin=pin.hex())
        answer = json.loads(connection.call("POST", f"{ROOT}/pairing/request", {
            "clientCertificate": (self.state / "request.csr").read_text(),
            "masterCoreInfo": {
                "hostName": host, "id": self.facts["core"],
                "isReplicationOnlyRepositorySupported": False,
                "version": {"major": 0, "minor": 1, "build": 0, "revision": 0}},
            "agents": [{"id": self.facts["agent"], "displayName": agent, "hostName": agent,
                        "logicalBytes": 0}],
            "customerId": "", "emailAddress": "", "comments": "", "useSeedDrive": False}))
        if bytes.fromhex(answer["targetPublicKey"]) != pin:
            raise NotPaired("the answer names another key than the handshake proved")
        self._keep(request=answer["requestId"])
        return check_code(pin, self._own_key(), UUID(answer["requestId"]))

    def wait(self) -> None:
        """Polls until the target's operator has decided, then installs what was issued."""
        decision = self._decision()
        if decision["resolution"] != "accepted":
            raise NotPaired(f"rejected: {ascii(decision.get('message'))}")
        issued, chain = self._fetch("certificate"), self._fetch("target-certificate")
        self._judge(decision, issued, chain)
        new = self.certificate.with_suffix(".new")
        new.write_bytes(issued)
        os.replace(new, self.certificate)
        state = self.sync()["pairingState"]
        if state != "Active":
            raise NotPaired(f"the pairing is {ascii(state)} after the first call")

    def sync(self) -> dict:
        """Row 45 under the issued certificate: its first use makes the pairing active."""
        return json.loads(self.connect().call("POST", f"{ROOT}/pairing/sync", {
            "coreId": self.facts["core"], "hostName": self.facts["host"]}))

    def connect(self) -> Connection:
        """A connection under the issued certificate, to the remembered key."""
        return Connection(self.facts["url"], str(self.certificate), str(self.key), self._pin())

    def _decision(self) -> dict:
        path = f"{ROOT}/pairing/requests/{self.facts['request']}/resolution"
        while True:
            stream = self._connect_as_newcomer().begin("GET", path)
            body = stream.answer()
            if stream.status == 200:
                return json.loads(body)
            time.sleep(int(stream.headers.get("retry-after", "1")))

    def _fetch(self, what: str) -> bytes:
        path = f"{ROOT}/pairing/requests/{self.facts['request']}/{what}"
        return self._connect_as_newcomer().call("GET", path)

    def _connect_as_newcomer(self) -> Connection:
        return Connection(self.facts["url"], str(self.request_certificate), str(self.key),
                          self._pin())

    def _pin(self) -> bytes:
        return bytes.fromhex(self.facts["pin"])

    def _judge(self, decision: dict, issued: bytes, chain: bytes) -> None:
        """Compares what was issued with what was announced, with the own key and with the pin."""
        own, target, authority = (ssl.PEM_cert_to_DER_cert(pem) for pem in
                                  (issued.decode(), *certificates(chain.decode())))
        checks = {
            "certificate is not the one announced":
                hashlib.sha256(own).hexdigest() == decision["certificateSha256"],
            "target's certificate is not the one announced":
                hashlib.sha256(target).hexdigest() == decision["targetCertificateSha256"],
            "certificate holds another key than ours": der.public_key(own) == self._own_key(),
            "target's certificate holds another key than the remembered one":
                der.public_key(target) == self._pin(),
            "certificate is not signed by the target's authority":
                self._is_signed(issued, authority),
            "certificate is out of its time": self._is_in_time(issued)}
        for complaint, holds in checks.items():
            if not holds:
                raise NotPaired(f"the {complaint}")

    def _is_signed(self, issued: bytes, authority: bytes) -> bool:
        leaf, root = self.state / "judged.pem", self.state / "authority.pem"
        leaf.write_bytes(issued)
        root.write_text(ssl.DER_cert_to_PEM_cert(authority))
        try:
            openssl("verify", "-no_check_time", "-CAfile", root, leaf)
        except RuntimeError:
            return False
        finally:
            leaf.unlink()
        return True

    def _is_in_time(self, issued: bytes) -> bool:
        """With a day of tolerance: authority is the pin, not the date."""
        judged = self.state / "judged.pem"
        judged.write_bytes(issued)
        lines = openssl("x509", "-in", judged, "-noout", "-dates", "-dateopt", "iso_8601")
        judged.unlink()
        first, last = (datetime.fromisoformat(line.partition("=")[2].replace("Z", "+00:00"))
                       for line in lines.decode().splitlines())
        return first - SKEW <= datetime.now(timezone.utc) <= last + SKEW

    def _make_key(self, host: str) -> None:
        """A P-256 key, a self-signed certificate of it, and a PKCS#10 request with it."""
        subject = ["-subj", f"/CN={host}"]
        made = self.state / "key.new"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", made)
        openssl("req", "-new", "-x509", "-key", made, "-days", "30", *subject,
                "-out", self.request_certificate)
        openssl("req", "-new", "-key", made, *subject, "-out", self.state / "request.csr")
        made.replace(self.key)

    def _own_key(self) -> bytes:
        return openssl("pkey", "-in", self.key, "-pubout", "-outform", "DER")

    def _keep(self, **facts) -> None:
        """Adds to the note, in one step."""
        self.facts |= facts
        new = self.note.with_suffix(".new")
        new.write_text(json.dumps(self.facts, indent=1))
        os.replace(new, self.note)


def check_code(target_key: bytes, source_key: bytes, request: UUID) -> str:
    """What the two operators read to each other."""
    parts = (b"pair1", target_key, source_key, request.bytes)
    digest = hashlib.sha256(b"".join(len(p).to_bytes(2, "big") + p for p in parts)).digest()
    number = int.from_bytes(digest[:10], "big")
    code = "".join(CHECK_CODE_ALPHABET[number >> shift & 31] for shift in range(75, -1, -5))
    return "-".join(code[i:i + 4] for i in range(0, 16, 4))


def certificates(pem: str) -> list[str]:
    """The two certificates of a chain: the target's and its authority's."""
    found = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    if len(found) != 2:
        raise NotPaired(f"a chain of {len(found)} certificates, expected two")
    return found


def openssl(*arguments) -> bytes:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {ascii(done.stderr.decode(errors='replace'))}")
    return done.stdout
