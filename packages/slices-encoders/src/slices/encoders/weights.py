"""The named tensors of a module: taken, checked and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .config import require
from .plain import leaves

MOST_LISTED = 20  # weights that do not fit, in an error
SLACK, FREE = 4, 2000  # parameters made for each that stays, as one may replace another; and anyway
HARMLESS = 100_000  # as a size of whatever

Weights = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)


def weights_of(module: nn.Module) -> Weights:
    """Its named tensors as copies on the CPU, so that tied weights and views are written whole."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }


def put_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Weights of the same names, shapes and kinds (floating, integer, boolean), put into a module.

    Raises:
        ValueError: others, or some that are not finite; they are listed.
    """
    require_fit(module, weights)
    require_finite(weights)
    module.load_state_dict(dict(weights))


def require_fit(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raises ``ValueError``, and lists what differs, unless names, shapes and kinds are the module's."""
    expected = module.state_dict()
    wrong = [f"missing {name}" for name in expected.keys() - weights.keys()]
    wrong += [f"unexpected {name}" for name in weights.keys() - expected.keys()]
    for name in expected.keys() & weights.keys():
        here, there = expected[name], weights[name]
        if here.shape != there.shape:
            wrong.append(f"{name} has shape {tuple(there.shape)}, not {tuple(here.shape)}")
        if _kind(here) != _kind(there):
            wrong.append(f"{name} is {there.dtype}, not {here.dtype}")
    require(not wrong, f"its weights do not fit its config, {len(wrong)} of them: {_listed(wrong)}")


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Raises ``ValueError``, and names them, where weights are NaN or infinite."""
    wrong = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    require(not wrong, f"its weights are not finite, {len(wrong)} of them: {_listed(wrong)}")


def build_to_fit(build: Callable[[], M], config: object, weights: Mapping[str, Tensor]) -> M:
    """The module that ``build`` makes of a config, once it is known that these weights fit it.

    A config may ask for any size, so the module is first made without memory (on the meta device).

    Raises:
        ValueError: one that the weights do not fit; what differs is listed.
    """
    require_sizes(config, weights)
    with no_larger_than(weights), torch.device("meta"):
        shape = build()
    require_fit(shape, weights)
    return build()


def require_sizes(config: object, weights: Mapping[str, Tensor]) -> None:
    """Raises ``ValueError`` for a number in a config, as a width, above that of all values in the weights."""
    most = max(HARMLESS, sum(tensor.numel() for tensor in weights.values()))
    for size in leaves(config):
        fits = not isinstance(size, int) or size <= most
        require(fits, f"its config has a size above {most:,}, which is more than all its weights need")


@contextmanager
def no_larger_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, making parameters raises ``ValueError`` once there are far more of them than weights."""
    left = SLACK * len(weights) + FREE

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal left
        left -= 1
        require(left >= 0, f"its config asks for far more weights than the {len(weights)} that it holds")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _listed(wrong: list[str]) -> str:
    return "; ".join(sorted(wrong)[:MOST_LISTED] + ["..."] * (len(wrong) > MOST_LISTED))


def _kind(tensor: Tensor) -> tuple[bool, bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool
