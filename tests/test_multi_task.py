"""Several tasks on one encoder: labels where there are some, one head each, one loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from omegaconf import DictConfig

from cli import CommandLine
from quick import choose, data_for, trainer_for
from slices.training import FineTuneModule, StayDataModule
from slices.training.data.samples import Samples
from slices.training.data.together import together
from slices.training.errors import UserError

ALSO = {
    "length_of_stay": {"weight": 0.01},
    "organ_failure": {"class_weight": "balanced"},
    "length_of_stay_class": {"head_type": "linear"},
}


def data_and_module(
    config: DictConfig, section: dict[str, Any], also: dict[str, Any]
) -> tuple[StayDataModule, FineTuneModule]:
    config = choose(config, task="in_hospital_mortality", encoder="gru")
    config.data, config.encoder, config.training = section, {"d_model": 16}, {"freeze_encoder": False}
    config.task = {"also": also}
    torch.manual_seed(0)
    module = FineTuneModule(config)
    return data_for(section, "in_hospital_mortality", also=tuple(also)), module


def alone(section: dict[str, Any], task: str) -> dict[tuple[int, float], Any]:
    """Its labels by stay and prediction time, as a data module of this task alone has them."""
    data = data_for(section, task)
    data.prepare_data()
    data.setup()
    batch = data.cut(np.arange(len(data.samples.stay)))
    columns = ("stay_id", "prediction_time", "label", "label_mask")
    rows = zip(*(batch[column].tolist() for column in columns), strict=True)
    return {(stay, time): (label, mask) for stay, time, label, mask in rows}


def test_labels_are_those_of_each_task_alone(tiny: dict[str, Any]) -> None:
    data = data_for(tiny, "in_hospital_mortality", also=tuple(ALSO))
    data.prepare_data()
    data.setup()
    batch = data.cut(np.arange(len(data.samples.stay)))
    keys = list(zip(batch["stay_id"].tolist(), batch["prediction_time"].tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    assert len({time for _, time in keys}) == 2  # organ failure is asked at 24 hours, the others at 48
    for task in ("in_hospital_mortality", *ALSO):
        of = "" if task == "in_hospital_mortality" else f"/{task}"
        label, mask = batch[f"label{of}"], batch[f"label_mask{of}"]
        known = mask.reshape(len(mask), -1).any(1)
        got = {key: (label[i].tolist(), mask[i].tolist()) for i, key in enumerate(keys) if known[i]}
        assert got == alone(tiny, task) and not known.all()
    train = data.splits["train"]
    label, mask = data.split_labels("train", "length_of_stay")
    np.testing.assert_array_equal(label, batch["label/length_of_stay"][train].numpy())


def test_the_loss_is_the_weighted_sum_and_missing_labels_count_nothing(
    finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    also: dict[str, Any] = ALSO | {"organ_failure": {}}
    data, module = data_and_module(finetune_config, tiny, also)
    data.prepare_data()
    data.setup()
    module.eval()
    batch = data.cut(data.splits["val"])
    total = module._step(batch, "val", 0)
    ((names, sums),) = module.means["val"].sums.items()
    logged = dict(zip(names, sums / sums[-1], strict=False))
    weights = dict.fromkeys(["in_hospital_mortality", *also], 1.0) | {"length_of_stay": 0.01}
    wanted = sum(weight * logged[f"val/{name}/loss"] for name, weight in weights.items())
    torch.testing.assert_close(total.detach(), torch.as_tensor(wanted))
    for name in also:
        masked = ~batch[f"label_mask/{name}"]
        batch[f"label/{name}"] = batch[f"label/{name}"].masked_fill(masked, 1)
    torch.testing.assert_close(module._step(batch, "val", 0), total)


def test_every_head_trains_and_loads_again(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data, module = data_and_module(finetune_config, tiny, ALSO)
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=data)
    assert not [name for name, weight in module.named_parameters() if torch.equal(weight, before[name])]
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    names = {"test/auroc", "test/length_of_stay/mae", "test/organ_failure/auroc", "test/organ_failure/loss"}
    assert names | {"test/length_of_stay_class/accuracy", "test/in_hospital_mortality/loss"} <= set(tested)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = FineTuneModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    assert again.others["organ_failure"].loss.class_weight is not None  # taken from the labels of then
    batch = data.cut(data.splits["test"])
    one, other = (m.eval().predict_step(batch, 0) for m in (module, again))
    assert {f"probs/{name}" for name in ALSO} <= set(one)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_one_file_of_all_predictions_and_one_task_judged(cli: CommandLine, on_tiny: list[str]) -> None:
    also = "+task.also={length_of_stay: {weight: 0.01}, organ_failure: {}, time_to_death: {n_classes: 4}}"
    own = [*on_tiny[1:], "data.dataset_dir=made", "data/definitions=time_to_death", "data.source.n_stays=300"]
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=8"]
    tuned = cli("finetune", *own, *scratch, also, "hydra.run.dir=tuned")
    assert tuned.status == 0, tuned.err
    table = pl.read_parquet("tuned/predictions.parquet")
    outputs = {str(task): rows["output"].n_unique() for (task,), rows in table.group_by("task")}
    assert outputs == {
        "in_hospital_mortality": 2,
        "length_of_stay": 1,
        "organ_failure": 5,
        "time_to_death": 8,
    }
    done = cli("evaluate", "predictions=[tuned]", "n_resamples=20")
    assert done.status == 2 and "task_name=in_hospital_mortality" in done.err, done.err
    for task, metric in (
        ("in_hospital_mortality", "auroc"),
        ("length_of_stay/", "mae"),
        ("time_to_death/", "concordance"),
    ):
        name = task.rstrip("/")
        judged = cli(
            "evaluate", "predictions=[tuned]", f"task_name={name}", "n_resamples=20", f"folder={name}"
        )
        assert judged.status == 0, judged.err
        metrics = json.loads(Path(name, "evaluation.json").read_text())["metrics"]
        found = next(m["estimate"] for m in metrics if (m["metric"], m["grouping"]) == (metric, "all"))
        prefix = "test/" if name == task else f"test/{task}"
        logged = float(tuned.out.split(f"{prefix}{metric}: ")[1].split()[0])
        assert found == pytest.approx(logged, abs=1e-3)
        file = "model" if name == task else name
        words = [f"model=tuned/{file}.safetensors", "dataset=made", f"hydra.run.dir=new/{name}"]
        assert cli("predict", *words).status == 0
        new = pl.read_parquet(f"new/{name}/predictions.parquet")
        of_task = table.filter(pl.col("label").is_not_null(), task=name)
        both = of_task.join(new, on=["stay_id", "prediction_time", "output"], how="left", suffix="_new")
        assert set(new["prediction_time"]) == set(of_task["prediction_time"])  # each as its own labels are
        np.testing.assert_allclose(both["label_new"], both["label"], atol=1e-5)


@pytest.mark.parametrize(
    ("also", "answer"),
    [
        ("{organ.failure: {}}", "no dot or slash"),
        ("{lenght_of_stay: {}}", "did you mean 'length_of_stay'"),
        ("{in_hospital_mortality: {}}", "the first task already"),
        ("{length_of_stay: {weight: -1}}", "allowed is a number above 0"),
        ("{length_of_stay: {wieght: 1}}", "unknown option 'wieght'"),
        ("{length_of_stay: {head_type: attention}}", "do the same"),
        ("{length_of_stay: {per_step: true}}", "leave them out"),
        ("{length_of_stay: {task_type: binary}}", "length_of_stay"),
    ],
)
def test_what_cannot_be_learnt_together_is_refused(
    also: str, answer: str, cli: CommandLine, on_tiny: list[str]
) -> None:
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=8"]
    done = cli("finetune", *on_tiny, *scratch, f"+task.also={also}")
    assert done.status == 2 and answer in done.err, done.err
    assert "Traceback" not in done.err


def test_a_data_module_without_the_labels_is_refused(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    _, module = data_and_module(finetune_config, tiny, ALSO)
    with pytest.raises(UserError, match="gives no labels of 'length_of_stay'"):
        trainer_for(tmp_path).fit(module, datamodule=data_for(tiny, "in_hospital_mortality"))


def test_samples_at_other_hours_stay_apart() -> None:
    """Of one stay asked at 24 and at 48 hours, no sample sees more than the label's own hours."""
    hours = np.array([48.0, 48.0], np.float32)
    late = Samples(np.array([3, 1]), np.zeros(2, np.float32), hours, np.array([1, 0]), np.ones(2, bool))
    early = Samples(np.array([1, 2]), late.start, hours / 2, np.ones((2, 3)), np.ones((2, 3), bool))
    samples, labels = together({"late": late, "early": early})
    assert list(zip(samples.stay, samples.until, strict=True)) == [(1, 24), (1, 48), (2, 24), (3, 48)]
    assert labels["late"].label_mask.tolist() == [False, True, False, True]
    assert labels["late"].label.tolist() == [0, 0, 0, 1]
    assert labels["early"].label_mask[:, 0].tolist() == [True, False, True, False]


def test_one_label_a_step_beside_one_a_stay(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Hourly prediction times as samples of their own: the stay's label is at one of them."""
    config = choose(finetune_config, task="deterioration", encoder="gru")
    config.data, config.encoder, config.training = tiny, {"d_model": 16}, {"freeze_encoder": False}
    config.task = {"per_step": False, "also": {"in_hospital_mortality": {}}}
    data = data_for(tiny, "deterioration", per_step=False, also=("in_hospital_mortality",))
    module, trainer = FineTuneModule(config), trainer_for(tmp_path)
    trainer.fit(module, datamodule=data)
    batch = data.cut(np.arange(len(data.samples.stay)))
    mortality = batch["label_mask/in_hospital_mortality"]
    assert set(batch["prediction_time"][mortality].tolist()) == {48.0}
    assert 0 < int(mortality.sum()) < int(batch["label_mask"].sum())
    of_steps = data_for(tiny, "deterioration", per_step=True, also=("in_hospital_mortality",))
    with pytest.raises(ValueError, match=r"one label a stay.*per_step=false"):
        of_steps.setup()
