"""``FineTuningConfig``: how an encoder is adapted, and what contradicts itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from slices.training.ranges import CompileMode, OnNonfinite, require_at_least_one, require_float32


@dataclass(kw_only=True)
class FineTuningConfig:
    """How the encoder is adapted.

    Attributes:
        freeze_encoder: only the head is trained, and what of the encoder pretraining did not train.
        unfreeze_epoch: the epoch (0-based) at which a frozen encoder joins.
        unfreeze_every: it joins layer by layer, from the highest on, a further one after so many epochs
            (Howard & Ruder 2018, "ULMFiT", section 3.3); null: all at once.
        solve_head: a linear head on a frozen encoder is solved on embeddings computed once, and not trained.
        probe_prior: of the weights of a head that is solved. ``isotropic``: all directions alike;
            ``covariance``: those in which the training stays, also those without a label, differ most are
            preferred, which helps where labels are few.
        probe_strength: L2 penalty of a head that is solved; null: the one of the least held-out loss, which
            is a matter of luck where there are only a handful of labels of a class.
        lora_rank: a frozen encoder's linear layers learn a change of this rank (Hu et al. 2022, "LoRA").
        lora_alpha: the change is scaled by ``lora_alpha / lora_rank``; null: ``2 * lora_rank``.
        lora_layers: names of these layers, as patterns.
        l2_sp: strength of the pull back to the pretrained weights (Li et al. 2018, "L2-SP", equation 2).
        hide_steps, hide_variables: probability that a step, or a variable but a static one, of a training
            stay is taken as unobserved.
        max_epochs, batch_size: how long, and in what portions.
        patience: epochs without a better validation score before training stops; null: never.
        average_best: the weights of so many best epochs are averaged (Izmailov et al. 2018 average epochs;
            Wortsman et al. 2022, "Model soups", choose them by validation); null: the best epoch's.
        head_lr: the rate of the head; null: the optimizer's.
        layer_decay: multiplies the encoder's rate once for each layer further down: its highest layer has
            the optimizer's (Clark et al. 2020, "ELECTRA", appendix A); 1 is one rate for all.
        refit_normalizer: normalise by this data instead of by what the encoder was trained on.
        adapt_variables: variables that the data lacks count as unobserved, others are left out.
        allow_other_split: test also on stays that the encoder may have been pretrained on.
        activation_checkpointing: blocks of the encoder are computed twice, and need less memory.
        compile: the encoder becomes one program (``torch.compile``) in this mode; null: not at all.
        on_nonfinite: a step whose loss or gradient is not finite ends the run, or is left out.
        keep_bad_batch: the batch of such a step is written, to be replayed.

    Raises:
        ValueError: a value out of range, or two that contradict each other.
    """

    freeze_encoder: bool = True
    unfreeze_epoch: int | None = None
    unfreeze_every: int | None = None
    solve_head: bool = False
    probe_prior: Literal["isotropic", "covariance"] = "isotropic"
    probe_strength: float | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_layers: tuple[str, ...] = ("*",)
    l2_sp: float = 0.0
    hide_steps: float = 0.0
    hide_variables: float = 0.0
    max_epochs: int = 30
    batch_size: int = 64
    patience: int | None = 8
    average_best: int | None = None
    head_lr: float | None = None
    layer_decay: float = 1.0
    refit_normalizer: bool = False
    adapt_variables: bool = False
    allow_other_split: bool = False
    activation_checkpointing: bool = False
    compile: CompileMode | None = None
    on_nonfinite: OnNonfinite = "stop"
    keep_bad_batch: bool = False

    def __post_init__(self) -> None:
        require_at_least_one(
            self, "max_epochs", "batch_size", "patience", "unfreeze_every", "lora_rank", "average_best"
        )
        for name in ("head_lr", "lora_alpha", "probe_strength"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: allowed is a number above 0, or null for the default")
        require_float32(self, "head_lr", "l2_sp")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"layer_decay={self.layer_decay}: allowed is above 0, up to 1 (one rate for all)"
            )
        if not self.l2_sp >= 0:
            raise ValueError(f"l2_sp={self.l2_sp}: allowed is 0 (no pull) or more")
        for name in ("hide_steps", "hide_variables"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: allowed is 0 (none) or more, below 1")
        self._check_unfreezing()
        self._check_what_is_trained()

    def _check_unfreezing(self) -> None:
        if self.unfreeze_epoch is None:
            if self.unfreeze_every is not None:
                raise ValueError("unfreeze_every needs unfreeze_epoch, at which the highest layer joins")
            return
        if not self.freeze_encoder:
            raise ValueError("unfreeze_epoch needs freeze_encoder=true: the encoder is not frozen at all")
        if not 0 <= self.unfreeze_epoch < self.max_epochs:
            raise ValueError(
                f"unfreeze_epoch={self.unfreeze_epoch} never comes: allowed is 0 to {self.max_epochs - 1} "
                f"(max_epochs={self.max_epochs}), or null to keep the encoder frozen"
            )

    def _check_what_is_trained(self) -> None:
        stays_frozen = self.freeze_encoder and self.unfreeze_epoch is None
        for name in ("solve_head", "lora_rank"):
            if getattr(self, name) and not stays_frozen:
                raise ValueError(f"{name} needs a frozen encoder: freeze_encoder=true, unfreeze_epoch=null")
        if self.lora_rank is None and (self.lora_alpha is not None or self.lora_layers != ("*",)):
            raise ValueError("lora_alpha and lora_layers need lora_rank: give one, e.g. 8")
        if self.l2_sp and stays_frozen:
            raise ValueError(
                f"l2_sp={self.l2_sp} pulls weights that are frozen: use freeze_encoder=false, or l2_sp=0"
            )
        if self.probe_prior != "isotropic" and not self.solve_head:
            raise ValueError(f"probe_prior={self.probe_prior} needs solve_head=true: no other head is solved")
        if self.probe_strength is not None and not self.solve_head:
            raise ValueError(
                f"probe_strength={self.probe_strength:g} needs solve_head=true: no other head is solved"
            )
        if self.solve_head and (trained := self._of_training()):
            raise ValueError(f"solve_head=true trains nothing: leave out {', '.join(trained)}")

    def _of_training(self) -> list[str]:
        names = ("lora_rank", "hide_steps", "hide_variables", "average_best", "head_lr")
        return [name for name in names if getattr(self, name)]
