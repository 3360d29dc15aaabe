"""Encoders by name, as `params.yaml` names them."""

from collections.abc import Callable
from pathlib import Path

from fetalflex.artifacts import tree_sha256
from fetalflex.errors import ModelError
from fetalflex.quality.features.encoder import Encoder, Features, Images

BATCH = 32
SMALL_BATCH = 4  # of Inception at 299 px on a CPU: a fifth less time than 32, whose activations leave the caches
STANDARDISED = frozenset({"texture", "radiomics"})  # features of unlike units: in deviations of real test images


class AlignerEncoder:
    """The project's own aligned image encoder; its name holds the weights' hash, under which features are kept."""

    def __init__(self, folder: Path) -> None:
        """Raises: ModelError where the folder holds no aligner."""
        from fetalflex.model.prealign import Aligner  # brings in diffusers, which the other encoders do not need

        self._aligner = Aligner.load(folder)
        self.name = f"aligner-{tree_sha256([folder])[:12]}"

    def features(self, images: Images) -> Features:
        """Return float32 [N, D], of length 1."""
        return self._aligner.image_features(images)


def _inception() -> Encoder:
    from fetalflex.quality.features.inception import InceptionEncoder

    return InceptionEncoder(batch=SMALL_BATCH)


def _texture() -> Encoder:
    from fetalflex.quality.features.texture import TextureEncoder

    return TextureEncoder()


def _radiomics() -> Encoder:
    from fetalflex.quality.features.radiomics import RadiomicsEncoder

    return RadiomicsEncoder()


BUILT_IN: dict[str, Callable[[], Encoder]] = {
    "inception": _inception,
    "texture": _texture,
    "radiomics": _radiomics,
}


def open_encoder(name: str, aligner: Path) -> Encoder:
    """Return the encoder of a name: a built-in one, `aligner` (whose folder is given), `folder:PATH` or `hub:...`.

    Raises: ModelError where there is none, or it cannot be loaded.
    """
    if name == "aligner":
        return AlignerEncoder(aligner)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name.startswith(("folder:", "hub:")):
        from fetalflex.quality.features.pretrained import PretrainedEncoder

        return PretrainedEncoder(name, batch=BATCH)
    raise ModelError(
        f"encoder {name!r} is unknown; expected {', '.join(BUILT_IN)}, aligner, folder:PATH or hub:OWNER/NAME@REVISION"
    )
