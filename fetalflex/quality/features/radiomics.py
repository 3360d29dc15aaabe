"""Radiomics as the Fréchet radiomic distance takes them: 464 features of pyradiomics, configured by `frd-score`.

An extra that pip cannot resolve by itself: `pip install cython versioneer`, then
`pip install --no-build-isolation pyradiomics frd-score`. Imported only where asked for.
Source: Konz, Osuala et al., Fréchet Radiomic Distance, arXiv 2412.01496.
"""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex.errors import ModelError
from fetalflex.quality.features.encoder import Features, Images, check_images

_NEEDED = ("frd_score", "radiomics", "SimpleITK")


class RadiomicsEncoder:
    """The 2-D configuration of FRD version 1 over the whole image; features are not normalised here."""

    name = "radiomics-frd1"

    def __init__(self) -> None:
        """Raises: ModelError where a package is missing."""
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            raise ModelError(
                f"encoder radiomics: {', '.join(missing)} is not installed; pip install cython versioneer, then pip "
                "install --no-build-isolation pyradiomics frd-score; or take texture"
            )
        from radiomics import featureextractor

        logging.getLogger("radiomics").setLevel(logging.ERROR)
        config = Path(str(find_spec("frd_score").origin)).parent / "configs" / "extraction_2d.yaml"  # type: ignore[union-attr]
        self._extractor: Any = featureextractor.RadiomicsFeatureExtractor(str(config))

    def features(self, images: Images) -> Features:
        """Return float32 [N, D]. Raises: ModelError where images have another form."""
        check_images(images)
        return np.array([self._row(image) for image in images], np.float32)

    def _row(self, image: Images) -> list[float]:
        import SimpleITK

        mask = np.ones(image.shape, np.uint8)
        mask[0, 0] = 0  # pyradiomics refuses a mask that is the whole image
        grey, where = (SimpleITK.GetImageFromArray(a[None]) for a in (image.astype(np.float32), mask))
        found = self._extractor.execute(grey, where)
        return [float(value) for key, value in found.items() if not key.startswith("diagnostics")]
