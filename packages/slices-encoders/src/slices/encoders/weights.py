"""The named tensors of a module: taken, checked and put back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .config import require
from .plain import leaves

MOST_LISTED = 20  # weights that do not fit, in an error
SLACK = 4  # parameters made for each that stays, as one may replace another
FREE, FREE_VALUES = 2000, 1_000_000  # parameters, and numbers in them, that are made of any file
HARMLESS = 10_000  # as a size of whatever

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
    # a sum is finite where all is, unless it overflows, and ten times as quick
    doubtful = {name: tensor for name, tensor in weights.items() if not tensor.sum().isfinite()}
    wrong = [name for name, tensor in doubtful.items() if not tensor.isfinite().all()]
    require(not wrong, f"its weights are not finite, {len(wrong)} of them: {_listed(wrong)}")


def build_to_fit(build: Callable[[], M], config: object, weights: Mapping[str, Tensor]) -> M:
    """The module that ``build`` makes of a config, where these weights can be its own.

    A config may ask for any size. One whose sizes are out of proportion to the weights is first built without
    memory (on the meta device, which is slow).

    Raises:
        ValueError: a module that the weights do not fit, before it takes far more memory than they do.
    """
    largest = require_sizes(config, weights)
    with no_larger_than(weights):
        if math.prod(largest) > SLACK * _values(weights) + FREE_VALUES:
            with torch.device("meta"):
                require_fit(build(), weights)
        return build()


def require_sizes(config: object, weights: Mapping[str, Tensor]) -> list[int]:
    """The two largest numbers in a config, as widths. ``ValueError`` for more than there are weights."""
    sizes = sorted(size for size in leaves(config) if isinstance(size, int))[-2:]
    most = max(HARMLESS, _values(weights))
    require(
        all(size <= most for size in sizes),
        f"its config has a size above {most:,}, which is more than all its weights need",
    )
    return sizes


@contextmanager
def no_larger_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it, making parameters raises ``ValueError`` once they are far more than these weights."""
    left, values = SLACK * len(weights) + FREE, SLACK * _values(weights) + FREE_VALUES

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal left, values
        left, values = left - 1, values - (0 if parameter is None else parameter.numel())
        require(min(left, values) >= 0, "its config asks for far more than its weights are")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _values(weights: Mapping[str, Tensor]) -> int:
    """How many numbers they are, those that several share (views, tied weights) counted once."""
    distinct = {tensor.untyped_storage().data_ptr(): tensor for tensor in weights.values()}
    return sum(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in distinct.values())


def _listed(wrong: list[str]) -> str:
    return "; ".join(sorted(wrong)[:MOST_LISTED] + ["..."] * (len(wrong) > MOST_LISTED))


def _kind(tensor: Tensor) -> tuple[bool, bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool
