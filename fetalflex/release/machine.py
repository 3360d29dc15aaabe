"""What kind of machine this is, as far as it decides over the last bits of an image."""

import platform
from importlib import metadata
from typing import Any

LIBRARIES = ("torch", "numpy", "scipy", "pillow", "diffusers", "monai")


def device_kind(device: str, threads: int) -> dict[str, str]:
    """Return what must be equal for images to be equal byte for byte: processor, its instructions, GPU, libraries.

    `device`: that of the parameters (`cpu`, `cuda`). On a GPU its name stands for its instructions.
    """
    import torch

    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability()
    return {
        "device": "cuda" if on_gpu else "cpu",
        "machine": platform.machine(),
        "instructions": str(name),
        "threads": str(threads),
        **{library: metadata.version(library) for library in LIBRARIES},
    }


def environment(device: str, threads: int) -> dict[str, Any]:
    """Return what a manifest says of where a release was made; nothing in it names a machine or a person."""
    from fetalflex import __version__

    return {
        "fetalflex": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "kind": device_kind(device, threads),
    }
