"""Signatures of webhooks, as standardwebhooks.com says: HMAC-SHA256 over id, time and body."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)


def parse_secret(text: str) -> bytes:
    """The key of a secret, `whsec_` and base64 of 24 to 64 bytes; ValueError, which never quotes it, otherwise."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or len(key) not in KEY_BYTES:
        raise ValueError("a secret is `whsec_` and the base64 of 24 to 64 random bytes")
    return key


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The header fields of a signed message: one signature for each key, so that keys can be changed in peace."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}
