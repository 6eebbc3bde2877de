"""Tokens out of any encoder, from what an objective leaves visible.

Letters: B stays, T time steps, D variables, N tokens, H embedding width. True = there, in every mask.
Times are hours since admission.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

STEP = -1
"""``Tokens.variable`` of a token that stands for a whole step."""
STAY = -2
"""``Tokens.variable`` of a token that stands for the whole stay."""

INPUTS = ("mask", "padding_mask", "times", "counts")
"""What may be passed to an encoder besides ``x``, by keyword, where its ``forward`` names it."""


@runtime_checkable
class Encoder(Protocol):
    """All that an objective needs of an encoder: an ``nn.Module`` with these two.

    ``forward(x, ...)`` takes ``x (B, T, D)`` and whichever of ``mask``, ``padding_mask``, ``times`` and
    ``counts`` it names, and returns ``(B, T, H)`` or ``(B, H)``; ``output_dim`` is H. An encoder that
    also has ``encode(x, ...) -> Tokens`` is asked for its tokens instead, and promises that padding is
    without effect.
    """

    @property
    def output_dim(self) -> int: ...

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor: ...


class Tokens(NamedTuple):
    """An encoded batch before pooling. What an encoder returns needs these fields, not this type."""

    embedding: Float[Tensor, "B N H"]
    valid: Bool[Tensor, "B N"]
    time: Float[Tensor, "B N"]
    variable: Int[Tensor, "B N"]


class StayInputs(NamedTuple):
    """The inputs of a batch, complete; see :func:`complete`."""

    x: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T D"]
    padding_mask: Bool[Tensor, "B T"]
    times: Float[Tensor, "B T"]
    counts: Float[Tensor, "B T D"]


def complete(
    x: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T D"],
    padding_mask: Bool[Tensor, "B T"] | None = None,
    times: Float[Tensor, "B T"] | None = None,
    counts: Float[Tensor, "B T D"] | None = None,
) -> StayInputs:
    """Fill in what is missing, and zero what is not observed or not real.

    ``padding_mask`` defaults to all real, ``times`` to 0 .. T-1, ``counts`` to the mask.

    >>> inputs = complete(torch.full((1, 2, 1), torch.nan), torch.zeros(1, 2, 1, dtype=torch.bool))
    >>> inputs.x.tolist(), inputs.times.tolist()
    ([[[0.0], [0.0]]], [[0.0, 1.0]])
    """
    observed, real = presence(mask, padding_mask)
    if times is None:
        times = torch.arange(x.shape[1], dtype=torch.float32, device=x.device).expand(x.shape[:2])
    counts = observed.to(x.dtype) if counts is None else torch.where(observed, counts, 0.0)
    return StayInputs(torch.where(observed, x, 0.0), observed, real, times, counts)


def presence(
    mask: Bool[Tensor, "B T D"], padding_mask: Bool[Tensor, "B T"] | None
) -> tuple[Bool[Tensor, "B T D"], Bool[Tensor, "B T"]]:
    """What is observed at a real step, and which steps are real (all, by default)."""
    if padding_mask is None:
        padding_mask = torch.ones(mask.shape[:2], dtype=torch.bool, device=mask.device)
    real = padding_mask.bool()
    return mask.bool() & real.unsqueeze(-1), real


def hide(
    inputs: StayInputs,
    keep: Bool[Tensor, "B #T #D"],
    dynamic: Bool[Tensor, "#D"],
    only_observed: bool = False,
) -> StayInputs:
    """Hide at the input what is not kept: value 0, unobserved, count 0.

    A step of which no ``dynamic`` column is left also stops being real and loses its time, which alone
    betrays that something was measured. Statics, the other columns at the first real step, always stay,
    and move to the first step left, as time since admission would show in their place. Where no step is
    left they stay with their own. With ``only_observed`` steps at which nothing was observed vanish too, so
    that a step that is missing does not tell that something was.

    >>> mask = torch.tensor([[[True, True], [False, True], [False, True]]])
    >>> late = torch.tensor([[[False], [True], [True]]])
    >>> hide(complete(mask.float(), mask), late, torch.tensor([False, True])).mask[..., 0].tolist()
    [[False, True, False]]
    """
    observed = inputs.mask & dynamic
    visible = observed & keep
    empty_left = torch.zeros_like(inputs.padding_mask) if only_observed else keep.any(-1)
    left = torch.where(observed.any(-1), visible.any(-1), empty_left) & inputs.padding_mask
    has_statics = (inputs.mask & ~dynamic).any(-1)
    left = left | _only_first(inputs.padding_mask) & has_statics & ~left.any(-1, keepdim=True)
    source = first_true(inputs.padding_mask, 1)
    arrives = _only_first(left).unsqueeze(-1) & ~dynamic

    def show(cells: Tensor) -> Tensor:
        return torch.where(arrives, take_steps(cells, source), cells.masked_fill(~visible, 0))

    times = torch.where(left, inputs.times, 0.0)
    return StayInputs(show(inputs.x), show(inputs.mask), left, times, show(inputs.counts))


def _only_first(where: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """Each row's first True entry alone."""
    return where & (where.cumsum(-1) == 1)


