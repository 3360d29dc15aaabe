"""The table of anomalies: how each is made and measured, what it needs, its definition and its source.

Planes, units and ranges, and the order in which several are made, stand in `severities`. Which of the sources could be
looked up again, and what was found there: docs/layouts.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fetalflex.anatomy import edit_brain, edit_head, edit_heart, edit_limbs, edit_trunk
from fetalflex.anatomy.editing import Setting
from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.severities import KINDS, Kind

Edit = Callable[[Layout, float, Setting, np.random.Generator], Layout]
Measure = Callable[[Layout, Setting], float]
_ISUOG_CNS = "ISUOG Practice Guidelines (fetal CNS, part 1), Ultrasound Obstet Gynecol 2020;56:476-84"
_ISUOG_SCAN = "ISUOG Practice Guidelines (routine mid-trimester scan), Ultrasound Obstet Gynecol 2022;59:840-56"
_ISUOG_HEART = "ISUOG Practice Guidelines (fetal cardiac screening), Ultrasound Obstet Gynecol 2023;61:788-803"
_GROWTH = "INTERGROWTH-21st, Lancet 2014;384:869-79"


@dataclass(frozen=True, kw_only=True)
class Anomaly(Kind):
    """An anomaly with all that makes it. `needs`: structures that the layout must have.

    `edit` makes it; `measure` returns the severity that a layout has.
    """

    needs: tuple[str, ...]
    definition: str
    source: str
    edit: Edit
    measure: Measure


def _plain(edit: Callable[[Layout, float, Setting], Layout]) -> Edit:
    """Return an edit that draws nothing at random in the common form."""
    return lambda layout, severity, setting, _: edit(layout, severity, setting)


def _made(
    name: str, needs: tuple[str, ...], definition: str, source: str, how: tuple[Edit, Measure]
) -> tuple[str, Anomaly]:
    edit, measure = how
    kind = vars(KINDS[name])
    return name, Anomaly(**kind, needs=needs, definition=definition, source=source, edit=edit, measure=measure)


_MADE = dict((
    _made(
        "microcephaly", ("head",),
        "Head circumference 3 standard deviations or more below the mean for the gestational age",
        f"Chervenak et al., Am J Obstet Gynecol 1984;149:512-7; mean and SD: {_GROWTH}",
        (_plain(edit_head.resize_head), edit_head.head_score),
    ),
    _made(
        "macrocephaly", ("head",),
        "Head circumference 2 standard deviations or more above the mean for the gestational age",
        f"Biran-Gol et al., Ultrasound Obstet Gynecol 2010;36:147-53; mean and SD: {_GROWTH}",
        (_plain(edit_head.resize_head), edit_head.head_score),
    ),
    _made(
        "dolichocephaly", ("head",),
        "Cephalic index (100 x biparietal / occipitofrontal diameter) below 74, the mean of 78.3 less one SD of 4.4",
        "Hadlock et al., AJR 1981;137:83-5",
        (_plain(edit_head.lengthen_head), edit_head.head_index),
    ),
    _made(
        "ventriculomegaly", ("lateral-ventricle", "head"),
        "Atrial width of a lateral ventricle of 10 mm or more: mild 10-12, moderate 13-15, severe above 15",
        f"SMFM Consult Series 45, Am J Obstet Gynecol 2018;219:B2-B9; {_ISUOG_CNS}",
        (edit_brain.widen_ventricle, edit_brain.ventricle_width),
    ),
    _made(
        "absent-csp", ("csp", "head"),
        "Cavum septi pellucidi not seen at 18 to 37 weeks, when it always should be",
        f"Falco et al., Ultrasound Obstet Gynecol 2000;16:549-53; {_ISUOG_CNS}",
        (_plain(edit_brain.remove_cavum), edit_brain.cavum_absent),
    ),
    _made(
        "enlarged-cisterna-magna", ("cisterna-magna", "head"),
        "Depth of the cisterna magna, from vermis to occiput, above 10 mm",
        f"Mahony et al., Radiology 1984;153:773-6; {_ISUOG_CNS}",
        (_plain(edit_brain.deepen_cisterna), edit_brain.cisterna_depth),
    ),
    _made(
        "choroid-plexus-cyst", ("lateral-ventricle",),
        "Cyst of 3 mm or more in the choroid plexus (longest diameter)",
        "Van den Hof et al., SOGC guideline 162 (fetal soft markers), J Obstet Gynaecol Can 2005;27:592-612",
        (_plain(edit_brain.add_cyst), edit_brain.cyst_diameter),
    ),
    _made(
        "absent-stomach", ("stomach", "abdomen"),
        "No fluid-filled stomach seen (still not after 45 minutes, in a living scan)",
        f"{_ISUOG_SCAN}; McKenna et al., Radiology 1995;197:729-33; waiting time: Millener et al., AJR 1993;160:827-30",
        (_plain(edit_trunk.remove_stomach), edit_trunk.stomach_absent),
    ),
    _made(
        "double-bubble", ("stomach", "abdomen"),
        "Fluid-filled dilated duodenum beside the stomach (diameter; the range is ours)",
        f"{_ISUOG_SCAN}; Nelson et al., Obstet Gynecol 1982;59:657-60",
        (_plain(edit_trunk.add_bubble), edit_trunk.bubble_diameter),
    ),
    _made(
        "omphalocele", ("abdomen", "spine"),
        "Sac with abdominal contents before the wall at the cord's insertion (longest diameter; the range is ours)",
        f"{_ISUOG_SCAN}; Kleinrouweler et al., Fetal Diagn Ther 2011;30:60-9",
        (_plain(edit_trunk.add_sac), edit_trunk.sac_diameter),
    ),
    _made(
        "hydronephrosis", ("renal-pelvis", "kidney", "abdomen", "spine"),
        "Anteroposterior renal pelvic diameter of 4 mm or more to 27, of 7 mm or more from 28 weeks",
        "Nguyen et al. (UTD classification system), J Pediatr Urol 2014;10:982-98",
        (_plain(edit_trunk.widen_pelvis), edit_trunk.pelvis_depth),
    ),
    _made(
        "cardiomegaly", ("heart", "thorax"),
        "Cardiothoracic circumference ratio above 0.56, the mean of 0.50 and two SD of 0.03 (our rounding)",
        f"Paladini et al., Arch Dis Child 1990;65:20-3; {_ISUOG_HEART}",
        (_plain(edit_heart.enlarge_heart), edit_heart.heart_ratio),
    ),
    _made(
        "single-ventricle", ("left-ventricle", "right-ventricle"), "One ventricle instead of two", _ISUOG_HEART,
        (_plain(edit_heart.join_ventricles), edit_heart.ventricles_missing),
    ),
    _made(
        "ventricular-septal-defect", edit_heart.CHAMBERS,
        "Gap in the septum between the ventricles (its length; the range is ours)", _ISUOG_HEART,
        (_plain(edit_heart.open_ventricular_septum), edit_heart.defect_length),
    ),
    _made(
        "atrioventricular-septal-defect", edit_heart.CHAMBERS,
        "Gap at the crux, of both septa, with one common valve (its length; the range is ours)", _ISUOG_HEART,
        (_plain(edit_heart.open_crux), edit_heart.defect_length),
    ),
    _made(
        "short-femur", ("femur",),
        "Femur length 2 standard deviations or more below the mean for the gestational age (dysplasias: 3 or more)",
        f"Krakow et al., Genet Med 2009;11:127-33; mean and SD: {_GROWTH}",
        (_plain(edit_limbs.shorten_femur), edit_limbs.femur_score),
    ),
    _made(
        "bowed-femur", ("femur",), "Shaft bent: the angle between its ends (the range is ours)",
        "Krakow et al., Genet Med 2009;11:127-33",
        (_plain(edit_limbs.bend_femur), edit_limbs.femur_angle),
    ),
    _made(
        "cleft-lip", ("upper-lip",), "Gap in the upper lip beside its middle (its width; the range is ours)",
        f"{_ISUOG_SCAN}; Maarse et al., Ultrasound Obstet Gynecol 2010;35:495-502",
        (_plain(edit_limbs.split_lip), edit_limbs.cleft_width),
    ),
))  # fmt: skip
ANOMALIES: dict[str, Anomaly] = {name: _MADE[name] for name in KINDS}
