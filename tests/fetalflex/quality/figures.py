"""Figures and reports of a made-up release, for the tests of what reads them."""

from fetalflex.quality.control.overlap import Control
from fetalflex.quality.fidelity.measure import Figure
from fetalflex.quality.privacy.canaries import Canary
from fetalflex.quality.privacy.exposure import Exposed, Exposure
from fetalflex.quality.privacy.membership import Membership
from fetalflex.quality.privacy.nearest import Nearest
from fetalflex.quality.privacy.report import Privacy

FIGURES = (
    Figure("kid", 0.12, 0.10, 0.14, 48, 100, 48, 0.02, 48, "inception"),
    Figure("frechet", 90.0, 80.0, 99.0, 48, 100, 48, 60.0, 48, "inception", warning="fewer images than features"),
    Figure("kid", 0.3, 0.2, 0.4, 12, 30, 12, 0.05, 12, "inception", center="harbour"),
    Figure("kid.texture", 0.5, 0.4, 0.6, 48, 100, 48, None, None, "texture"),
)
CONTROL = (
    Control("head", 0.9, 0.85, 0.93, 48, 0.95, 0.9, 0.97, 30),
    Control("overall", 0.8, 0.75, 0.85, 48, 0.9, 0.87, 0.93, 30),
)
NEAREST = (
    Nearest("s1", "c1", 0.1, "c2", 0.3, False, False),
    Nearest("b" * 32, "c1", 0.0, "c1", 0.97, True, True),
)
PRIVACY = Privacy(
    n=2, n_training=40, near_copies=1, near_copy_fraction=0.5, near_copy_low=0.01, near_copy_high=0.99, limit=0.55,
    canary_recall=0.975, lowest_recall=0.95, false_alarms=0.01,
    canaries=(
        Canary("plain", 20, 1.0, 0.83, 1.0, 1.0, 100, 0.01, 0.0, 0.05),
        Canary("crop", 20, 0.95, 0.75, 1.0, 0.95, 100, 0.02, 0.0, 0.07),
    ),
    membership_auc=0.55, membership=(Membership("distance", 0.55, 0.45, 0.65, 40, 30),),
    exposure=Exposure(20, 1, 2, 1, (Exposed("c1", 1, 1, 0.97),)), nearest=NEAREST,
    warning="false alarms are measured on 100 held-out images",
)  # fmt: skip
