"""As much of DER as it takes to find the public key in a certificate."""


def public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of an X.509 certificate, as it stands there."""
    outer, _, _ = _element(certificate)
    fields, _, _ = _element(outer)
    elements = []
    while fields:
        _, whole, fields = _element(fields)
        elements.append(whole)
    # version [0] is optional; serial, signature, issuer, validity and subject come before the key.
    return elements[6 if elements[0][0] == 0xA0 else 5]


def _element(content: bytes) -> tuple[bytes, bytes, bytes]:
    """The first element's content, the whole of it, and what follows it."""
    length, start = content[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(content[2:start], "big")
    if start + length > len(content):
        raise ValueError("a DER element is longer than what it stands in")
    return content[start:start + length], content[:start + length], content[start + length:]
