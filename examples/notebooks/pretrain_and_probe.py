# %% [markdown]
# # Pretrain and probe
#
# An encoder learns from stays without labels; a linear probe on its frozen embeddings then says what it
# knows, beside the same encoder with random weights. Open this file as a notebook, or run it as it is.

# %%
import copy

import lightning.pytorch as L
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from slices.training import SSLPretrainModule, StayDataModule
from slices.training.data import DataConfig
from slices.training.evaluation.probe import fit_probe

L.seed_everything(0, verbose=False)
data = DataConfig(source={"name": "synthetic", "n_stays": 600}, dataset_dir="datasets/probe", resolution=4.0)
config = {
    "encoder": {"name": "gru", "d_model": 32},
    "ssl": {"name": "mae", "mask_ratio": 0.5},
    "optimizer": {"name": "adamw", "lr": 3.0e-3},
    "data": data,
}
module = SSLPretrainModule(config)
untrained = copy.deepcopy(module)

# %% [markdown]
# Pretraining needs no labels. With `logger=True` and checkpoints on, Lightning keeps both, as in any project.

# %%
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
trainer = L.Trainer(max_epochs=5, enable_model_summary=False, accelerator="cpu", **quiet)
trainer.fit(module, datamodule=StayDataModule(data))
print(f"validation loss: {trainer.callback_metrics['val/loss']:.3f}")
module.save_encoder("encoder.pt")

# %% [markdown]
# The probe is fitted on training stays and judged on test stays. The strength of its penalty is chosen by
# cross-validation among the former.

# %%
stays = StayDataModule(data, task="in_hospital_mortality")
stays.setup()


@torch.no_grad()
def embedded(model: SSLPretrainModule, split: str) -> tuple[Tensor, Tensor]:
    """Embeddings (N, H) and labels (N,) of a split."""
    batch = stays.cut(stays.splits[split])
    return model.eval().embed(batch), batch["label"]


for name, model in (("random weights", untrained), ("pretrained", module)):
    probe = fit_probe(*embedded(model, "train"), "binary")
    features, died = embedded(model, "test")
    print(f"{name}: AUROC {binary_auroc(probe.predict(features)[:, 1], died.long()):.3f}")
