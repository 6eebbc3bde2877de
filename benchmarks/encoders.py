"""How fast encoders train, beside a bare loop of the same operations, and beside another checkout's encoders.

``hatch run bench:encoders [transformer gru_d ...] [--steps 48] [--rounds 5] [--threads 1] [--device cpu]
[--peer FOLDER]``

One step is forward, backward, clipping and AdamW on random stays, 30 % of whose cells are observed; stays per
processor second, on a GPU per second. Where an encoder has a bare loop (``bare_encoders.py``), or ``--peer``
(the ``src`` of a checkout of https://github.com/hannesill/SLICES) has it, they take turns, round by round,
each in a process of its own, at equal sizes and dropout, and are compared by the median of their ratios.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from bare_encoders import BARE, D, Size
from torch import Tensor, nn
from turns import compare, heading, parser_of, serve

OBSERVED = 0.3

SIZES = {
    "transformer": Size(),
    "gru_d": Size(n_layers=1),
    "observation_transformer": Size(128, batch=16),
    "smart": Size(32, batch=16),
}
PEER = {  # module, config, encoder, and what its config calls its own
    "transformer": ("transformer", "TransformerConfig", "TransformerEncoder", {"pooling": "mean"}),
    "gru_d": ("gru_d", "GRUDConfig", "GRUDEncoder", {}),
    "observation_transformer": (
        "observation",
        "ObservationTransformerConfig",
        "ObservationTransformerEncoder",
        {"pooling": "mean"},
    ),
    "smart": ("smart", "SMARTEncoderConfig", "SMARTEncoder", {"pooling": "query"}),
}
Stays = dict[str, Tensor]


def main() -> None:
    parser = parser_of(__doc__)
    options = parser.parse_args()
    if options.work:
        worker(options.work, options.names[0], options)
        return
    heading(("bare", "peer"), "encoder")
    for name in options.names or every_encoder():
        compare(name, {"bare": name in BARE, "peer": bool(options.peer) and name in PEER}, options)


def every_encoder() -> list[str]:
    from slices.encoders import list_encoders

    return list_encoders()


def worker(kind: str, name: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = SIZES.get(name, Size())
    encoder = MAKERS[kind](name, size).to(options.device).train()
    stays = {key: part.to(options.device) for key, part in make_stays(size.batch, options.steps).items()}
    optimizer = torch.optim.AdamW(encoder.parameters())
    n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    serve(n_parameters, lambda: step(encoder, stays, optimizer), size.batch, options.device)


def make_stays(batch: int, n_steps: int) -> Stays:
    mask = torch.rand(batch, n_steps, D) < OBSERVED
    return {"x": torch.randn(mask.shape) * mask, "mask": mask}


def step(encoder: nn.Module, stays: Stays, optimizer: torch.optim.Optimizer) -> None:
    out = encoder(**stays)
    (out.mean(1) if out.ndim == 3 else out).square().mean().backward()
    nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def ours(name: str, size: Size) -> nn.Module:
    from slices.encoders import build_encoder

    if name not in SIZES:
        return build_encoder(name, {"d_input": D})
    config = {"d_input": D, "d_model": size.d_model, "n_layers": size.n_layers}
    return build_encoder(name, config | ({} if name == "gru_d" else {"n_heads": size.n_heads}))


def theirs(name: str, size: Size) -> nn.Module:
    folder = sys.argv[sys.argv.index("--peer") + 1]
    sys.path.insert(0, folder)
    for module in [module for module in sys.modules if module.split(".")[0] == "slices"]:
        del sys.modules[module]
    module_name, config_name, encoder_name, own = PEER[name]
    module: Any = importlib.import_module(f"slices.models.encoders.{module_name}")
    config: dict[str, Any] = {
        "d_input": D,
        "d_model": size.d_model,
        "n_layers": size.n_layers,
        "dropout": 0.1,
    }
    if name != "gru_d":
        config |= {"n_heads": size.n_heads, "d_ff": 4 * size.d_model}
    encoder: nn.Module = getattr(module, encoder_name)(getattr(module, config_name)(**config | own))
    return encoder


MAKERS: dict[str, Callable[[str, Size], nn.Module]] = {
    "slices": ours,
    "bare": lambda name, size: BARE[name](size),
    "peer": theirs,
}

if __name__ == "__main__":
    main()
