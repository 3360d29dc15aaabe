"""Rows as the probe gives them, without a file."""

from typing import Any


def image(name: str = "a.dcm", **values: Any) -> dict[str, Any]:
    """Return the row of an image."""
    base = {
        "name": name, "kind": "image", "bytes": 1000, "modality": "US", "storage": "Ultrasound Image Storage",
        "syntax": "Explicit VR Little Endian", "frames": 1, "rows": 480, "columns": 640, "device": "GE Voluson E10",
        "word": "brain", "described": True, "text": "Fetal brain", "region": True, "spacing": True,
        "colour": "MONOCHROME2", "burned": "NO", "age": False, "patient": "p" * 32, "uid": f"uid of {name}",
        "pixels": f"pixels of {name}",
    }  # fmt: skip
    return base | values
