"""Importing big libraries without the companions that they do not need here."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# What `import monai` pulls in where it is installed, and its networks and losses never use: 16 s of 20, measured.
_OF_MONAI = (
    "transformers", "mlflow", "ignite", "pandas", "matplotlib", "skimage", "nibabel", "itk", "tensorboard", "sklearn",
    "scipy.signal",
)  # fmt: skip
# What diffusers imports where it is installed, for models that are not ours: 3 s.
_OF_DIFFUSERS = ("transformers",)


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Make modules that are not imported yet look as if they were not installed, inside the block alone.

    For libraries that import every optional companion they find: all of them treat a missing one as usual.
    """
    gone = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(gone))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in gone:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def import_monai(name: str) -> ModuleType:
    """Return MONAI's module `name`, imported without MONAI's optional companions."""
    with hidden(*_OF_MONAI):
        return importlib.import_module(name)


@contextmanager
def light_diffusers() -> Iterator[None]:
    """Import what needs diffusers inside this block: it starts faster. For processes of ours, not for users'."""
    with hidden(*_OF_DIFFUSERS):
        yield
