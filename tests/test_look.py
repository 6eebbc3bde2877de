"""Single stays are drawn where they are asked for, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from adapting import MORTALITY, prepared
from cli import CommandLine
from slices.training.data.schema import TaskInfo
from slices.training.looking.grid import MOST_VARIABLES, bin_edges, gridded, most_measured
from slices.training.looking.known import known_of_stays
from slices.training.looking.plane import section_of
from slices.training.looking.risk import last_real, mean_of_real

NO_TEST = ["hydra.run.dir=run", "data.splits.test_fraction=0"]
NARROW = ["encoder.d_model=8", "encoder.n_layers=1"]


def page_of(cli: CommandLine, *words: str) -> str:
    done = cli("look", *words, "hydra.run.dir=look")
    assert done.status == 0, done.err
    assert "holds what was measured of single patients" in done.out
    page = Path("look/report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="?(https?:|//)', page) and "<script" not in page
    assert page.count("<figure>") == page.count("aria-label=")
    return page


@pytest.mark.parametrize(
    ("ssl", "said"),
    [("forecast", "predicted where it was hidden"), pytest.param("jepa", "", marks=pytest.mark.slow)],
)
def test_stays_of_pretraining(ssl: str, said: str, on_tiny: list[str], cli: CommandLine) -> None:
    assert cli("pretrain", *on_tiny, *NARROW, f"ssl={ssl}", *NO_TEST).status == 0
    page = page_of(cli, "run", "n_stays=1", "split=train", "color_by=[in_hospital_mortality,unit]")
    (stay,) = re.findall(r"<h2>Stay (\d+)</h2>", page)
    assert "by in hospital mortality." in page and "by unit." in page and "by values measured" not in page
    assert re.search(r"survived: \d+ around \(", page)
    assert (said or "measured") in page and ("root mean square error" in page) == bool(said)
    done = cli("look", "run", "split=test")
    assert done.status == 2 and "split=test: the run had no such stays" in done.err
    done = cli("look", "run", f"stay_ids=[{stay}]", "split=val")
    assert done.status == 2 and f"stay_ids: {stay} is no stay of the split 'val'" in done.err


@pytest.mark.slow
def test_stays_may_be_named(on_tiny: list[str], cli: CommandLine) -> None:
    assert cli("pretrain", *on_tiny, *NARROW, "hydra.run.dir=run").status == 0
    stays = re.findall(r"<h2>Stay (\d+)</h2>", page_of(cli, "run", "n_stays=2", "split=train"))
    one = page_of(cli, "run", f"stay_ids=[{stays[1]}]", "split=train")
    assert re.findall(r"<h2>Stay (\d+)</h2>", one) == stays[1:]


@pytest.mark.parametrize(
    ("task", "colored"),
    [
        ("in_hospital_mortality", "predicted probability: died"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("deterioration", "predicted probability: "),
                ("time_to_death", "predicted incidence by "),
                ("organ_failure", "predicted organ failure (of "),
                ("length_of_stay_class", "likeliest length of stay class"),
                ("length_of_stay", "predicted length of stay"),
            )
        ),
    ],
)
def test_stays_of_fine_tuning(task: str, colored: str, on_tiny: list[str], cli: CommandLine) -> None:
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=8"]
    if task == "time_to_death":
        scratch += ["data/definitions=time_to_death", "data.dataset_dir=made", "task.n_classes=4"]
    done = cli("finetune", *on_tiny, *scratch, f"task={task}", "hydra.run.dir=run")
    assert done.status == 0, done.err
    page = page_of(cli, "run", "n_stays=1")
    assert page.count("Prediction over time") and page.count("What the last prediction is owed to")
    assert "integrated gradients" in page and "hours since admission" in page
    assert f"by {colored}" in page and "by values measured." in page and "by age (years)." in page
    assert "Correlation with the axes" in page and "<image" in page  # dots are pixels: a page stays light


def test_a_run_that_there_is_not_is_named(cli: CommandLine) -> None:
    assert "run is missing: give its folder" in cli("look").err
    done = cli("look", "elsewhere")
    assert done.status == 2 and "no record of a run at elsewhere/record.yaml" in done.err


def test_without_matplotlib_it_says_so(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slices.training.looking.run.find_spec", lambda name: None)
    done = cli("look", "elsewhere")
    assert done.status == 2 and "pip install 'slices-training[report]'" in done.err


def test_a_map_by_what_is_not_known_or_not_there(
    on_tiny: list[str], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("pretrain", *on_tiny, *NARROW, *NO_TEST).status == 0
    done = cli("look", "run", "n_stays=1", "color_by=[untit]")
    assert done.status == 2 and "unknown color_by 'untit': did you mean 'unit'?" in done.err
    monkeypatch.setattr(
        "slices.training.looking.run.find_spec", lambda name: None if name == "umap" else name
    )
    done = cli("look", "run", "map=umap")
    assert done.status == 2 and "pip install 'slices-training[umap]', or take map=pca" in done.err


@pytest.mark.slow
def test_a_map_by_umap(on_tiny: list[str], cli: CommandLine) -> None:
    pytest.importorskip("umap")
    assert cli("pretrain", *on_tiny, *NARROW, *NO_TEST).status == 0
    page = page_of(cli, "run", "n_stays=1", "map=umap", "color_by=[unit]")
    assert "McInnes" in page and ">UMAP 1<" in page


@pytest.mark.slow
def test_of_windows_a_stay_is_one_dot(on_tiny: list[str], cli: CommandLine) -> None:
    windows = "+data.window={length: 8, stride: 8}"
    assert cli("pretrain", *on_tiny, *NARROW, windows, *NO_TEST).status == 0
    page = page_of(cli, "run", "n_stays=2", "split=train", "color_by=[unit]")
    stays = re.findall(r"<h2>Stay (\d+)</h2>", page)
    (said,) = {int(n) for n in re.findall(r"The first (\d+) stays", page)}
    assert len(set(stays)) == 2 and said < 120  # there are so many stays, and several windows of each


def test_what_is_known_of_stays_is_what_a_loop_finds(tiny: dict[str, Any]) -> None:
    store = prepared(tiny, MORTALITY).store
    known = known_of_stays(store)
    assert {*store.manifest.tasks} <= {*known}
    for task in store.manifest.tasks.values():
        rows = store.labels(task.name)
        for stay, found in zip(store.stay_id, known[task.name], strict=True):
            mine = rows.filter(pl.col("stay_id") == stay)
            last = mine.filter(pl.col("prediction_time") == mine["prediction_time"].max())
            assert found == label_of(task, dict(last.select("column", "value").iter_rows())), task.name
    assert known["age"].name == "age (years)" and known["unit"].dtype == pl.String


def label_of(task: TaskInfo, by_column: dict[int, float]) -> Any:
    if not by_column:
        return None
    if task.task_type == "survival":
        return ("none", *task.classes)[int(by_column[1])]
    if task.task_type == "multilabel":
        return sum(by_column.values())
    return task.classes[int(by_column[0])] if task.classes else by_column[0]


def test_a_map_of_what_does_not_vary() -> None:
    known = {
        "all": pl.Series("all", [None, None, None], dtype=pl.Float64),
        "one": pl.Series("one", ["a"] * 3),
    }
    section = section_of(np.ones((3, 1)), known, "pca", "Three stays")
    assert [drawn.title for drawn in section.figures] == ["all", "one"]
    assert "Grey: not known, 3." in section.figures[0].caption and "nan" not in section.figures[1].alt
    assert "It does not vary." in section.figures[0].alt


def test_the_last_real_step_and_the_mean_of_them() -> None:
    values, real = torch.arange(12.0).reshape(2, 3, 2), torch.tensor([[1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    assert last_real(values, real).tolist() == [[2.0, 3.0], [10.0, 11.0]]
    assert mean_of_real(values, real).tolist() == [[1.0, 2.0], [8.0, 9.0]]
    assert mean_of_real(values[:, 0], real).tolist() == values[:, 0].tolist()


def naive(values: Any, there: Any, times: Any, edges: Any) -> list[list[float]]:
    cells: list[list[list[float]]] = [[[] for _ in edges[1:]] for _ in values[0]]
    for t, hour in enumerate(times):
        for d, value in enumerate(values[t]):
            if there[t, d]:
                (k,) = (k for k in range(len(edges) - 1) if edges[k] <= hour < edges[k + 1])
                cells[d][k].append(value)
    return [[float(np.mean(cell)) if cell else np.nan for cell in row] for row in cells]


@pytest.mark.parametrize("last", [0.0, 5.5, 47.0, 48.0, 300.0])
def test_a_grid_is_what_a_loop_gives(last: float) -> None:
    random = np.random.default_rng(0)
    times = np.sort(np.append(random.uniform(0, last, 40), last)).astype(np.float32)
    values, there = random.normal(size=(41, 4)), random.random((41, 4)) < 0.3
    edges = bin_edges(times)
    assert edges[0] == 0 and edges[-1] > last
    np.testing.assert_allclose(
        gridded(values, there, times, edges).values, naive(values, there, times, edges)
    )


def test_the_most_measured_come_first() -> None:
    there = np.tri(50, 50, dtype=bool)
    assert most_measured(there).tolist() == list(range(MOST_VARIABLES))
    assert most_measured(np.zeros((3, 2), dtype=bool)).tolist() == []
