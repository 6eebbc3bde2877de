"""What a run leaves to be looked at."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from cli import CommandLine
from leagues import config_of
from pages import assert_labelled, read_page
from slices.training.apps.record import read_record
from slices.training.errors import FailedRun
from slices.training.evaluation.report import EvaluateConfig, Evaluation, evaluate
from slices.training.evaluation.report.curves import operating_curves
from slices.training.report.benchmark import benchmark_page
from slices.training.report.cells import number
from slices.training.report.curves import draw_curves
from slices.training.report.evaluation import evaluation_page
from slices.training.report.labels import label_figures
from slices.training.report.leaving import leave_report, leaving_report
from slices.training.report.logs import Curve, read_logs
from slices.training.report.page import Page, Section, write_page
from slices.training.report.pretraining import pretraining_page
from slices.training.report.style import COLORS, styled
from slices.training.report.survival import survival_figures

FIRST = 876_543_000  # ids begin here
N = 400
LEAST = 10


def write_predictions(folder: Path, kind: str, *, events: float = 0.3, n: int = N) -> list[str]:
    """Two models' files of a task of some kind; every third stay is of validation."""
    random, stays = np.random.default_rng(0), np.arange(n)
    truth = random.random((n, 3))
    one = (truth[:, :1] < events).astype(float)
    labels = {
        "binary": one,
        "multiclass": (truth == truth.max(1, keepdims=True)).astype(float),
        "multilabel": (truth < 0.5).astype(float),
        "regression": 10 * truth[:, :1],
    }
    label = one if kind == "survival" else labels[kind]
    files = []
    for name, noise in (("net", 0.5), ("trees", 1.0)):
        score = label + noise * random.normal(size=label.shape)
        if kind == "multiclass":
            score = np.exp(score) / np.exp(score).sum(1, keepdims=True)
        elif kind not in ("regression",):
            score = 1 / (1 + np.exp(2 - 2 * score))
        if kind == "survival":
            score = score * np.array([[0.4, 1.0]])
        width = score.shape[1]
        table = pl.DataFrame(
            {
                "stay_id": np.repeat(FIRST + stays, width),
                "output": np.tile(np.arange(width), n),
                "prediction": score.ravel(),
                "label": np.broadcast_to(label, score.shape).ravel(),
                "split": np.repeat(np.where(stays % 3, "test", "val"), width),
                "task": "died <b>",
                "task_type": kind,
                "model": name,
            }
        )
        if kind == "survival":
            hours = np.repeat(np.where(one[:, 0] == 1, 20.0, 48.0), 2)
            table = table.with_columns(
                event=1, until=pl.Series(np.tile([24.0, 48.0], n)), label_time=hours, label_event="label"
            )
        table.write_parquet(folder / f"{name}.parquet")
        files.append(str(folder / f"{name}.parquet"))
    wards = np.where(stays < 12, "burns", np.where(stays % 2, "medical", "surgical"))  # of test 8
    pl.DataFrame({"stay_id": FIRST + stays, "ward": wards}).write_csv(folder / "groups.csv")
    return files


def judged(folder: Path, kind: str, **options: Any) -> tuple[Evaluation, EvaluateConfig]:
    files = write_predictions(folder, kind, **options)
    groups = str(folder / "groups.csv")
    config = EvaluateConfig(predictions=tuple(files), groups=groups, n_resamples=5, folder=str(folder))
    return evaluate(config), config


def figures_of(page: Page) -> list[str]:
    return [drawn.name for section in page.sections for drawn in section.figures]


