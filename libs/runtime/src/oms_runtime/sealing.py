"""Sealing personal data: encryption by a key of the customer's, which itself is kept encrypted by the installation's key.

All of it is AES-256-GCM: 12 bytes of nonce, then the ciphertext with its tag, in base64. What a text is sealed for (an order, a key id) is
authenticated with it, so that it cannot be put elsewhere. Pure: keys and nonces arrive as arguments.
"""

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
_SEPARATOR = "\x1f"


class BrokenSeal(ValueError):
    """A text was not sealed with this key for this purpose, or it was changed."""


class Sealer:
    """Seals and opens with the keys that an installation's key, KEY_BYTES random bytes, has encrypted."""

    def __init__(self, installation_key: bytes) -> None:
        if len(installation_key) != KEY_BYTES:
            raise ValueError(f"an installation's key has {KEY_BYTES} bytes, not {len(installation_key)}")
        self._wrapping = AESGCM(_derived(installation_key, b"orderstream key wrapping"))
        self._lookup = _derived(installation_key, b"orderstream look-up")

    def wrap(self, key_id: str, key: bytes, nonce: bytes) -> str:
        """The key of a customer, encrypted. `nonce` must be new each time."""
        return b64encode(nonce + self._wrapping.encrypt(nonce, key, key_id.encode())).decode()

    def unwrap(self, key_id: str, wrapped_key: str) -> AESGCM:
        """A customer's key, ready for use. Raises BrokenSeal when it was not encrypted by this installation's key."""
        return AESGCM(_decrypt(self._wrapping, wrapped_key, key_id))

    def seal(self, key: AESGCM, data: bytes, nonce: bytes, purpose: str) -> str:
        """`data` encrypted for `purpose`. `nonce` must be new each time."""
        return b64encode(nonce + key.encrypt(nonce, data, purpose.encode())).decode()

    def open(self, key: AESGCM, sealed: str, purpose: str) -> bytes:
        """What `seal` was given. Raises BrokenSeal."""
        return _decrypt(key, sealed, purpose)

    def lookup(self, *parts: str) -> str:
        """A keyed hash of `parts`: the same for the same parts, and nobody without the key can tell or try which they were."""
        return hmac.digest(self._lookup, _SEPARATOR.join(parts).encode(), sha256).hex()


def _decrypt(cipher: AESGCM, text: str, purpose: str) -> bytes:
    try:
        sealed = b64decode(text, validate=True)
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose.encode())
    except (InvalidTag, ValueError) as error:
        raise BrokenSeal("it was sealed with another key, or for something else, or changed since") from error


def _derived(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)
