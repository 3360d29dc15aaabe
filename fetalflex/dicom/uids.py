"""DICOM UIDs from names: the same names give the same UID, on every machine and in every run."""

import hashlib


def derive_uid(*names: str | int) -> str:
    """Return a UID `2.25.<128-bit integer>` from the SHA-256 of the names (length-prefixed, so no two lists collide).

    Source: DICOM PS3.5 B.2 (UUID-derived UIDs; here the integer is a hash, not a random UUID).

    >>> derive_uid("center", 1) == derive_uid("center", 1)
    True
    """
    digest = hashlib.sha256()
    for name in names:
        data = str(name).encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return f"2.25.{int.from_bytes(digest.digest()[:16], 'big')}"
