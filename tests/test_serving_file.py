"""A fine-tuned model in one file: what is saved is loaded, anything else is refused, nothing is run."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from models import KINDS, made
from slices.encoders import load_encoder, save_encoder
from slices.training.evaluation.report import EvaluateConfig, evaluate
from slices.training.evaluation.selection import scaled
from slices.training.serving import TrainedModel, load_model, save_model
from slices.training.serving.build import trained_models
from slices.training.serving.model import decide

QUICK = ("binary", "multilabel", "quantiles")


@pytest.fixture
def model(tiny: dict[str, Any], tmp_path: Path) -> TrainedModel:
    return made(tiny, tmp_path).model


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in sorted(KINDS)],
)
def test_what_is_saved_predicts_the_same_bit_by_bit(
    kind: str, ending: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    model, _, data, _ = made(tiny, tmp_path, kind)
    loaded = load_model(save_model(tmp_path / f"there/model.{ending}", model))
    batch = data.cut(data.splits["test"], normalize=False)
    expected, found = model.predict(batch), loaded.predict(batch)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name].nan_to_num(2), expected[name].nan_to_num(2)) for name in expected)
    without = {"variables": ()}  # which are compared as variables
    assert dataclasses.replace(loaded.info, **without) == dataclasses.replace(model.info, **without)
    assert loaded.info.columns == model.info.columns
    assert loaded.task == model.task and loaded.card.units == model.card.units
    assert not loaded.training


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_raw_units_give_what_the_module_gives_of_normalised_ones(
    kind: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    model, module, data, _ = made(tiny, tmp_path, kind)
    rows = data.splits["test"]
    with torch.no_grad():
        expected = module._predict(data.cut(rows))
    found = model.uncalibrated().predict(data.cut(rows, normalize=False))
    assert torch.equal(found["logits"], expected["logits"]) and torch.equal(found["probs"], expected["probs"])


def informative(file: Path) -> None:
    """Gives a binary prediction file labels that are drawn from its predictions, made more extreme."""
    table = pl.read_parquet(file)
    prob = table.filter(pl.col("output") == 1)["prediction"].to_numpy().astype(float)
    prob = np.random.default_rng(0).permuted(np.linspace(0.2, 0.8, len(prob)))
    truth = np.random.default_rng(1).random(len(prob)) < scaled(prob, 0.4)
    both = {
        "prediction": np.stack([1 - prob, prob], 1).ravel(),
        "label": np.stack([~truth, truth], 1).ravel(),
    }
    table.with_columns(**{name: pl.Series(of).cast(pl.Float32) for name, of in both.items()}).write_parquet(
        file
    )


def test_temperature_and_threshold_are_those_of_the_evaluation(tiny: dict[str, Any], tmp_path: Path) -> None:
    _, module, data, file = made(tiny, tmp_path, "prefixes")
    informative(file)
    (model,) = trained_models(module, data, file, "prefixes").values()
    info = model.info
    evaluation = evaluate(EvaluateConfig(predictions=(str(file),), n_resamples=2))
    (choice,) = evaluation.choices.values()
    assert info.temperature == choice.temperature == pytest.approx(0.4, abs=0.15)
    assert info.thresholds == choice.thresholds != (None,)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "ordinal", "a step"])
def test_probabilities_are_scaled_as_in_the_evaluation(
    kind: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    model, _, data, _ = made(tiny, tmp_path, kind)
    batch = data.cut(data.splits["test"], normalize=False)
    plain, calibrated = (at(model, heat).predict(batch)["probs"] for heat in (None, 0.3))
    flat = plain.reshape(-1, plain.shape[-1]).double().numpy()
    expected = scaled(flat.ravel(), 0.3).reshape(flat.shape) if kind == "multilabel" else scaled(flat, 0.3)
    np.testing.assert_allclose(calibrated.reshape(flat.shape).numpy(), expected, atol=1e-5)
    assert not torch.allclose(plain, calibrated)


def at(model: TrainedModel, temperature: float | None) -> TrainedModel:
    """The same model at another temperature."""
    info = dataclasses.replace(model.info, temperature=temperature)
    return TrainedModel(model.encoder, model.head, model.normalizer, info)


def test_the_decision_is_the_same_at_the_temperature_and_without(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    """A temperature keeps the order, so the threshold goes with it."""
    model, _, data, _ = made(tiny, tmp_path, "prefixes")
    batch = data.cut(data.splits["test"], normalize=False)
    with_it, without = at(model, 0.3).predict(batch), model.uncalibrated().predict(batch)
    calibrated = decide(with_it["probs"], "binary", at(model, 0.3).thresholds)
    assert 0 < with_it["predicted"][:, 1].mean() < 1
    assert torch.equal(with_it["predicted"], without["predicted"])
    assert (calibrated != without["predicted"]).sum() <= 2  # but for the stay that is the threshold


def test_a_temperature_that_validation_rows_do_not_determine_is_not_used(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    """Rows of one class are best served by probabilities of 0 and 1, or of a half: no use for new stays."""
    model, module, data, file = made(tiny, tmp_path)
    pl.read_parquet(file).with_columns(label=(pl.col("output") == 0).cast(pl.Float32)).write_parquet(file)
    (model,) = trained_models(module, data, file, "one class").values()
    assert model.info.temperature is None and model.info.thresholds == (None,)
    assert "end of the range" in model.info.notes[0] and "0 positive" in model.info.notes[1]


def test_the_file_says_what_is_needed_elsewhere(tiny: dict[str, Any], tmp_path: Path) -> None:
    model, _, data, _ = made(tiny, tmp_path)
    info = load_model(save_model(tmp_path / "m.pt", model)).info
    assert info.task.predict_at == 48.0 and info.task.classes == data.task.classes  # type: ignore[union-attr]
    assert [v.unit for v in info.columns] == list(data.units) and info.view.resolution == 4.0
    assert info.columns == data.store.variables and info.static_columns == tuple(data.static_columns)
    assert info.data == data.fingerprint() and "slices-training" in info.versions


class Bomb:
    def __reduce__(self) -> Any:
        return print, ("it ran",)


def test_nothing_in_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"header": Bomb(), "weights": {}}, tmp_path / "bomb.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "pickle.pt"):
        with pytest.raises(ValueError, match=name):
            load_model(tmp_path / name)
    assert "it ran" not in capsys.readouterr().out


def test_other_files_are_refused_by_name(model: TrainedModel, tmp_path: Path) -> None:
    for ending in ("pt", "safetensors"):
        encoder = save_encoder(tmp_path / f"encoder.{ending}", model.encoder, model.normalizer)
        with pytest.raises(ValueError, match=rf"encoder.{ending}.*not 'slices-model'"):
            load_model(encoder)
        whole = save_model(tmp_path / f"model.{ending}", model)
        with pytest.raises(ValueError, match=rf"model.{ending}.*not 'slices-encoder'"):
            load_encoder(whole)
        whole.write_bytes(whole.read_bytes()[:-100])
        with pytest.raises(ValueError, match=rf"model.{ending} is damaged|cannot read .*model.{ending}"):
            load_model(whole)
    with pytest.raises(FileNotFoundError, match=r"no model at .*gone.pt"):
        load_model(tmp_path / "gone.pt")
    with pytest.raises(ValueError, match=r"must end in .pt or .safetensors"):
        load_model(tmp_path / "model.ckpt")


CHANGES: list[tuple[str, Any, str]] = [
    ("format_version", 99, "format version 99"),
    ("head.hidden_dims", [9], r"layers\.0\.0\.weight has shape \(8, 8\), not \(9, 8\)"),
    ("head.hiden_dims", [8], "did you mean 'hidden_dims'"),
    ("encoder.name", "nowhere.Encoder", "unknown encoder 'nowhere.Encoder'"),
    ("encoder.config.d_input", 3, "45|46"),
    ("encoder.normalizer", None, "no normaliser"),
    ("model.temperature", -1.0, "temperature=-1.0"),
    ("model.thresholds", [2.0], "thresholds"),
    ("model.thresholds", [0.5, 0.5], "2 thresholds for 1 labels"),
    ("model.view.resolution", "hourly", "resolution"),
    ("model.variables", [{"name": "hr"}], "1 are named"),
]


@pytest.mark.parametrize(("key", "value", "answer"), CHANGES, ids=[f"{k}={v}" for k, v, _ in CHANGES])
def test_what_does_not_fit_is_said_with_the_file(
    key: str, value: Any, answer: str, model: TrainedModel, tmp_path: Path
) -> None:
    path = save_model(tmp_path / "model.pt", model)
    content = torch.load(path, weights_only=True)
    *parents, last = key.split(".")
    part = content["header"]
    for parent in parents:
        part = part[parent]
    part[last] = value
    torch.save(content, path)
    with pytest.raises(ValueError, match=answer) as refused:
        load_model(path)
    assert str(path) in str(refused.value)


def test_a_model_that_could_not_be_loaded_is_not_written(model: TrainedModel, tmp_path: Path) -> None:
    model.encoder.added = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"m.pt is not written.*unexpected added\.weight"):
        save_model(tmp_path / "m.pt", model)
    assert not (tmp_path / "m.pt").exists()


def test_weights_too_many_or_too_few_are_listed(model: TrainedModel, tmp_path: Path) -> None:
    path = save_model(tmp_path / "model.pt", model)
    content = torch.load(path, weights_only=True)
    content["weights"]["tail.weight"] = torch.ones(1)
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"unexpected tail\.weight"):
        load_model(path)
    del content["weights"]["tail.weight"], content["weights"]["head.layers.0.0.weight"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"missing layers\.0\.0\.weight"):
        load_model(path)
