"""The keys of an application: a private RSA key of ours, and the public one that Vonage has of it.

https://developer.vonage.com/en/getting-started/concepts/authentication
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

RSA_BITS = 2_048
RSA_EXPONENT = 65_537


def key_pair() -> tuple[str, str]:
    """A private and a public key, as PEM."""
    key = rsa.generate_private_key(RSA_EXPONENT, RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), public_key_of(private.decode())


def public_key_of(private_key: str) -> str:
    """The public key that belongs to a private one, both as PEM."""
    key = serialization.load_pem_private_key(private_key.encode(), None)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public.decode()


def is_public_key(text: str) -> bool:
    """Whether this is a public key that a token can be checked with."""
    try:
        return isinstance(serialization.load_pem_public_key(text.encode()), rsa.RSAPublicKey)
    except (ValueError, UnsupportedAlgorithm):
        return False
