"""One HTTP/2 connection over TLS 1.3 to a target that is known by its public key.

Everything runs in one thread: whoever waits for something reads the socket until it is there, and
whatever arrives meanwhile for other streams is kept for them.
"""

import json
import socket
import ssl
import struct
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions

import der

# A socket that is silent for so long is told to whoever waits; after so many times it is given up.
QUIET_SECONDS = 10
QUIET_TURNS_MAX = 6
READ_BYTES = 1 << 16
HTTP2_FRAME_HEADER_BYTES, HTTP2_GOAWAY = 9, 7


class Refused(Exception):
    """The target answered with an error: a status and the error body, or a FAIL frame."""

    def __init__(self, status: int | None, body: bytes):
        try:
            error = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            error = {"code": "unreadable", "message": repr(body[:200])}
        self.status, self.code = status, error["code"]
        self.retryable, self.detail = error.get("retryable", False), error.get("detail")
        # What a peer wrote is shown escaped.
        super().__init__(f"{ascii(self.code)}: {ascii(error.get('message'))}")


class Cut(Exception):
    """The connection or the stream ended before its time."""


class OtherKey(Exception):
    """The target shows another key than the one remembered: nothing was sent."""


@dataclass
class Stream:
    """One request and what has come back for it."""

    connection: "Connection"
    id: int
    status: int | None = None
    headers: dict = field(default_factory=dict)
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: bool = False

    def send(self, content: bytes) -> None:
        """Sends all of it, waiting where the target's flow control says so."""
        wire = self.connection.wire
        while content and not self.ended:
            room = min(wire.local_flow_control_window(self.id), wire.max_outbound_frame_size)
            if room == 0:
                self.connection.turn()
                continue
            wire.send_data(self.id, content[:room])
            content = content[room:]
            self.connection.flush()

    def finish(self) -> None:
        """Ends the request's body."""
        if not self.ended:
            self.connection.wire.end_stream(self.id)
            self.connection.flush()

    def take(self) -> bytes:
        """What has come of the answer's body since the last time, which may be nothing."""
        content = bytes(self.received)
        self.received.clear()
        return content

    def answer(self) -> bytes:
        """Waits for the whole answer; an error status is raised."""
        while not self.ended:
            self.connection.turn()
        if self.status is None or self.reset:
            raise Cut("the target reset the request")
        if self.status >= 400:
            raise Refused(self.status, self.take())
        return self.take()


class Connection:
    """Opens the connection; `pin` is the target's public key as SubjectPublicKeyInfo in DER.

    Without a pin whatever key the handshake shows is taken: right once, at the first meeting."""

    def __init__(self, url: str, certificate: str | None = None, key: str | None = None,
                 pin: bytes | None = None):
        place = urlsplit(url)
        self.authority = place.netloc
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Believed by its key, not by a name or an authority (section 2).
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        plain = socket.create_connection((place.hostname, place.port), QUIET_SECONDS)
        self.socket = context.wrap_socket(plain, server_hostname=place.hostname)
        self.target_key = der.public_key(self.socket.getpeercert(binary_form=True))
        if pin is not None and self.target_key != pin:
            self.cut()
            raise OtherKey("the target shows another key than the remembered one")
        self.wire = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.wire.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self._partial = bytearray()
        self._quiet_turns = 0
        self.flush()

    def open(self, method: str, path: str, media: str | None = None) -> Stream:
        """Begins a request and leaves its body open."""
        headers = [(":method", method), (":path", path), (":scheme", "https"),
                   (":authority", self.authority), ("offsite-protocol", "1")]
        if media is not None:
            headers.append(("content-type", media))
        stream = Stream(self, self.wire.get_next_available_stream_id())
        self.streams[stream.id] = stream
        self.wire.send_headers(stream.id, headers)
        self.flush()
        return stream

    def call(self, method: str, path: str, body: dict | None = None) -> bytes:
        """A request with a JSON body, or none; the answer's body."""
        stream = self.begin(method, path, body)
        return stream.answer()

    def begin(self, method: str, path: str, body: dict | None = None) -> Stream:
        """As `call`, but the answer is left for later."""
        stream = self.open(method, path, None if body is None else "application/json")
        if body is not None:
            stream.send(json.dumps(body).encode())
        stream.finish()
        return stream

    def turn(self) -> bool:
        """Waits for the next bytes of the target and deals them out to their streams.

        False where nothing came for a while."""
        try:
            content = self.socket.recv(READ_BYTES)
        except TimeoutError:
            self._quiet_turns += 1
            if self._quiet_turns == QUIET_TURNS_MAX:
                raise Cut("the target is silent") from None
            return False
        except OSError as error:
            raise Cut(f"reading from the target: {error}") from error
        self._quiet_turns = 0
        if not content:
            raise Cut("the target closed the connection")
        try:
            for event in self.wire.receive_data(self._without_goaway(content)):
                self._take(event)
        except h2.exceptions.ProtocolError as error:
            raise Cut(f"the target broke a rule of HTTP/2: {ascii(str(error))}") from error
        self.flush()
        return True

    def _without_goaway(self, content: bytes) -> bytes:
        """The whole frames that have come, less GOAWAY.

        A target that is about to close says GOAWAY first and still answers what it was asked;
        h2 would take nothing more after it."""
        self._partial += content
        frames = b""
        while len(self._partial) >= HTTP2_FRAME_HEADER_BYTES:
            size = HTTP2_FRAME_HEADER_BYTES + int.from_bytes(self._partial[:3], "big")
            if len(self._partial) < size:
                break
            if self._partial[3] != HTTP2_GOAWAY:
                frames += self._partial[:size]
            del self._partial[:size]
        return frames

    def _take(self, event: h2.events.Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", None))
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
            stream.status = int(stream.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream.received += event.data
            self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            # After a whole answer a reset only says that the rest of the request is not wanted.
            stream.reset = not stream.ended
            stream.ended = True

    def flush(self) -> None:
        try:
            self.socket.sendall(self.wire.data_to_send())
        except OSError as error:
            raise Cut(f"writing to the target: {error}") from error

    def cut(self) -> None:
        """Kills the TCP connection: no good-bye of TLS or HTTP, a reset on the wire."""
        linger_for_no_time = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_no_time)
        self.socket.close()
