"""Keys that sign releases."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

P_256 = ec.SECP256R1()


@dataclass(frozen=True)
class Keys:
    """The files of an EC key and its public half."""

    private: Path
    public: Path


def make_keys(folder: Path, curve: ec.EllipticCurve = P_256) -> Keys:
    """Write a new key to a new folder."""
    folder.mkdir()
    key = ec.generate_private_key(curve)
    keys = Keys(folder / "release.key", folder / "release.pub")
    pem, nothing = serialization.Encoding.PEM, serialization.NoEncryption()
    keys.private.touch(0o600)
    keys.private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, nothing))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    keys.public.write_bytes(key.public_key().public_bytes(pem, info))
    return keys
