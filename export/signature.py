"""The signature of a repository, in the format of OpenSSF Model Signing: `release.sig` in its root.

It covers every file but itself and the lock: any change shows, and any file more or less. `model_signing verify key`
checks it as well, and so does `probe.sh signed` in the container.
"""

from pathlib import Path

from altreco_client import contract
from altreco_client.text import printable

from deploy.access import check_secret_file
from export.errors import ExportError, SignatureError
from export.repository import LOCK_FILE
from export.tree import SIGNATURE_FILE, check_tree
from export.untrusted import read_file

NOT_SIGNED = (SIGNATURE_FILE, f"{contract.TAG_RECOMMENDER.name}/{LOCK_FILE}")
MOST_BYTES = 4 * 2**20
INSTALL = "signing needs the packages of the extra: pip install '.[signing]' in the root of this repository"
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError)
"""What model_signing raises for a key or a signature that it cannot read."""


def sign(repository: Path, private_key: Path) -> Path:
    """Sign the repository with an EC key (PEM, P-256, P-384 or P-521) and return the signature's path.

    Raises ReleaseError for a repository with other files than a release's, SignatureError for a key without use here,
    InvalidRequest for one that other users can read.
    """
    try:
        from model_signing import hashing, signing  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ExportError(INSTALL) from error
    check_tree(repository)
    check_secret_file(private_key, "--private-key")
    path = repository / SIGNATURE_FILE
    try:
        files = hashing.Config().set_ignored_paths(paths=NOT_SIGNED, ignore_git_paths=False)
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
        signer.set_hashing_config(files).sign(repository, path)
    except UNREADABLE as error:
        raise SignatureError(f"cannot sign {repository} with {private_key}: {error}") from error
    return path


def check_signature(repository: Path, public_key: Path) -> None:
    """Check the repository's signature with a public EC key (PEM). Raises SignatureError."""
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from model_signing import verifying  # noqa: PLC0415
    except ImportError as error:
        raise ExportError(INSTALL) from error
    path = repository / SIGNATURE_FILE
    try:
        read_file(path, MOST_BYTES)
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(repository, path)
    except FileNotFoundError as error:
        unsigned = f"{repository} is not signed: `export sign` signs it"
        raise SignatureError(unsigned if not path.exists() else f"no file {error.filename}") from error
    except InvalidSignature as error:
        raise SignatureError(f"{path} was not made with the key of {public_key}, or was changed") from error
    except UNREADABLE as error:
        raise SignatureError(f"{repository} is not what was signed: {printable(str(error))[:500]}") from error
