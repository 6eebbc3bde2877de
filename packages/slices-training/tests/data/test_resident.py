"""Samples kept in memory against the same ones cut from the file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slices.training.data import StayDataModule
from slices.training.data.resident import Resident
from slices.training.data.samples import WindowConfig

LAYOUTS: dict[str, dict[str, Any]] = {
    "grid": {},
    "wide bins": {"resolution": 6.0, "aggregate": "last"},
    "timestamps": {"resolution": "timestamps"},
    "recent timestamps": {"resolution": "timestamps", "max_steps": 5},
    "windows": {"window": WindowConfig(length=12.0, stride=6.0)},
}


def ready(config: Any, **options: Any) -> StayDataModule:
    module = StayDataModule(config, **options)
    module.setup()
    return module


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


LABELS_A_STEP = pytest.param("deterioration", marks=pytest.mark.slow)


@pytest.mark.parametrize("task", [None, "in_hospital_mortality", LABELS_A_STEP])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_batches_are_those_cut_from_the_file(layout: str, task: str | None, synthetic_config: Any) -> None:
    changes, options = LAYOUTS[layout], {"task": task, "per_step": False if task else None}
    kept = ready(synthetic_config(**changes), **options)
    anew = ready(synthetic_config(**changes, resident_gb=0.0), **options)
    loaders = [(m.train_dataloader(), m.val_dataloader()) for m in (kept, anew)]
    assert kept._resident is not None and anew._resident is None
    for loader, expected in zip(*loaders, strict=True):
        batches = list(zip(loader, expected, strict=True))
        assert batches and all(same(*pair) for pair in batches)


@pytest.mark.parametrize("kept", [6.0, 0.0])
@pytest.mark.parametrize("layout", [*LAYOUTS, "observations"])
def test_batches_do_not_follow_the_default_precision(layout: str, kept: float, synthetic_config: Any) -> None:
    """Which Lightning's ``bf16-true`` sets while a batch is cut."""
    module = ready(synthetic_config(**LAYOUTS.get(layout, {"resolution": "observations"}), resident_gb=kept))
    module.train_dataloader()
    rows = module.splits["train"][:16]
    expected = module.cut(rows)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert same(module.cut(rows), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_test_samples_and_raw_values_are_cut_from_the_file(synthetic_config: Any) -> None:
    module = ready(synthetic_config())
    module.train_dataloader()
    held = module._resident
    assert held is not None and held.holds(module.splits["val"]) and not held.holds(module.splits["test"])
    assert list(module.loader("test"))
    rows = module.splits["train"][:8]
    raw, normalised = module.cut(rows, normalize=False), module.cut(rows)
    assert not torch.equal(raw["timeseries"], normalised["timeseries"])


def test_a_changed_normaliser_or_other_columns_are_obeyed(synthetic_config: Any) -> None:
    module = ready(synthetic_config())
    module.train_dataloader()
    rows = module.splits["train"][:8]
    before = module.cut(rows)
    normalizer = module.normalizer
    normalizer.location += 1.0
    module.normalizer = normalizer
    assert not torch.equal(module.cut(rows)["timeseries"], before["timeseries"])
    module.train_dataloader()
    module.feed(module.variables[::-1])
    assert torch.equal(module.cut(rows)["mask"], before["mask"].flip(-1))


def test_windows_that_begin_anywhere_are_cut_anew(synthetic_config: Any) -> None:
    module = ready(synthetic_config(window=WindowConfig(length=12.0, stride=6.0, random=True)))
    starts = torch.cat([batch["times"][:, 0] for batch in module.train_dataloader()])
    assert module._resident is None and (starts % 6 != 0).any()


def test_what_does_not_fit_is_cut_anew_and_said(
    synthetic_config: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module = ready(synthetic_config(resident_gb=1e-5))
    with caplog.at_level(logging.INFO):
        assert list(module.train_dataloader())
    assert module._resident is None and "data.resident_gb" in caplog.text


def test_memory_is_that_of_what_is_observed(synthetic_config: Any) -> None:
    module = ready(synthetic_config())
    module.train_dataloader()
    assert module._resident is not None
    rows = np.concatenate([module.splits["train"], module.splits["val"]])
    batch = module.cut(rows)
    expected = 12 * int(batch["mask"].sum()) + 4 * int(batch["padding_mask"].sum()) + 2 * 8 * (len(rows) + 1)
    assert module._resident.nbytes == expected


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc"
)
def test_the_process_takes_hardly_more(synthetic_config: Any) -> None:
    module = ready(synthetic_config())
    samples = module.samples.take(np.tile(module.splits["train"], 150))
    rows = np.arange(len(samples.stay))
    options = module.view, module.store, samples, rows, module.normalizer
    assert Resident.of(*options, most_bytes=1e6) is None
    before = resident_bytes()
    kept = Resident.of(*options, most_bytes=1e10)
    assert kept is not None and kept.nbytes > 1e8
    assert resident_bytes() - before < 1.2 * kept.nbytes + 3e7


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_several_processes_share_the_file(synthetic_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slices.training.data.datamodule.rank_and_world_size", lambda: (1, 2))
    module = ready(synthetic_config())
    module.train_dataloader()
    assert module._resident is None


def test_batches_to_train_on_may_be_kept_elsewhere(
    synthetic_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another copy, which would be on a GPU, is asked for those alone; it is dropped with the first."""
    expected, found = ready(synthetic_config()), ready(synthetic_config())
    monkeypatch.setattr(found, "_moved_to_gpu", lambda kept: kept.to(torch.device("cpu")))
    loader = found.train_dataloader()
    assert found._on_device is not None and found._on_device is not found._resident
    for batch, other in zip(loader, expected.train_dataloader(), strict=True):
        assert same(batch, other)
    asked: list[Any] = []
    monkeypatch.setattr(Resident, "cut", lambda self, rows: asked.append(self) or {})
    found.cut(found.splits["train"][:4], epoch=0)
    found.cut(found.splits["train"][:4])
    assert asked == [found._on_device, found._resident]
    found.normalizer = found.normalizer
    assert found._on_device is None
