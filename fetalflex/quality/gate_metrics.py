"""Every metric that a criterion of the gate may name, with its meaning; docs/params.md lists them."""

from fetalflex.anatomy.ontology import STRUCTURE_NAMES
from fetalflex.anatomy.severities import KINDS

OF_ENCODER: dict[str, str] = {
    "kid": "kernel distance to real test images",
    "frechet": "Fréchet distance to real test images, as it is at these numbers of images",
    "frechet_corrected": "Fréchet distance extrapolated to infinitely many images",
    "cmmd": "maximum mean discrepancy with CMMD's kernel",
    "precision": "share of synthetic images that lie among real ones",
    "recall": "share of real images that lie among synthetic ones",
    "density": "real neighbourhoods that a synthetic image lies in, over their usual number",
    "coverage": "share of real images with a synthetic one among their neighbours",
    "two_sample_auc": "area under the ROC curve of a classifier that tells synthetic from real; 0.5: it cannot",
    "feature_diversity": "mean distance of two synthetic images of a plane, in features",
}
_LOOKS: dict[str, str] = {
    "nakagami_shape": "the speckle's Nakagami shape",
    "speckle_size_across": "the speckle's width",
    "speckle_size_along": "the speckle's height",
    "sector_area": "the sector's share of the image",
    "sector_asymmetry": "how far the sector is from its mirror image",
    "brightness": "mean grey level in the sector",
    "contrast": "deviation of grey levels in the sector",
    "saturation": "share of white pixels in the sector",
}
_SIZES: dict[str, str] = {
    "hc": "head circumference, mm",
    "bpd": "biparietal diameter, mm",
    "ac": "abdominal circumference, mm",
    "atrial_width": "atrial width, mm",
    "femur_length": "femur length, mm",
    "cardiothoracic_ratio": "cardiothoracic ratio",
}
_CHECKS: dict[str, str] = {
    "text": "burned-in text",
    "grid": "a grid in the spectrum",
    "saturation": "white pixels",
    "sector": "light outside of the center's sector",
    "gap": "black inside of the center's sector",
    "shadow": "no shadow behind the bone",
    "layout": "a size out of range for the age",
}
_ALTERATIONS = ("plain", "flip", "crop", "gamma", "speckle", "resample")
RELEASE_METRICS: dict[str, str] = {
    **OF_ENCODER,
    "kid_above_floor": "kernel distance minus the real-versus-real floor",
    "frechet_over_floor": "Fréchet distance divided by the real-versus-real floor",
    "coverage_over_floor": "coverage divided by that of other real images",
    "feature_diversity_over_floor": "variety of synthetic images divided by that of real ones, in features",
    "ms_ssim": "mean MS-SSIM of two synthetic images of a plane; 1: always the same image",
    "ms_ssim_above_floor": "that minus the same of real images",
    "repeated_fraction": "share of synthetic images that show the same as another one of another source",
    "lpips_diversity": "mean LPIPS of two synthetic images of a plane; 0: always the same image",
    "lpips_diversity_over_floor": "that divided by the same of real images",
    **{f"look.{name}": f"distance of the distributions of {told}, in real deviations" for name, told in _LOOKS.items()},
    "dice": "judge's mean Dice against the asked layout",
    "dice_over_judge": "that Dice divided by the judge's own on real held-out images",
    **{f"dice.{name}": f"judge's Dice of the structure {name}" for name in STRUCTURE_NAMES},
    **{f"found.{name}": f"share of the images with {name} in which the judge finds it" for name in KINDS},
    **{
        f"severity_error.{kind.name}": f"median difference of measured and asked severity of {kind.name}, {kind.unit}"
        for kind in KINDS.values()
        if kind.unit != "present"
    },
    "boundary_mm": "mean distance of the seen outlines from the asked ones, mm",
    "boundary95_mm": "95th percentile of that distance, mean over structures and images, mm",
    "asked_but_absent": "share of the asked structures that the judge does not see near their place",
    "absent_but_present": "share of the structures asked to be absent that the judge sees",
    **{
        f"{base}.{name}": f"the same of the structure {name}"
        for name in STRUCTURE_NAMES
        for base in ("boundary_mm", "boundary95_mm", "asked_but_absent", "absent_but_present")
    },
    **{f"size_bias.{name}": f"median of the measured less the asked {told}" for name, told in _SIZES.items()},
    **{f"size_error.{name}": f"median of its absolute value, {told}" for name, told in _SIZES.items()},
    "implausible_fraction": "fraction of images that fail a mechanical check",
    **{f"implausible.{name}": f"fraction of images that fail the check: {told}" for name, told in _CHECKS.items()},
    "near_copy_fraction": "fraction of images that are near-copies of a training image",
    "canary_recall": "share of all planted training images that the search for copies finds",
    **{f"canary_recall.{name}": f"the same of canaries altered by {name}" for name in _ALTERATIONS},
    "false_alarms": "share of real held-out images that the search takes for copies",
    **{f"false_alarms.{name}": f"the same of held-out images altered by {name}" for name in _ALTERATIONS},
    "membership_auc": "AUC of the strongest membership-inference attack; 0.5: nothing is told",
    "most_exposed": "synthetic images nearest to one and the same training patient, over all synthetic images",
    "accuracy_gain": "smallest gain in plane accuracy over the classifiers, real+synthetic minus real",
    "macro_f1_gain": "smallest gain in plane macro-F1 over the classifiers, real+synthetic minus real",
    "accuracy_gain_low": "smallest lower bound of the gain in accuracy",
    "macro_f1_gain_low": "smallest lower bound of the gain in macro-F1",
    "accepted_fraction": "fraction of images that pass the criteria per image",
}
IMAGE_METRICS: dict[str, str] = {
    "dice": "judge's mean Dice against the image's layout",
    "realism": "above 1 where the image lies among real ones, in the first encoder's features",
    "nearest_distance": "feature distance to the nearest training image",
    "nearest_correlation": "highest correlation of fine detail with a training image",
    "implausible": "failed mechanical checks; the verdict names them",
    "near_copy": "1 where the image is a near-copy of a training image, else 0",
}
DIFFERENCES = {"kid_above_floor": "kid", "ms_ssim_above_floor": "ms_ssim"}
RATIOS = {
    "frechet_over_floor": "frechet",
    "coverage_over_floor": "coverage",
    "feature_diversity_over_floor": "feature_diversity",
    "lpips_diversity_over_floor": "lpips_diversity",
    "dice_over_judge": "dice",
}


def is_release_metric(name: str) -> bool:
    """Whether a criterion may name it: `kid`, `kid.texture` (another encoder's), `kid@center=NAME` (plane, anomaly)."""
    base, at, where = name.partition("@")
    key, equals, value = where.partition("=")
    if at and (key not in ("plane", "center", "anomaly") or not equals or not value):
        return False
    return base in RELEASE_METRICS or (base.partition(".")[0] in OF_ENCODER and "." in base)