def test_pretraining_and_finetuning_leave_a_page(
    cli_with_reports: CommandLine,
    on_tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cli, pages = cli_with_reports, {}

    def keep(page: Page, folder: Path) -> Path:
        pages[folder.name] = page
        return write_page(page, folder)

    monkeypatch.setattr("slices.training.report.leaving.write_page", keep)
    pretrained = cli("pretrain", *on_tiny, "encoder_path=encoder.pt", "hydra.run.dir=pretrain")
    assert pretrained.status == 0 and "report: " in pretrained.out, pretrained.err
    done = cli("finetune", *on_tiny, "checkpoint_path=encoder.pt", "hydra.run.dir=finetune")
    assert done.status == 0 and "finetune/report.html" in done.out, done.err
    assert figures_of(pages["pretrain"]) == ["loss", "parts", "health"]
    assert figures_of(pages["finetune"])[:2] == ["loss", "parts"]
    for name, page in pages.items():
        assert_labelled(page)
        read = read_page(tmp_path / name / "report.html")
        shown = {row[0]: row[1] for row in read.rows if len(row) == 2}
        metrics = read_record(tmp_path / name)["metrics"]
        metrics.pop("train/loss_step", None)
        assert metrics and metrics.items() <= {(k, v) for k, v in metrics.items() if shown[k] == number(v)}
    assert "hydra.run.dir" not in pages["finetune"].facts["command"]
    assert "checkpoint_path=encoder.pt" in pages["finetune"].facts["command"]


def test_every_number_of_an_evaluation_is_its_own(tmp_path: Path) -> None:
    evaluation, config = judged(tmp_path, "binary")
    with styled():
        page = evaluation_page(evaluation, config, ["seed=0"])
        assert_labelled(page)
        read = read_page(write_page(page, tmp_path))
    of_groups = ["groups_auroc", "groups_auprc", "groups_calibration_in_the_large"]
    drawn = figures_of(page)
    assert (
        drawn[:4] == ["roc", "precision_recall", "calibration", "decision_curve"] and drawn[-3:] == of_groups
    )
    cells = {cell for row in read.rows for cell in row}
    for one in evaluation.estimates:
        assert f"{one.estimate:.4f} [{one.low:.3f}, {one.high:.3f}]" in cells
    for one in evaluation.comparisons:
        assert f"{one.difference:+.4f} [{one.low:+.3f}, {one.high:+.3f}]" in cells
    known = {e.estimate for e in evaluation.estimates} | {e.estimate for e in evaluation.gaps}
    given = {float(cell.split(" [")[0]) for cell in cells if " [" in cell and cell[0] not in "+-"}
    assert all(min(abs(value - one) for one in known) < 1e-4 for value in given)
    text = (tmp_path / "report.html").read_text()
    assert "ward burns: fewer than 10 patients, not shown" in text and "burns (" not in text
    assert "died <b>" not in text and "died &lt;b&gt;" in text
    assert str(FIRST)[:6] not in text


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("multiclass", "classes_0"),
        ("regression", "observed_0"),
        ("multilabel", "roc_0"),
        ("survival", "incidence_0_1"),
    ],
)
def test_each_kind_of_task_has_a_page(tmp_path: Path, kind: str, first: str) -> None:
    evaluation, config = judged(tmp_path, kind, n=150)
    with styled():
        page = evaluation_page(evaluation, config, [])
        assert_labelled(page)
    assert figures_of(page)[0] == first and "groups_" in figures_of(page)[-1]


def test_a_label_that_is_seldom_known_has_few_steps(tmp_path: Path) -> None:
    evaluation, _ = judged(tmp_path, "multilabel", n=1500)
    run = evaluation.tested["net"]
    run.label[40:, 1] = np.nan
    with styled():
        roc, _ = label_figures(evaluation._replace(tested={"net": run}), LEAST)
    steps = {line.get_label()[:7]: len(line.get_xdata()) for line in roc.figure.axes[0].get_lines()}
    assert steps["label 1"] <= 40 // LEAST + 1 and steps["label 0"] > 50
    assert "Each label where it is known." in roc.caption


def test_of_few_patients_no_incidence_is_drawn(tmp_path: Path) -> None:
    evaluation, config = judged(tmp_path, "survival", n=36)
    with styled():
        assert not survival_figures(evaluation, config.min_patients)


def test_labels_of_few_patients_are_not_drawn(tmp_path: Path) -> None:
    evaluation, config = judged(tmp_path, "multilabel", n=150)
    label = evaluation.tested["net"].label
    label[:, 1] = np.where(np.cumsum(label[:, 1]) < LEAST, label[:, 1], 0)
    with styled():
        roc, calibration = evaluation_page(evaluation, config, []).sections[0].figures[:2]
    wanted = ("net", "label", "auroc")
    aurocs = {e.group: e.estimate for e in evaluation.estimates if (e.model, e.grouping, e.metric) == wanted}
    for output in ("0", "2"):
        assert f"label {output}: {aurocs[output]:.3f}" in roc.alt and f"label {output}:" in calibration.alt
    assert "label 1" not in roc.alt + calibration.alt and roc.title == "ROC curve by label: net"


