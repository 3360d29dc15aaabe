"""The pseudonym key and the hashes that it makes: the only names that leave a hospital's raw files.

HMAC-SHA-256, so that nobody without the key can test a guess ("is this patient 4711?"). The key never enters an
output; its fingerprint does, so that another key makes the ingested frames stale.
Source: RFC 2104 and FIPS 198-1 (HMAC); DICOM PS3.15 E.1 (retained or replaced identifiers).
"""

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

from fetalflex.errors import MissingSecretError

VARIABLE, FILE_VARIABLE = "FETALFLEX_KEY", "FETALFLEX_KEY_FILE"
KEY_FILE = Path(".fetalflex") / "key"
MINIMUM_BYTES = 16
# Public on purpose: simulated patients need stable names, not secret ones.
DEMO_KEY = b"fetalflex demo key, public, for simulated patients only"


@dataclass(frozen=True)
class PseudonymKey:
    """A key and where it comes from. The secret is kept out of `repr`, hence out of logs and tracebacks."""

    secret: bytes = field(repr=False)
    source: str

    @property
    def is_demo(self) -> bool:
        """Whether this is the public demo key, under which a pseudonym hides nobody."""
        return self.secret == DEMO_KEY


def read_key(workspace: Path, *, allow_demo: bool = False) -> PseudonymKey:
    """Return the key: FETALFLEX_KEY, else the file FETALFLEX_KEY_FILE, else `<workspace>/.fetalflex/key`.

    `allow_demo` (only where every center is a phantom): with none of them, the public demo key; its `source` says so.
    Raises: MissingSecretError where there is no key, or one of fewer than 16 bytes, or a file that cannot be read.
    """
    if VARIABLE in os.environ:
        return _checked(os.environ[VARIABLE].encode(), f"the environment variable {VARIABLE}")
    if FILE_VARIABLE in os.environ:
        return _read_file(Path(os.environ[FILE_VARIABLE]), f"the file named by {FILE_VARIABLE}")
    if (workspace / KEY_FILE).exists():
        return _read_file(workspace / KEY_FILE, f"the workspace's {KEY_FILE}")
    if allow_demo:
        return PseudonymKey(DEMO_KEY, "the public demo key (all centers are simulated: it protects nobody)")
    raise MissingSecretError(
        f"no pseudonym key: real centers need a secret one. Make it once with "
        f"'mkdir -p .fetalflex && openssl rand -hex 32 > {KEY_FILE}' in the workspace and keep a copy in a safe place "
        f"(another key gives every patient another pseudonym), or set {VARIABLE} or {FILE_VARIABLE}"
    )


def keyed_hash(key: PseudonymKey, *parts: str | int, length: int = 32) -> str:
    """Return `length` hex digits (16 to 64) of HMAC-SHA-256 over the length-prefixed parts.

    >>> keyed_hash(PseudonymKey(DEMO_KEY, "demo"), "ab", "c") == keyed_hash(PseudonymKey(DEMO_KEY, "demo"), "a", "bc")
    False
    """
    mac = hmac.new(key.secret, digestmod=hashlib.sha256)
    for part in parts:
        data = str(part).encode("utf-8", "surrogateescape")
        mac.update(len(data).to_bytes(8, "big") + data)
    return mac.hexdigest()[:length]


def key_fingerprint(key: PseudonymKey) -> str:
    """Return 16 hex digits that tell keys apart and reveal nothing of them: safe to commit."""
    return keyed_hash(key, "fetalflex key fingerprint", length=16)


def _read_file(path: Path, source: str) -> PseudonymKey:
    try:
        return _checked(path.read_bytes().strip(), source)
    except OSError as error:
        raise MissingSecretError(
            f"the pseudonym key cannot be read from {source}: {error.strerror}; check path and rights"
        ) from error


def _checked(secret: bytes, source: str) -> PseudonymKey:
    if len(secret) < MINIMUM_BYTES:
        raise MissingSecretError(
            f"the pseudonym key in {source} has {len(secret)} bytes; expected at least {MINIMUM_BYTES} "
            f"(for instance the output of 'openssl rand -hex 32')"
        )
    if secret == DEMO_KEY:
        raise MissingSecretError(f"the key in {source} is the public demo key; make a secret one")
    return PseudonymKey(secret, source)
