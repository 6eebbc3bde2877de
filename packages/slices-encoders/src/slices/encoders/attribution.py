"""What an encoder looked at: values by time and variable, and attention maps.

Letters: B stays, T time steps, D variables, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .base import accepted
from .inputs import complete


def integrated_gradients(
    score: Callable[[Tensor], Tensor],
    encoder: nn.Module,
    x: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T D"] | None = None,
    padding_mask: Bool[Tensor, "B T"] | None = None,
    times: Float[Tensor, "B T"] | None = None,
    counts: Float[Tensor, "B T D"] | None = None,
    *,
    n_steps: int = 32,
) -> Float[Tensor, "B T D"]:
    """How much of ``score(embedding)`` each observed value accounts for; 0 where nothing was observed.

    The gradient along the straight way from 0, the mean of normalised values, to the values; what was
    observed, and when, stays as it is. The attributions of a stay sum to its score less that of the means.
    Sundararajan et al., "Axiomatic attribution for deep networks" (2017), eq. 3, by the midpoint rule.

    Args:
        score: (B,) of what the encoder gives, such as the logit of a head's class.
        encoder: any, in eval mode; it is called with what it names.
        n_steps: points on the way; more are more exact.

    Raises:
        ValueError: an encoder in train mode, no steps on the way, or a score that is not one number a stay.

    >>> from slices.encoders import build_encoder
    >>> encoder = build_encoder("linear", {"d_input": 3, "d_model": 4}).eval()
    >>> integrated_gradients(lambda h: h[:, 0], encoder, torch.randn(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """
    if encoder.training:
        raise ValueError("attributions of an encoder in train mode are noise: call encoder.eval()")
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    stay = complete(x, mask, padding_mask, times, counts)
    others = {name: getattr(stay, name) for name in accepted(encoder.forward)}
    total = torch.zeros_like(stay.x)
    for step in range(n_steps):
        point = (stay.x * ((step + 0.5) / n_steps)).requires_grad_()
        # cuDNN has no gradient of a recurrent net in eval mode
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            value = score(encoder(point, **others))
            if value.shape != x.shape[:1]:
                raise ValueError(
                    f"score gives shape {tuple(value.shape)}, not one number a stay {tuple(x.shape[:1])}"
                )
            (gradient,) = torch.autograd.grad(value.sum(), point)
        total += gradient
    return total / n_steps * stay.x


@torch.no_grad()
def attention_maps(encoder: nn.Module, *inputs: Any, **named: Any) -> dict[str, Tensor]:
    """The weights of every attention in an encoder while it looks at stays, by the module's name.

    Of a transformer's block ``(B, heads, N, N)``: how much each token takes of each, rows sum to 1. Other
    modules say in their ``attention`` what the axes are. An encoder without attention gives none. Whatever
    has a method ``attention(*inputs)`` beside its ``forward`` takes part. To ``patch_transformer`` every
    variable is a series of its own, B D of them in the place of B.

    Raises ``ValueError`` for an encoder in train mode.

    >>> from slices.encoders import build_encoder
    >>> encoder = build_encoder("transformer", {"d_input": 3, "d_model": 8, "n_heads": 2}).eval()
    >>> {name: tuple(map.shape) for name, map in attention_maps(encoder, torch.randn(2, 5, 3)).items()}
    {'blocks.0': (2, 2, 5, 5), 'blocks.1': (2, 2, 5, 5)}
    """
    if encoder.training:
        raise ValueError("attention in train mode is dropped at random: call encoder.eval()")
    maps: dict[str, Tensor] = {}

    def look(name: str, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = module.attention(*args, **kwargs)
        parts = found if isinstance(found, dict) else {"": found}
        maps.update({f"{name}.{part}".strip("."): weights for part, weights in parts.items()})

    with ExitStack() as hooks:
        for name, module in encoder.named_modules():
            if callable(getattr(module, "attention", None)):
                handle = module.register_forward_pre_hook(partial(look, name), with_kwargs=True)
                hooks.callback(handle.remove)
        encoder(*inputs, **named)
    return maps