def first_true(where: Bool[Tensor, "B T"], k: int) -> Int[Tensor, "B k"]:
    """The indices of each row's first ``k`` True entries in order, then of False ones where there are fewer.

    >>> first_true(torch.tensor([[False, True, False, True]]), 2).tolist()
    [[1, 3]]
    """
    return where.int().argsort(dim=-1, descending=True, stable=True)[:, :k]


def take_steps(tensor: Tensor, index: Int[Tensor, "B k"]) -> Tensor:
    """``tensor (B, T, ...)`` at the steps ``index``, ``(B, k, ...)``."""
    batch, steps = tensor.shape[:2]
    rows = index + steps * torch.arange(batch, device=index.device).unsqueeze(-1)
    return tensor.flatten(0, 1).index_select(0, rows.flatten()).view(*index.shape, *tensor.shape[2:])


def step_of(
    time: Float[Tensor, "B N"], times: Float[Tensor, "B T"], padding_mask: Bool[Tensor, "B T"]
) -> Int[Tensor, "B N"]:
    """The index of the step at which a token's time lies; padded steps are never found before real ones."""
    ordered = times.masked_fill(~padding_mask, -torch.inf).cummax(-1).values
    return torch.searchsorted(ordered.contiguous(), time.contiguous()).clamp(max=times.shape[1] - 1)


def pool_stay(tokens: Tokens) -> Float[Tensor, "B H"]:
    """The mean of each stay's valid tokens, 0 where it has none."""
    weight = tokens.valid.unsqueeze(-1).to(tokens.embedding.dtype)
    return (tokens.embedding * weight).sum(1) / weight.sum(1).clamp(min=1)


def pool_steps(
    tokens: Tokens, times: Float[Tensor, "B T"], padding_mask: Bool[Tensor, "B T"]
) -> tuple[Float[Tensor, "B T H"], Bool[Tensor, "B T"]]:
    """The mean of each step's valid tokens, 0 where it has none; and which steps have one.

    Tokens of the whole stay are left out; one of several steps is that of the first of them.
    """
    weight = (tokens.valid & (tokens.variable != STAY)).unsqueeze(-1).to(tokens.embedding.dtype)
    step = step_of(tokens.time, times, padding_mask).unsqueeze(-1)
    embedding = tokens.embedding * weight
    empty = embedding.new_zeros(*times.shape, embedding.shape[-1])
    total = empty.scatter_add(1, step.expand_as(embedding), embedding)
    n_tokens = empty[..., :1].scatter_add(1, step, weight)
    return total / n_tokens.clamp(min=1), n_tokens.squeeze(-1) > 0


