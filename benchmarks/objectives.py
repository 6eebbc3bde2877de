"""How fast objectives train an encoder, beside a bare loop of the same operations, and another checkout's.

``hatch run bench:objectives [mae jepa ...] [--batch 64] [--steps 48] [--rounds 5] [--threads 1]
[--device cpu] [--peer FOLDER]``

One step is the draw, forward, backward, clipping, AdamW and the teacher, on random stays, 30 % of whose cells
are observed, with a transformer (64 wide, 2 layers, 4 heads; ``smart`` with its own encoder, 32 wide, 16
stays at a time); stays per processor second, on a GPU per second. Decoders, predictors and projectors are as
large as the peer's. Where an objective has a bare loop (``bare_objectives.py``), or ``--peer`` (the ``src``
of a checkout of https://github.com/hannesill/SLICES) has it, they take turns, and are compared by the median
of their ratios.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from bare_encoders import D, Size
from bare_objectives import BARE
from encoders import make_stays
from torch import Tensor, nn
from turns import asked_of, compare, heading, parser_of, serve

DECODER = {"decoder_dim": 128, "decoder_layers": 2}
PREDICTOR = {"predictor_dim": 128, "predictor_layers": 2}
PROJECTOR = {"projector_hidden": 512, "projector_dim": 128}
OURS: dict[str, dict[str, Any]] = {
    "mae": DECODER,
    "duett": DECODER,
    "forecast": DECODER,
    "time_to_event": DECODER,
    "jepa": PREDICTOR,
    "smart": {"predictor_dim": 32},
    "contrastive": {**PROJECTOR, "views": {"crop": 0.5, "shift_times": 0.0}},
    "sum": {"parts": {"mae": DECODER, "vicreg": {"weight": 0.1}}},
}
PEER = {
    "mae": ("mae", "MAEConfig", {}),
    "jepa": ("jepa", "JEPAConfig", {}),
    "contrastive": ("contrastive", "ContrastiveConfig", {}),
    "ts2vec": ("ts2vec", "TS2VecConfig", {}),
    "smart": ("smart", "SMARTSSLConfig", {}),
}
Stays = dict[str, Tensor]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    options = asked_of(parser, worker)
    heading(("bare", "peer"), "objective")
    for name in options.names or every_objective():
        compare(name, {"bare": name in BARE, "peer": bool(options.peer) and name in PEER}, options)


def every_objective() -> list[str]:
    from slices.ssl import list_objectives

    return list_objectives()


def worker(kind: str, name: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = Size(32, batch=16) if name == "smart" else Size(batch=options.batch)
    objective, after = MAKERS[kind](name, size)
    objective = objective.to(options.device).train()
    stays = {key: part.to(options.device) for key, part in make_stays(size.batch, options.steps).items()}
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)

    def step() -> None:
        found = objective(stays["x"], stays["mask"])
        (found if isinstance(found, Tensor) else found[0]).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        after(objective)

    serve(sum(parameter.numel() for parameter in trained), step, size.batch, options.device)


After = Callable[[Any], None]


def ours(name: str, size: Size) -> tuple[nn.Module, After]:
    from slices.encoders import build_encoder
    from slices.ssl import build_ssl_objective

    sizes = {"d_input": D, "d_model": size.d_model, "n_layers": size.n_layers, "n_heads": size.n_heads}
    encoder = build_encoder("smart" if name == "smart" else "transformer", sizes)
    objective = build_ssl_objective(encoder, {"name": name, "d_input": D, **OURS.get(name, {})})
    return objective, lambda it: it.on_optimizer_step(1, 1000)


def bare(name: str, size: Size) -> tuple[nn.Module, After]:
    return BARE[name](size), lambda it: it.follow() if hasattr(it, "follow") else None


def theirs(name: str, size: Size) -> tuple[nn.Module, After]:
    folder = sys.argv[sys.argv.index("--peer") + 1]
    sys.path.insert(0, folder)
    for module in [module for module in sys.modules if module.split(".")[0] == "slices"]:
        del sys.modules[module]
    encoders: Any = importlib.import_module("slices.models.encoders")
    sizes = {"d_input": D, "d_model": size.d_model, "n_layers": size.n_layers, "n_heads": size.n_heads}
    sizes |= {"d_ff": 4 * size.d_model, "dropout": 0.1, "pooling": "none"}
    if name == "smart":
        encoder = encoders.SMARTEncoder(encoders.SMARTEncoderConfig(**sizes))
    else:
        encoder = encoders.TransformerEncoder(encoders.TransformerConfig(**sizes, obs_aware=True))
    module_name, config_name, own = PEER[name]
    module: Any = importlib.import_module(f"slices.models.pretraining.{module_name}")
    factory: Any = importlib.import_module("slices.models.pretraining.factory")
    objective: nn.Module = factory.build_ssl_objective(encoder, getattr(module, config_name)(**own))
    return objective, theirs_after


def theirs_after(objective: Any) -> None:
    if hasattr(objective, "momentum_update"):
        objective.momentum_update(progress=0.001)


MAKERS: dict[str, Callable[[str, Size], tuple[nn.Module, After]]] = {
    "slices": ours,
    "bare": bare,
    "peer": theirs,
}

if __name__ == "__main__":
    main()
