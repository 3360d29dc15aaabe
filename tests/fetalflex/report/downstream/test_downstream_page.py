from fetalflex.downstream.data.anomalies import anomaly_task
from fetalflex.downstream.data.planes import plane_task
from fetalflex.downstream.detectors.run import run_detector
from fetalflex.downstream.statistics.summary import downstream_report
from fetalflex.downstream.study import Study, run_training
from fetalflex.params_evaluate import Evaluate
from fetalflex.report.downstream.page import render_downstream
from tests.fetalflex.downstream.made import labelled, material

PARAMS = Evaluate(models=("resnet",), steps=1, batch_size=4, seeds=1, few_shot=(0.5,), few_shot_seeds=1,
                  leave_center_seeds=1, bootstrap=20)  # fmt: skip


def page(preset, **tasks):
    planes = plane_task(labelled(24, "r"), labelled(24, "s"), labelled(24, "t"), labelled(6, "j"))
    study = Study(PARAMS, 1, **({"planes": planes, "anomalies": anomaly_task(material())} | tasks))
    kinds = {s.task for s in study.trainings()} & {
        n for n, t in (("plane", study.planes), ("anomaly", study.anomalies)) if t
    }
    outcomes = {s: run_training(study, s) for s in study.trainings() if s.task in kinds}
    found = {}
    if study.anomalies:
        found = {"gaussian": run_detector("gaussian", study.anomalies, PARAMS, 1, None)}
    return render_downstream(downstream_report(study, outcomes, found), study, found, preset=preset)


def test_shows_every_part_and_is_one_file_without_a_clock():
    html = page("cpu64")
    for part in ("Verdicts", "Protocol", "Planes", "Anomalies", "Severity", "Where the heat lies", "Examples",
                 "One center left out", "Confusion matrices", "few patients", "random, nothing pretrained",
                 "synthetic pair", "real abnormal image"):  # fmt: skip
        assert part in html
    assert "http" not in html
    assert "shows that the machinery works, and nothing else" not in html
    assert html == page("cpu64")


def test_the_demo_says_that_it_shows_the_machinery_alone():
    assert "shows that the machinery works, and nothing else" in page("demo", anomalies=None)