def test_of_incidences_the_mean_and_what_happened_are_drawn(tmp_path: Path) -> None:
    evaluation, config = judged(tmp_path, "survival")
    run = evaluation.tested["net"]
    with styled():
        drawn = evaluation_page(evaluation, config, []).sections[0].figures[0]
    high = np.argsort(run.prediction[:, 0, -1], kind="stable")[-88:]
    mean, happened = run.prediction[high, 0].mean(0), (run.label[high, 1] == 1).mean()
    (panel,) = drawn.figure.axes
    lines = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
    assert len(run.label) == 266 and 0 < happened < 1
    np.testing.assert_allclose(lines["high, predicted"], [0, *mean])
    np.testing.assert_allclose(lines["high, observed"], [0, happened, happened])  # all before the first hour
    assert "low third" in drawn.alt and "hours" in panel.get_xlabel()


def test_of_few_patients_nothing_is_drawn(tmp_path: Path) -> None:
    evaluation, config = judged(tmp_path, "binary", events=0.02)
    label = evaluation.tested["net"].label
    assert 0 < label.sum() < LEAST
    with styled():
        page = evaluation_page(evaluation, config, [])
        nobody = evaluation_page(evaluation._replace(patients=9), config, [])
    assert "roc" not in figures_of(page)
    (table,) = (table for table in page.sections[0].tables if table.title == "At the threshold")
    for _, _, true_positive, _, false_negative, _ in table.rows:
        assert {true_positive, false_negative} <= {"<10", "0"}
    assert "9" not in nobody.facts["test rows"] + nobody.sections[0].title
    assert not figures_of(nobody) and not any(section.tables for section in nobody.sections)


def test_a_step_of_a_curve_is_no_few_patients(tmp_path: Path) -> None:
    evaluation, _ = judged(tmp_path, "binary")
    points = operating_curves(evaluation, least=LEAST)
    for name, run in evaluation.tested.items():
        of_model = points.filter(model=name)
        ends = [-np.inf, *of_model["threshold"].sort(), np.inf]
        assert np.histogram(run.prediction, ends)[0].min() >= LEAST - 1
        x, y = 1 - of_model["specificity"].to_numpy(), of_model["sensitivity"].to_numpy()
        (auroc,) = (
            e.estimate for e in evaluation.estimates if (e.model, e.group, e.metric) == (name, "all", "auroc")
        )
        x, y = np.array([0, *x, 1]), np.array([0, *y, 1])
        assert np.diff(x) @ (y[1:] + y[:-1]) / 2 == pytest.approx(auroc, abs=0.01)


def test_a_resumed_run_is_one_curve(tmp_path: Path) -> None:
    rows = {"epoch": [0, 0, 1, 1], "step": [8, 8, 17, 17], "val/loss": [3.0, None, 2.0, None]}
    before = pl.DataFrame(rows | {"train/loss": [None, 4.0, None, 3.0]})
    after = pl.DataFrame(
        {"epoch": [1, None, 2], "step": [17, 18, 26], "val/loss": [2.5, None, 1.0], "lr": [None, 0.1, None]}
    )
    for name, table in (("logs", before), ("logs-1", after)):
        (tmp_path / name).mkdir()
        table.write_csv(tmp_path / name / "metrics.csv")
    curves = read_logs(tmp_path)
    assert curves["val/loss"] == ([1, 2, 3], [3.0, 2.5, 1.0])
    assert curves["train/loss"] == ([1, 2], [4.0, 3.0]) and curves["lr"] == ([2], [0.1])


