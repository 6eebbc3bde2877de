"""The commands of README and guides, one after the other in one folder, as a newcomer would type them."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import tarfile
from itertools import islice
from pathlib import Path

import pytest

from cli import CommandLine

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SLICES_SHARED_DATA", ROOT.parent / "shared" / "data"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*_GUIDE.md"))]
N_STAYS = 200
NARROW = ["encoder.d_model=16", "encoder.n_layers=1"]
SMALL = {  # what keeps it short: the commands are as they stand otherwise
    "pretrain": ["training.max_epochs=1", *NARROW],
    "finetune": ["training.max_epochs=2"],
    "benchmark": ["label_fractions=[0.5,1.0]", "draws=[1,1]", "adaptations=[probe]", "data.splits.n_folds=2"],
}
SMALL["baseline"] = ["tune=false"]
SMALL["benchmark"] += [f"++{stage}.all.training.max_epochs=1" for stage in ("pretrain", "finetune")]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Apps and their arguments."""
    found = re.findall(r"hatch run train:(\w+)([^\n`]*)", page.read_text())
    return [(app, shlex.split(arguments, comments=True)) for app, arguments in found]


def write_table(data: Path) -> None:
    """Rows, stays and labels of one's own."""
    rows, labels = ["stay_id,time,variable,value"], ["stay_id,prediction_time,value"]
    stays = ["stay_id,age,sex"]
    for stay in range(60):
        stays.append(f"{stay},{40 + stay % 50},{'FM'[stay % 3 == 0]}")
        labels.append(f"{stay},12,{stay % 2}")
        rows += [f"{stay},{hour},hr,{70 + 20 * (stay % 2) + hour}" for hour in range(24)]
    for name, lines in (("rows", rows), ("stays", stays), ("labels", labels)):
        (data / f"{name}.csv").write_text("\n".join(lines))


def write_examples(folder: Path) -> None:
    """The files that pages show: a name in the text, then their lines."""
    for page in PAGES:
        for name, lines in re.findall(r"`(data/\w+\.csv)`[^`]*```csv\n(.*?)```", page.read_text(), re.DOTALL):
            (folder / name).write_text(lines)


def link_real_data(data: Path) -> None:
    """Where the commands look for it: the first stays of PhysioNet 2012, the demos of MIMIC."""
    target = data / "physionet2012"
    (target / "set-a").mkdir(parents=True)
    with tarfile.open(SHARED / "physionet2012" / "set-a.tar.gz") as archive:
        for member in islice((m for m in archive if m.isfile()), N_STAYS):
            content = archive.extractfile(member) or io.BytesIO()
            (target / "set-a" / Path(member.name).name).write_bytes(content.read())
    (target / "Outcomes-a.txt").symlink_to(SHARED / "physionet2012" / "Outcomes-a.txt")
    meds, demo = data / "mimic-iv-meds", SHARED / "mimic-iv-demo-meds"
    (meds / "tasks").mkdir(parents=True)
    for name in ("data", "metadata"):
        (meds / name).symlink_to(demo / name)
    (meds / "tasks" / "ICU Mortality.parquet").symlink_to(demo / "tasks" / "ICU Mortality first 24h.parquet")
    for task in ("aki", "sepsis", "los"):
        (data / task).symlink_to(SHARED / "yaib-mimic-demo" / task)


def made_small(app: str, words: list[str]) -> list[str]:
    """The command with what keeps it short, in the last run's folder where it says <time>."""
    words = [re.sub(r"(outputs/\w+)/<time>", newest, word) for word in words]
    if app == "evaluate":
        return [word.replace("synthetic-2000", f"synthetic-{N_STAYS}") for word in words]
    if (
        app in ("blend", "export", "replay", "look")
        or "--help" in words
        or any(word.startswith("resume=") for word in words)
    ):
        return words
    small = SMALL.get(app, []).copy()
    if app != "pretrain" and any(word.startswith("encoder=") for word in words):
        small += NARROW
    if not any(word.startswith("data=") for word in words):
        small.append(f"data.source.n_stays={N_STAYS}")
    return [*words, *small]


def newest(folder: re.Match[str]) -> str:
    """The run that ``<time>`` stands for."""
    return str(max(path for path in Path(folder[1]).glob("*") if path.is_dir()))


@pytest.mark.slow
def test_all_commands_run_in_their_order(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data")
    write_examples(tmp_path)
    if SHARED.is_dir():
        link_real_data(tmp_path / "data")
    left_out = 0
    for page in PAGES:
        for app, words in commands(page):
            is_real = any(word.startswith("data=") and word != "data=table" for word in words)
            if is_real and not SHARED.is_dir():
                left_out += 1
                continue
            done = cli(app, *made_small(app, words))
            if "hydra/launcher=submitit_slurm" in words and shutil.which("srun") is None:
                assert done.status == 2 and "there is no srun here" in done.err, done.err
                continue
            assert done.status == 0, f"{page.name}: {app} {' '.join(words)}\n{done.err}"
    if left_out:
        pytest.skip(
            f"{left_out} commands need real data at SLICES_SHARED_DATA or ../shared/data; the others ran"
        )
