"""The table of anomalies: on which planes, what they need, unit and range of the severity, definition and source.

The order is the order in which several are made: the whole head first, then what lies in it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fetalflex.anatomy import edit_brain, edit_head, edit_heart, edit_limbs, edit_trunk
from fetalflex.anatomy.editing import BRAIN, Setting
from fetalflex.anatomy.layout import Layout

Edit = Callable[[Layout, float, Setting, np.random.Generator], Layout]
_ISUOG_CNS = "ISUOG Practice Guidelines (fetal CNS, part 1), Ultrasound Obstet Gynecol 2020;56:476-84"
_ISUOG_SCAN = "ISUOG Practice Guidelines (routine mid-trimester scan), Ultrasound Obstet Gynecol 2022;59:840-56"
_ISUOG_HEART = "ISUOG Practice Guidelines (fetal cardiac screening), Ultrasound Obstet Gynecol 2023;61:788-803"
_GROWTH = "INTERGROWTH-21st, Lancet 2014;384:869-79"


@dataclass(frozen=True)
class Anomaly:
    """An anomaly that can be asked for. `severity` is the range (low, high) in `unit`.

    `structure`: what it is about. `needs`: structures that the layout must have. `excludes`: subjects on which only
    one anomaly at a time can decide. `measure`: the severity that a layout has.
    """

    name: str
    planes: tuple[str, ...]
    structure: str
    needs: tuple[str, ...]
    unit: str
    severity: tuple[float, float]
    definition: str
    source: str
    edit: Edit
    measure: Callable[[Layout, Setting], float]
    excludes: tuple[str, ...] = ()


def _plain(edit: Callable[[Layout, float, Setting], Layout]) -> Edit:
    """Return an edit that draws nothing at random in the common form."""
    return lambda layout, severity, setting, _: edit(layout, severity, setting)


_ALL = (
    Anomaly(
        "microcephaly", BRAIN, "head", ("head",), "SD", (-7.0, -3.0),
        "Head circumference 3 standard deviations or more below the mean for the gestational age",
        f"Chervenak et al., Am J Obstet Gynecol 1984;149:512-7; mean and SD: {_GROWTH}",
        _plain(edit_head.resize_head), edit_head.head_score, ("the head's size",),
    ),
    Anomaly(
        "macrocephaly", BRAIN, "head", ("head",), "SD", (2.0, 6.0),
        "Head circumference 2 standard deviations or more above the mean for the gestational age",
        f"Biran-Gol et al., Ultrasound Obstet Gynecol 2010;36:147-53; mean and SD: {_GROWTH}",
        _plain(edit_head.resize_head), edit_head.head_score, ("the head's size",),
    ),
    Anomaly(
        "dolichocephaly", BRAIN, "head", ("head",), "%", (55.0, 74.0),
        "Cephalic index (100 x biparietal / occipitofrontal diameter) below 74, the mean of 78.3 less one SD of 4.4",
        "Hadlock et al., AJR 1981;137:83-5",
        _plain(edit_head.lengthen_head), edit_head.head_index, ("the head's shape",),
    ),
    Anomaly(
        "ventriculomegaly", ("transventricular", "transthalamic", "brain"), "lateral-ventricle",
        ("lateral-ventricle", "head"), "mm", (10.0, 25.0),
        "Atrial width of a lateral ventricle of 10 mm or more: mild 10-12, moderate 13-15, severe above 15",
        f"SMFM Consult Series 45, Am J Obstet Gynecol 2018;219:B2-B9; {_ISUOG_CNS}",
        edit_brain.widen_ventricle, edit_brain.ventricle_width,
    ),
    Anomaly(
        "absent-csp", BRAIN, "csp", ("csp", "head"), "present", (1.0, 1.0),
        "Cavum septi pellucidi not seen at 17 to 37 weeks, when it always should be",
        f"{_ISUOG_CNS}; Falco et al., Ultrasound Obstet Gynecol 2000;16:549-53",
        _plain(edit_brain.remove_cavum), edit_brain.cavum_absent,
    ),
    Anomaly(
        "enlarged-cisterna-magna", ("transcerebellar", "brain"), "cisterna-magna", ("cisterna-magna", "head"), "mm",
        (10.0, 20.0), "Depth of the cisterna magna, from vermis to occiput, above 10 mm",
        f"Mahony et al., Radiology 1984;153:773-6; {_ISUOG_CNS}",
        _plain(edit_brain.deepen_cisterna), edit_brain.cisterna_depth,
    ),
    Anomaly(
        "choroid-plexus-cyst", ("transventricular", "transthalamic", "brain"), "choroid-plexus-cyst",
        ("lateral-ventricle",), "mm", (3.0, 15.0), "Cyst of 3 mm or more in the choroid plexus (longest diameter)",
        "Van den Hof et al., SOGC guideline 162 (fetal soft markers), J Obstet Gynaecol Can 2005;27:592-612",
        _plain(edit_brain.add_cyst), edit_brain.cyst_diameter,
    ),
    Anomaly(
        "absent-stomach", ("abdomen",), "stomach", ("stomach", "abdomen"), "present", (1.0, 1.0),
        "No fluid-filled stomach seen (again after 30 minutes, in a living scan)",
        f"{_ISUOG_SCAN}; McKenna et al., Radiology 1995;197:729-33",
        _plain(edit_trunk.remove_stomach), edit_trunk.stomach_absent, ("the stomach",),
    ),
    Anomaly(
        "double-bubble", ("abdomen",), "duodenum", ("stomach", "abdomen"), "mm", (6.0, 30.0),
        "Fluid-filled dilated duodenum beside the stomach (diameter; the range is ours)",
        f"{_ISUOG_SCAN}; Nelson et al., Obstet Gynecol 1982;59:657-60",
        _plain(edit_trunk.add_bubble), edit_trunk.bubble_diameter, ("the stomach",),
    ),
    Anomaly(
        "omphalocele", ("abdomen",), "omphalocele", ("abdomen", "spine"), "mm", (10.0, 80.0),
        "Sac with abdominal contents before the wall at the cord's insertion (longest diameter; the range is ours)",
        f"{_ISUOG_SCAN}; Kleinrouweler et al., Fetal Diagn Ther 2011;30:60-9",
        _plain(edit_trunk.add_sac), edit_trunk.sac_diameter,
    ),
    Anomaly(
        "hydronephrosis", ("kidneys",), "renal-pelvis", ("renal-pelvis", "kidney", "abdomen", "spine"), "mm",
        (4.0, 30.0), "Anteroposterior renal pelvic diameter of 4 mm or more to 27, of 7 mm or more from 28 weeks",
        "Nguyen et al. (UTD classification system), J Pediatr Urol 2014;10:982-98",
        _plain(edit_trunk.widen_pelvis), edit_trunk.pelvis_depth,
    ),
    Anomaly(
        "cardiomegaly", ("four-chamber", "thorax"), "heart", ("heart", "thorax"), "ratio", (0.56, 0.80),
        "Cardiothoracic circumference ratio above 0.56, the mean of 0.50 and two SD of 0.03 (our rounding)",
        f"Paladini et al., Arch Dis Child 1990;65:20-3; {_ISUOG_HEART}",
        _plain(edit_heart.enlarge_heart), edit_heart.heart_ratio,
    ),
    Anomaly(
        "single-ventricle", ("four-chamber",), "left-ventricle", ("left-ventricle", "right-ventricle"), "present",
        (1.0, 1.0), "One ventricle instead of two", _ISUOG_HEART,
        _plain(edit_heart.join_ventricles), edit_heart.ventricles_missing, ("the ventricular septum",),
    ),
    Anomaly(
        "ventricular-septal-defect", ("four-chamber",), "septal-defect", edit_heart.CHAMBERS, "mm", (1.0, 12.0),
        "Gap in the septum between the ventricles (its length; the range is ours)", _ISUOG_HEART,
        _plain(edit_heart.open_ventricular_septum), edit_heart.defect_length, ("the ventricular septum",),
    ),
    Anomaly(
        "atrioventricular-septal-defect", ("four-chamber",), "septal-defect", edit_heart.CHAMBERS, "mm", (2.0, 18.0),
        "Gap at the crux, of both septa, with one common valve (its length; the range is ours)", _ISUOG_HEART,
        _plain(edit_heart.open_crux), edit_heart.defect_length, ("the ventricular septum",),
    ),
    Anomaly(
        "short-femur", ("femur",), "femur", ("femur",), "SD", (-10.0, -2.0),
        "Femur length 2 standard deviations or more below the mean for the gestational age (dysplasias: 3 or more)",
        f"Krakow et al., Genet Med 2009;11:127-33; mean and SD: {_GROWTH}",
        _plain(edit_limbs.shorten_femur), edit_limbs.femur_score,
    ),
    Anomaly(
        "bowed-femur", ("femur",), "femur", ("femur",), "degrees", (15.0, 90.0),
        "Shaft bent: the angle between its ends (the range is ours)", "Krakow et al., Genet Med 2009;11:127-33",
        _plain(edit_limbs.bend_femur), edit_limbs.femur_angle,
    ),
    Anomaly(
        "cleft-lip", ("face-lips",), "upper-lip", ("upper-lip",), "mm", (1.0, 10.0),
        "Gap in the upper lip beside its middle (its width; the range is ours)",
        f"{_ISUOG_SCAN}; Maarse et al., Ultrasound Obstet Gynecol 2010;35:495-502",
        _plain(edit_limbs.split_lip), edit_limbs.cleft_width,
    ),
)  # fmt: skip
ANOMALIES: dict[str, Anomaly] = {a.name: a for a in _ALL}
