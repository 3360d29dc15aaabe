"""How two releases differ: parameters, counts, figures with their intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fetalflex.release.manifest import Manifest

Verdict = Literal["same", "apart", "overlap", "not comparable", "not measured"]


@dataclass(frozen=True)
class Side:
    """What is compared of one release."""

    manifest: Manifest
    params: Mapping[str, Any]
    quality: Mapping[str, Any]
    downstream: Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure in both releases, each (value, low, high) or None; whether their intervals overlap."""

    name: str
    before: tuple[float, float | None, float | None] | None
    after: tuple[float, float | None, float | None] | None
    verdict: Verdict


@dataclass(frozen=True)
class Diff:
    """All that differs. `params`: key -> (before, after); `counts`: what -> (before, after), equal ones with them."""

    before: str
    after: str
    params: dict[str, tuple[Any, Any]]
    counts: dict[str, tuple[int, int]]
    figures: tuple[Figure, ...]
    same_encoder: bool
    code: tuple[str, ...]
    libraries: dict[str, tuple[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            **{name: getattr(self, name) for name in ("before", "after", "params", "counts", "same_encoder")},
            "figures": [f.__dict__ for f in self.figures],
            "code": list(self.code),
            "libraries": self.libraries,
        }


def compare(before: Side, after: Side) -> Diff:
    """Compare two releases.

    Figures of distances are not comparable where another encoder made their features; all others are by their
    intervals: apart, or overlapping (which shows no difference).
    """
    one, two = before.manifest, after.manifest
    same_encoder = before.quality.get("encoder") == after.quality.get("encoder")
    figures, again = _figures(before), _figures(after)
    names = [*figures, *(n for n in again if n not in figures)]
    return Diff(
        one.tag,
        two.tag,
        _changed(_flat(before.params), _flat(after.params)),
        _both(_counts(one), _counts(two)),
        tuple(_figure(n, figures.get(n), again.get(n), same_encoder) for n in names),
        same_encoder,
        tuple(s for s in sorted(one.code.keys() | two.code.keys()) if one.code.get(s) != two.code.get(s)),
        _changed(one.environment.get("kind", {}), two.environment.get("kind", {})),
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names; lists stay whole."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [*before, *(n for n in after if n not in before)]
    return {n: (before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)}


def _counts(manifest: Manifest) -> dict[str, int]:
    images = manifest.images
    found = {"images": images.total, "accepted images": images.accepted}
    found |= {f"images, {name}": count for name, count in images.by_kind.items()}
    found |= {f"plane {name}": count for name, count in images.by_plane.items()}
    found |= {f"anomaly {name}": count for name, count in images.by_anomaly.items()}
    return found | {f"training images of {c.name}": c.images for c in manifest.centers}


def _both(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    names = [*before, *(n for n in after if n not in before)]
    return {n: (before.get(n, 0), after.get(n, 0)) for n in names}


def _figures(side: Side) -> dict[str, Mapping[str, Any]]:
    found = {str(f["name"]): f for f in side.quality.get("fidelity") or ()}
    found |= {f"dice, {c['structure']}": c for c in side.quality.get("control") or ()}
    for row in side.quality.get("anomalies") or ():
        if isinstance(row.get("found"), Mapping):
            found[f"found, {row['anomaly']}"] = row["found"]
    for row in side.downstream.get("results") or ():
        # The asked question alone, per task: rivals and controls are other rows of the same model and metric.
        told = (row.get("arm", "real+synthetic"), row.get("against", "real"), row.get("test", "all"))
        if row.get("difference") is not None and told == ("real+synthetic", "real", "all"):
            gain = {"value": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
            found[f"gain, {row.get('task', 'plane')}: {row['model']} {row['metric']}"] = gain
    copies = (side.quality.get("privacy") or {}).get("near_copy_fraction")
    return found | ({} if copies is None else {"near-copy fraction": {"value": copies}})


def _figure(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, same_encoder: bool) -> Figure:
    one, two = _triple(before), _triple(after)
    return Figure(name, one, two, _verdict(name, one, two, same_encoder))


def _triple(row: Mapping[str, Any] | None) -> tuple[float, float | None, float | None] | None:
    if row is None or row.get("value") is None:
        return None
    return float(row["value"]), row.get("low"), row.get("high")


def _verdict(name: str, one: Any, two: Any, same_encoder: bool) -> Verdict:
    if one is None and two is None:
        return "not measured"
    if one is None or two is None:
        return "not comparable"
    if one == two:
        return "same"
    features = not name.startswith(("dice, ", "gain, ", "found, "))
    if (features and not same_encoder) or None in one or None in two:
        return "not comparable"
    return "apart" if one[2] < two[1] or two[2] < one[1] else "overlap"
