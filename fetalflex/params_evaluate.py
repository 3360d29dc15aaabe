"""What of the parameters says how the downstream evaluation is done: fixed here before it runs, printed on its page."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fetalflex.params_training import Fraction, Positive, Rate, Section

ModelName = Literal["resnet", "densenet", "efficientnet", "convnext", "vit", "swin"]
MODELS: tuple[ModelName, ...] = ("resnet", "densenet", "efficientnet", "convnext", "vit", "swin")
Arm = Literal["real", "real+synthetic", "synthetic", "real+augmentation", "real+unseen", "real+noise"]
ARMS: tuple[Arm, ...] = ("real", "real+synthetic", "synthetic", "real+augmentation")
TaskName = Literal["plane", "anomaly"]
Detector = Literal["neighbours", "gaussian", "counterfactual"]
Shots = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=20)]


class Evaluate(Section):
    """Downstream: models x tasks x arms x seeds, few-shot points and centers left out; one training is one chunk.

    `arms`: `real` and `real+synthetic` are always among them; `real+augmentation` is the rival with classic
    augmentation; `real+unseen` (real images of the judge's patients in place of synthetic ones: must help) and
    `real+noise` (noise under random labels: must not) are controls. `ratio`: synthetic images per real one in
    `real+synthetic`, at most; `more_ratios` are told beside it. Pre-registered: `plane_metric`, `anomaly_metric`,
    `anomaly_test`, `shots` (share of the training patients). `anomaly_test`: `severity` (moderate and severe against
    mild ventriculomegaly) and `kind` (ventriculomegaly against other anomalies) within one source, `pairs`
    (counterfactual pairs), `source` (abnormal against normal of other sources).
    """

    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = MODELS
    size: Literal["tiny", "small", "full"] = "tiny"
    pretrained: dict[ModelName, str] = Field(default_factory=dict)
    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1)] = ("plane", "anomaly")
    arms: tuple[Arm, ...] = ("real", "real+synthetic", "real+augmentation")
    plane_metric: Literal["accuracy", "macro_f1", "auc", "auprc"] = "macro_f1"
    anomaly_metric: Literal["auc", "auprc", "paired_auc"] = "paired_auc"
    anomaly_test: Literal["severity", "kind", "pairs", "source"] = "pairs"
    shots: Shots = 1.0
    seeds: Positive = 2
    steps: Positive = 80
    batch_size: Annotated[int, Field(ge=2)] = 16
    learning_rate: Rate = 4e-3
    ratio: Ratio = 1.0
    more_ratios: tuple[Ratio, ...] = ()
    few_shot: tuple[Shots, ...] = ()
    few_shot_seeds: Positive = 3
    leave_center_seeds: Annotated[int, Field(ge=0)] = 0
    detectors: tuple[Detector, ...] = ("neighbours", "gaussian", "counterfactual")
    reconstruction_time: Fraction = 0.5
    reconstruction_steps: Positive = 4
    bootstrap: Positive = 1000

    @model_validator(mode="after")
    def _is_possible(self) -> "Evaluate":
        for name in ("models", "tasks", "arms", "more_ratios", "few_shot", "detectors"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names something twice; found {', '.join(map(str, values))}")
        if not {"real", "real+synthetic"} <= set(self.arms):
            raise ValueError("arms must hold real and real+synthetic: they are what is compared")
        if self.ratio in self.more_ratios:
            raise ValueError(f"more_ratios holds the ratio {self.ratio:g} itself; expected others")
        if self.anomaly_metric == "paired_auc" and self.anomaly_test != "pairs":
            raise ValueError(f"anomaly_metric paired_auc needs anomaly_test pairs; found {self.anomaly_test}")
        if "densenet" in self.pretrained:
            raise ValueError("densenet has no pretrained weights here; expected one of the five others")
        return self