def league_table() -> pl.DataFrame:
    rows = []
    for labels in (0.1, 1.0):
        for number_, (encoder, objective, way) in enumerate(
            [("gru", "mae", "finetune"), ("gru", "none", "finetune"), ("lightgbm", "baseline", "baseline")]
        ):
            about = {"labels": labels, "encoder": encoder, "objective": objective, "adaptation": way}
            cost = {"minutes": 1.0 + number_, "shared_minutes": 0.5, "parameters": 1000, "memory_gb": 1.0}
            scores = {}
            for metric in ("auroc", "auprc"):
                value = 0.6 + 0.1 * labels + 0.02 * number_
                scores |= {metric: value, f"{metric}_low": value - 0.05, f"{metric}_high": value + 0.05}
            rows.append(about | {"transductive": False, "runs": 2} | cost | scores)
    return pl.DataFrame(rows)


def test_a_league_has_a_page(arguments: list[str], tmp_path: Path) -> None:
    with styled():
        page = benchmark_page(league_table(), config_of(arguments), arguments)
        assert_labelled(page)
        read = read_page(write_page(page, tmp_path))
    assert figures_of(page) == ["label_efficiency", "quality_by_cost_100", "quality_by_cost_10"]
    assert ["10 %", "gru", "mae", "finetune"] in [row[:4] for row in read.rows]
    assert "0.6100 [0.560, 0.660]" in {cell for row in read.rows for cell in row}


def test_a_report_is_the_same_twice_and_has_no_date(tmp_path: Path) -> None:
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        with styled():
            curves = {"loss": {"one": Curve([1, 2], [0.9, 0.8]), "other": Curve([1, 2], [1.0, 0.9])}}
            section = Section("Training", figures=(draw_curves("loss", "Loss", "Means.", curves),))
            write_page(Page("A page", {"command": "none"}, (section,)), folder)
        contents.append({path.name: path.read_bytes() for path in folder.rglob("*.*")})
    assert contents[0] == contents[1] and len(contents[0]) == 3


def test_a_report_that_fails_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leave_report(tmp_path, lambda: pretraining_page(tmp_path, {}))
    assert "no report of this run (FileNotFoundError: no logs/metrics.csv" in caplog.text


def test_without_matplotlib_it_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slices.training.report.leaving.find_spec", lambda _: None)
    with caplog.at_level(logging.INFO):
        leave_report(tmp_path, lambda: pytest.fail("it is not to be made"))
    assert [record.getMessage() for record in caplog.records] == [
        "no report: matplotlib is not installed: pip install 'slices-training[report]'"
    ]


def test_a_run_that_failed_in_its_own_way_leaves_one_too(tmp_path: Path) -> None:
    page = Page("Pretraining", {}, ())
    with pytest.raises(FailedRun), leaving_report(tmp_path, lambda: page):
        raise FailedRun("the embedding collapsed")
    assert (tmp_path / "report.html").is_file()


def luminance(color: str) -> float:
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("color", COLORS)
def test_colours_stand_out_by_day_and_by_night(color: str) -> None:
    """By 3 to 1 on cards of both schemes, as WCAG 2.2 asks of graphics."""
    for card in ("#ffffff", "#1b2027"):
        low, high = sorted((luminance(color), luminance(card)))
        assert (high + 0.05) / (low + 0.05) >= 3, card


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_whole(tmp_path: Path, width: int, is_dark: bool) -> None:
    evaluation, config = judged(tmp_path, "binary")
    with styled():
        path = write_page(evaluation_page(evaluation, config, ["predictions=[net,trees]"]), tmp_path)
    shot = tmp_path / "shot.png"
    scheme = "--blink-settings=preferredColorScheme=" + ("0" if is_dark else "1")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", scheme]
    window = [f"--window-size={width},6000", f"--screenshot={shot}", f"file://{path}"]
    subprocess.run(["chromium", *options, *window], check=True, capture_output=True, timeout=120)
    image = imread(shot)[..., :3]
    assert image.shape[1] == width
    colors = (255 * image[::5, ::5]).astype(int) @ (65536, 256, 1)
    assert len(np.unique(colors)) > 100
    paper = image[2, 2]
    assert (paper.mean() < 0.2) == is_dark
    margin = image[:, -6:]  # nothing runs over the right edge
    assert np.abs(margin - paper).max() < 0.02
