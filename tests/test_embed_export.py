"""``slices-embed`` and ``slices-export``: embeddings of any stays, and a graph that needs no SLICES."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from cli import CommandLine
from models import KINDS, made
from quick import data_for
from slices.encoders import EncoderCard, build_encoder, save_encoder
from slices.training.serving import save_model
from slices.training.serving.exporting import export_model, save_exported

ROOT = Path(__file__).resolve().parents[1]


def embedded(cli: CommandLine, *words: str) -> pl.DataFrame:
    done = cli("embed", *words, "hydra.run.dir=embedded")
    assert done.status == 0, done.err
    return pl.read_parquet("embedded/embeddings.parquet")


@pytest.fixture
def tiny_words(tiny: dict[str, Any]) -> list[str]:
    return [f"data.dataset_dir={tiny['dataset_dir']}", "data.source.n_stays=120"]


def test_embeddings_come_in_batches_as_of_all_at_once(
    cli: CommandLine, tiny: dict[str, Any], tiny_words: list[str], tmp_path: Path
) -> None:
    model, module, _, _ = made(tiny, tmp_path)
    file = save_model(tmp_path / "model.safetensors", model)
    found = embedded(cli, f"model={file}", *tiny_words, "data.batch_size=7")
    data = data_for(tiny)
    data.setup()
    batch = data.cut(np.arange(len(data.store)))
    assert dict(found.schema)["embedding"] == pl.Array(pl.Float32, 8)
    assert found["stay_id"].to_list() == batch["stay_id"].tolist() and set(found["time"]) == {48.0}
    np.testing.assert_allclose(found["embedding"].to_numpy(), module.embed(batch), atol=1e-5)
    steps = embedded(cli, f"model={file}", *tiny_words, "per_step=true")
    assert len(steps) == int(batch["padding_mask"].sum())
    last = steps.group_by("stay_id", maintain_order=True).last()  # which is what a GRU pools
    np.testing.assert_allclose(last["embedding"].to_numpy(), found["embedding"].to_numpy(), atol=1e-5)
    early = embedded(cli, f"model={file}", *tiny_words, "at=[12]")
    third = steps.filter(pl.col("time") == 8.0)  # the step that ends at 12
    np.testing.assert_allclose(early["embedding"].to_numpy(), third["embedding"].to_numpy(), atol=1e-5)
    assert set(early["time"]) == {12.0}


@pytest.mark.slow
def test_a_pretrained_encoder_is_taken_with_its_own_view(
    cli: CommandLine, on_tiny: list[str], tiny_words: list[str]
) -> None:
    small = ["encoder=gru", "encoder.d_model=8", "ssl=mae"]
    assert cli("pretrain", *on_tiny, *small, "hydra.run.dir=pretrained").status == 0
    found = embedded(cli, "model=outputs/encoder.pt", *tiny_words)
    assert len(found) == 120
    (checkpoint,) = Path("pretrained").glob("checkpoints/last.ckpt")
    again = embedded(cli, f"model={checkpoint}", *tiny_words)
    np.testing.assert_allclose(again["embedding"].to_numpy(), found["embedding"].to_numpy(), atol=1e-6)
    pooled = embedded(cli, "model=outputs/encoder.pt", *tiny_words, "pooling=mean")
    assert not np.allclose(pooled["embedding"].to_numpy(), found["embedding"].to_numpy())
    done = cli("embed", "model=outputs/encoder.pt", *tiny_words, "pooling=attention")
    assert done.status == 2 and "nobody trained" in done.err and "pooling=mean" in done.err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ([], "no encoder at outputs/encoder.pt"),
        (["model=bare.pt"], "bare.pt"),
        (["per_step=true", "pooling=mean"], "leave it out"),
        (["pooling=none"], "per_step=true"),
        (["data.horizon=24"], "data.horizon=24: stays are cut"),
    ],
)
def test_mistakes_are_answered(words: list[str], answer: str, cli: CommandLine) -> None:
    save_encoder("bare.pt", build_encoder("linear", {"d_input": 3}), card=EncoderCard())
    done = cli("embed", *words)
    assert done.status == 2 and answer in done.err


WITHOUT_SLICES = """
import sys
sys.modules["slices"] = None  # importing it fails
import torch
program = torch.export.load("model.pt2").module()
cases = torch.load("cases.pt", weights_only=True)
for inputs, expected in cases:
    found = program(*inputs)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)
assert not any(name.startswith("slices.") for name in sys.modules)
print("alike", len(cases))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "attention"])
def test_the_exported_graph_runs_without_slices(
    kind: str, cli: CommandLine, tiny: dict[str, Any], tmp_path: Path
) -> None:
    model, _, data, _ = made(tiny, tmp_path, kind)
    save_model(tmp_path / "model.safetensors", model)
    done = cli("export", f"model={tmp_path}")
    assert done.status == 0 and "12 steps, 46 variables" in done.out, done.err
    cases = []
    for size in (1, 3, 11):
        batch = data.cut(data.splits["test"][:size], normalize=False)
        names = ("timeseries", "mask", "padding_mask", "times", "counts")
        inputs = tuple(batch[name] for name in names)
        with torch.no_grad():
            cases.append((inputs, model(*inputs)))
    torch.save(cases, tmp_path / "cases.pt")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_SLICES], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0 and "alike 3" in ran.stdout, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("encoder", ["transformer", "gru", "lstm", "linear"])
def test_every_kind_of_model_can_be_exported(
    kind: str, encoder: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    if encoder not in ("gru", "lstm") and kind == "a step":
        pytest.skip("one label a step wants a causal encoder")
    model = made(tiny, tmp_path, kind, encoder=encoder).model
    export_model(model, 12)


@pytest.mark.slow
def test_a_graph_that_gives_other_numbers_is_not_written(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(tiny, tmp_path).model
    other = made(tiny, tmp_path, seed=1).model
    of_other = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda _, *args, **options: of_other(other, *args, **options))
    with pytest.raises(ValueError, match="gives other logits than the model, for 1 stays"):
        save_exported(tmp_path / "model.pt2", model, 12)
    assert not list(tmp_path.glob("*.pt2"))


@pytest.mark.slow
def test_steps_are_the_grids(cli: CommandLine, tiny: dict[str, Any], tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", made(tiny, tmp_path).model)
    done = cli("export", f"model={tmp_path}", "n_steps=7")
    assert done.status == 2 and "n_steps=7: the model's grid has 12" in done.err
    section = tiny | {"resolution": "timestamps"}
    save_model(tmp_path / "model.safetensors", made(section, tmp_path).model)
    done = cli("export", f"model={tmp_path}")
    assert done.status == 2 and "n_steps is missing" in done.err
    assert cli("export", f"model={tmp_path}", "n_steps=20", "file=there/m.pt2").status == 0
    assert Path("there/m.pt2").is_file()
    done = cli("export")
    assert done.status == 2 and "model is missing" in done.err