def accepted_inputs(call: nn.Module | Callable[..., Any]) -> frozenset[str]:
    """The names of the keyword arguments a function, or a module's ``forward``, takes after its first.

    With ``**kwargs`` that is all of :data:`INPUTS` too.

    >>> sorted(accepted_inputs(lambda x, mask, times=None: x))
    ['mask', 'times']
    """
    function = call.forward if isinstance(call, nn.Module) else call
    parameters = list(inspect.signature(function).parameters.values())
    names = {p.name for p in parameters[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return frozenset(names | set(INPUTS)) if anything else frozenset(names)


def check_encoder(encoder: object) -> None:
    """Raise ``TypeError`` with everything that ``encoder`` lacks of :class:`Encoder`."""
    missing = []
    if not isinstance(encoder, nn.Module):
        missing.append("to be a torch.nn.Module")
    if not isinstance(getattr(encoder, "output_dim", None), int):
        missing.append("an int attribute `output_dim` (the width of its embedding)")
    forward = getattr(encoder, "forward", None)
    if forward is None:
        missing.append("a method `forward(x, ...)`")
    else:
        parameters = list(inspect.signature(forward).parameters.values())[1:]
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
        missing += [f"a default for `{name}` in its forward" for name in needed if name not in INPUTS]
    if missing:
        raise TypeError(
            f"{type(encoder).__name__} cannot be pretrained: it needs {' and '.join(missing)}. "
            f"An encoder is called as forward(x) with those of {', '.join(INPUTS)} that forward names."
        )


class TokenReader:
    """Reads the tokens of one kind of encoder; its signatures are looked up once, here.

    It keeps no reference to the encoder, so that a copy (a teacher) can be read with it too.
    """

    def __init__(self, encoder: nn.Module) -> None:
        check_encoder(encoder)
        self.output_dim: int = getattr(encoder, "output_dim")  # noqa: B009  mypy takes it for a tensor
        encode = getattr(encoder, "encode", None)
        self.has_tokens = encode is not None
        self.names = accepted_inputs(encode or encoder)
        # Without times, or with padding that matters, a step left out would be a gap unseen.
        self.may_drop_steps = self.has_tokens and {"padding_mask", "times"} <= accepted_inputs(encoder)

    def __call__(self, encoder: nn.Module, inputs: StayInputs, max_steps: int | None = None) -> Tokens:
        """The tokens of ``inputs``. No stay may have more than ``max_steps`` real steps.

        ``max_steps`` only saves work: an encoder that offers ``encode`` then sees the real steps alone.
        Raises ``ValueError`` where the encoder returns a shape that it should not.
        """
        if self.may_drop_steps and max_steps is not None and max_steps < inputs.x.shape[1]:
            index = first_true(inputs.padding_mask, max_steps)
            inputs = StayInputs(*(take_steps(field, index) for field in inputs))
        given = {name: value for name, value in inputs._asdict().items() if name in self.names}
        if self.has_tokens:
            return Tokens(*encoder.encode(inputs.x, **given)[:4])  # type: ignore[operator]
        return _as_tokens(encoder(inputs.x, **given), inputs, self.output_dim)


def _as_tokens(embedding: Tensor, inputs: StayInputs, width: int) -> Tokens:
    """A foreign encoder's output as step tokens, or as the one token of a stay."""
    steps = inputs.padding_mask
    if embedding.shape == (*steps.shape, width):
        return Tokens(embedding, steps, inputs.times, torch.full_like(steps, STEP, dtype=torch.long))
    if embedding.shape == (len(steps), width):
        valid = steps.any(-1, keepdim=True)
        no_time = torch.zeros_like(inputs.times[:, :1])
        return Tokens(embedding.unsqueeze(1), valid, no_time, torch.full_like(valid, STAY, dtype=torch.long))
    raise ValueError(
        f"the encoder returned {tuple(embedding.shape)}; allowed are (B, T, H) = {(*steps.shape, width)} "
        f"and (B, H) = {(len(steps), width)}, with H its output_dim"
    )
