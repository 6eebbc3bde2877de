# %% [markdown]
# # A first look at stays
#
# What a dataset holds, what a batch looks like, and how much of it is missing. Open this file as a notebook
# (VS Code, PyCharm, or `jupytext --to notebook`), or run it as it is.

# %%
import matplotlib.pyplot as plt
import polars as pl
import torch

from slices.training import StayDataModule
from slices.training.data import DataConfig

data = DataConfig(
    source={"name": "synthetic", "n_stays": 200},  # yours: {"name": "table", "raw": "data/rows.csv"}
    dataset_dir="datasets/first-look",
    resolution=1.0,
)
stays = StayDataModule(data, task="in_hospital_mortality")
stays.prepare_data()  # once: raw records become a dataset on disk
stays.setup()
print(stays.store.stays.head())
print({split: len(rows) for split, rows in stays.splits.items()})

# %% [markdown]
# A batch is a dict. `mask` says what was observed; `timeseries` is normalised, and 0 elsewhere.

# %%
batch = stays.cut(stays.splits["train"])
for name, tensor in batch.items():
    print(f"{name:16} {tuple(tensor.shape)} {tensor.dtype}")

# %% [markdown]
# The share of hours in which each variable was measured. (Statics lie in the first hour alone.)

# %%
observed = batch["mask"].float().mean((0, 1))
measured = pl.DataFrame({"variable": stays.variables, "share": observed.numpy()}).sort("share")
print(measured.tail(5), measured.head(5))

# %% [markdown]
# One stay in raw units: points where there is a measurement, and nothing between.

# %%
raw = stays.cut(stays.splits["train"][:1], normalize=False)
figure, axes = plt.subplots(3, sharex=True, figsize=(8, 5))
for axis, name in zip(axes, ("heart_rate", "map", "lactate"), strict=True):
    column = stays.variables.index(name)
    there = raw["mask"][0, :, column]
    axis.plot(raw["times"][0, there], raw["timeseries"][0, there, column], "o-", markersize=3)
    axis.set_ylabel(f"{name}\n{stays.units[column]}")
axes[-1].set_xlabel("hours since admission")
figure.savefig("stay.png")

# %% [markdown]
# Do those who died differ in what was measured, or only in the values?

# %%
died = batch["label"] == 1
often = torch.stack([batch["mask"][group].float().mean((0, 1)) for group in (died, ~died)])
most = (often[0] - often[1]).argmax()
print(f"{int(died.sum())} of {len(died)} died; {stays.variables[most]} was measured more often of them")
