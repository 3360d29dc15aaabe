"""The form of `reports/quality.json`: the one place that says it, for the gate and the page to read."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from fetalflex.quality.anomalies import AnomalyControl
from fetalflex.quality.control import Control
from fetalflex.quality.fidelity import Fidelity
from fetalflex.quality.privacy import Limits, Nearest

SHOWN_PAIRS = 12


def quality_report(
    encoder: str,
    fidelity: Iterable[Fidelity],
    control: Iterable[Control],
    nearest: Sequence[Nearest],
    limits: Limits | None,
    anomalies: Iterable[AnomalyControl] = (),
) -> dict[str, Any]:
    """Return the quality report as JSON values (numbers that are not finite become null).

    Keys: encoder; fidelity: [{name, value, low, high, n_real, n_synthetic, floor, floor_n, warning}];
    control: [{structure, value, low, high, n, real_value, real_low, real_high, n_real}], `overall` last;
    anomalies: [the fields of `quality.anomalies.AnomalyControl`; an interval is {value, low, high}];
    privacy: {n, near_copies (count), near_copy_fraction (null without images), limits,
    nearest: the 12 most alike, the most correlated first}.
    """
    copies = sum(item.near_copy for item in nearest)
    ranked = sorted(nearest, key=lambda item: (-item.correlation, item.image_id))
    privacy = {
        "n": len(nearest),
        "near_copies": copies,
        "near_copy_fraction": copies / len(nearest) if nearest else None,
        "limits": limits,
        "nearest": ranked[:SHOWN_PAIRS],
    }
    report = {
        "encoder": encoder,
        "fidelity": list(fidelity),
        "control": list(control),
        "anomalies": list(anomalies),
        "privacy": privacy,
    }
    return {key: plain(value) for key, value in report.items()}


def plain(value: Any) -> Any:
    """Return dataclasses and containers as JSON values; NaN and infinity become None, as JSON has neither."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
