"""Text in pictures: the detection network of `rapidocr`, loaded when it is first used. Nothing is read: all text goes.

The model is a file of the wheel (PP-OCRv6, small); nothing is fetched. One thread, no memory arena, so that a worker
stays small. We take the detector's probability map, not its boxes: what is blanked must hold every stroke.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fetalflex.errors import StageError

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
DETECTOR = "PP-OCRv6_det_small.onnx"
TILE, OVERLAP = 640, 96  # pixels of the scaled picture: bounds the network's memory
STRIDE = 32  # the network wants sides that are multiples of it


def warm_up() -> None:
    """Load the detector and let it work once, so that no later picture is charged with what it keeps of memory."""
    detect_map(np.zeros((TILE, TILE), np.uint8), 1.0)


def detect_map(picture: Grey, scale: float) -> Floats:
    """Return how likely each pixel of a picture [H, W] is text, in [0, 1]; the network sees it `scale` times as large.

    Source: Liao et al., Real-time scene text detection with differentiable binarization, AAAI 2020.
    """
    height, width = (max(STRIDE, round(n * scale)) for n in picture.shape)
    method = cv2.INTER_LINEAR if scale >= 1 else cv2.INTER_AREA
    scaled = np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)
    found: Floats = np.zeros((height, width), dtype=np.float32)
    for y0, y1 in _cuts(height):
        for x0, x1 in _cuts(width):
            part = found[y0:y1, x0:x1]
            np.maximum(part, _run_detector(scaled[y0:y1, x0:x1]), out=part)
    return np.asarray(cv2.resize(found, picture.shape[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _run_detector(part: Grey) -> Floats:
    height, width = part.shape
    padded = np.pad(part, ((0, -height % STRIDE), (0, -width % STRIDE)), mode="edge")
    session = _session(DETECTOR)
    found = session.run(None, {session.get_inputs()[0].name: _normalise(padded)})[0][0, 0, :height, :width]
    return np.asarray(found, dtype=np.float32)


def _normalise(picture: Grey) -> Floats:
    """Return the picture as the networks take it: [1, 3, H, W], in [-1, 1]."""
    plane = picture.astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(np.broadcast_to(plane, (1, 3, *plane.shape)))


def _cuts(length: int) -> list[tuple[int, int]]:
    """Return overlapping intervals of at most TILE that cover `length`, of equal size."""
    count = max(1, -(-(length - OVERLAP) // (TILE - OVERLAP)))
    size = min(length, -(-(length + (count - 1) * OVERLAP) // count))
    starts = [round(i * (length - size) / max(1, count - 1)) for i in range(count)]
    return [(start, start + size) for start in starts]


@cache
def _session(name: str) -> Any:
    import onnxruntime

    spec = find_spec("rapidocr")
    model = None if spec is None or spec.origin is None else Path(spec.origin).parent / "models" / name
    if model is None or not model.is_file():
        raise StageError(f"the text model {name} is missing; install rapidocr 3.10 as constraints.txt names it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
