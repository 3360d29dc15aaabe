"""Features kept per distinct image: a second scoring of unchanged images makes no forward pass.

Many small files would cost more than a small encoder's own work, so the images of one call share a file.
"""

import hashlib
import io
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from fetalflex.artifacts import atomic
from fetalflex.errors import ArtifactError
from fetalflex.quality.features.encoder import Encoder, Features, Images, check_images

Keys = npt.NDArray[np.bytes_]


class CachedEncoder:
    """Keeps the features of each distinct image, by SHA-256 of its pixels, under the encoder's name.

    `forwards` counts the images that the encoder was asked for. Threads and processes may share a folder.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.name, self._encoder = encoder.name, encoder
        self._folder = folder / hashlib.sha256(encoder.name.encode()).hexdigest()[:16]
        self._places: dict[bytes, tuple[str, int]] = {}
        self._listed: set[str] = set()
        self._lock = Lock()
        self.forwards = 0

    def features(self, images: Images) -> Features:
        """Return float32 [N, D]. Raises: ArtifactError where a kept file is damaged."""
        check_images(images)
        if not len(images):
            return self._encoder.features(images)
        keys = [_key(image) for image in images]
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        with self._lock:
            if any(key not in self._places for key in first):
                self._list()
            missing = [key for key in first if key not in self._places]
        known: dict[bytes, Features] = {}
        if missing:
            fresh = self._encoder.features(images[[first[key] for key in missing]])
            known = dict(zip(missing, fresh, strict=True))
            self._keep(missing, fresh)
        return np.stack(self._rows(keys, known))

    def _rows(self, keys: list[bytes], known: dict[bytes, Features]) -> list[Features]:
        files: dict[str, Features] = {}
        for key in keys:
            if key not in known:
                name, number = self._places[key]
                if name not in files:
                    files[name] = self._read(name)[1]
                known[key] = files[name][number]
        return [known[key] for key in keys]

    def _keep(self, keys: list[bytes], rows: Features) -> None:
        name = f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}.npz"
        buffer = io.BytesIO()
        np.savez(buffer, keys=np.array(keys, "S64"), rows=rows)
        with atomic(self._folder / name) as partial:
            partial.write_bytes(buffer.getvalue())
        with self._lock:
            self.forwards += len(keys)
            self._note(name, keys)

    def _list(self) -> None:
        """Read which images the files hold that were not looked at yet."""
        for path in sorted(self._folder.glob("*.npz")):
            if path.name not in self._listed:
                self._note(path.name, [bytes(key) for key in self._read(path.name)[0]])

    def _note(self, name: str, keys: list[bytes]) -> None:
        self._listed.add(name)
        for number, key in enumerate(keys):
            self._places.setdefault(key, (name, number))

    def _read(self, name: str) -> tuple[Keys, Features]:
        path = self._folder / name
        try:
            with np.load(path, allow_pickle=False) as kept:
                keys, rows = kept["keys"], kept["rows"]
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise ArtifactError(f"{path}: kept features are damaged ({error}); delete the file") from error
        if len(keys) != len(rows):
            raise ArtifactError(f"{path}: {len(keys)} keys for {len(rows)} kept features; delete the file")
        return keys, rows


def _key(image: Images) -> bytes:
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest().encode()
