"""Predicting a teacher's embeddings of what was hidden.

Letters: B stays, T time steps, D variables, N tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .decoder import CrossAttentionDecoder
from .encoding import (
    STAY,
    STEP,
    StayInputs,
    TokenReader,
    Tokens,
    first_true,
    pool_stay,
    step_of,
    take_steps,
)
from .losses import latent_loss
from .losses.averages import moments
from .teacher import Teacher, cosine_momentum
from .viewing import Masked


class LatentPrediction(nn.Module):
    """A light predictor asks the tokens of what is visible for those that a teacher has of the whole stay.

    Asked for, and scored, are the tokens in which a hidden observation has a part, by (time, variable): those
    of its cell, of its step, of a span of steps, or of the stay, whichever the encoder has; tokens of a
    static variable are not. Of more than ``max_targets`` a stay as many are, evenly spread.

    Args:
        encoder: of which the teacher is a copy that follows it.
        read: reads its tokens.
        n_variables: D, for which a token may stand; 0 where it cannot.
        momentum: of the teacher, at the start; it rises to 1 over the run.
        max_targets: as above.
        width, n_layers, n_heads: size of the predictor.
    """

    def __init__(
        self,
        encoder: nn.Module,
        read: TokenReader,
        n_variables: int,
        momentum: float,
        max_targets: int,
        width: int,
        n_layers: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        self.read, self.momentum, self.max_targets = read, momentum, max_targets
        self.teacher = Teacher(encoder)
        out = read.output_dim
        self.predictor = CrossAttentionDecoder(out, out, n_variables, width, n_layers, n_heads)

    def follow(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        """Move the teacher; after optimizer step ``step`` of ``total_steps``."""
        self.teacher.update(encoder, cosine_momentum(self.momentum, step, total_steps))

    def forward(self, seen: Masked) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss; and as ``target_std`` how far the targets of stays lie apart."""
        with torch.no_grad():
            target = self.read(self.teacher.model, seen.inputs)
        hidden = hidden_tokens(target, seen.inputs, seen.inputs.mask & seen.hidden)
        index, asked = evenly(hidden, self.max_targets)
        time, variable = target.time.gather(1, index), target.variable.gather(1, index)
        predicted = self.predictor(seen.tokens, time, variable)
        loss = latent_loss(predicted, take_steps(target.embedding, index), asked)
        return loss, {"target_std": spread_of_stays(target)}


def hidden_tokens(tokens: Tokens, inputs: StayInputs, hidden: Bool[Tensor, "B T D"]) -> Bool[Tensor, "B N"]:
    """The valid tokens in which a hidden cell has a part.

    A token of a variable, or of all at a step, covers the steps from its time up to the next token of its
    kind: one step or cell of most encoders, a patch, a bin or a whole row of others.
    """
    cells = torch.cat([hidden, hidden.any(-1, keepdim=True)], dim=-1)  # (B, T, D + 1), the last of all
    n_steps, n_kinds = cells.shape[1:]
    step = step_of(tokens.time, inputs.times, inputs.padding_mask)
    kind = torch.where(tokens.variable == STEP, n_kinds - 1, tokens.variable.clamp(min=0))
    place = step * n_kinds + kind
    begins = tokens.valid & (tokens.variable != STAY)
    none = torch.zeros_like(cells, dtype=torch.int32).flatten(1)
    has_token = none.scatter_add(1, place, begins.int()).view_as(cells) > 0
    order = torch.arange(n_steps, device=step.device).view(-1, 1)
    covered_by = torch.where(has_token, order, -1).cummax(1).values
    touched = none.view_as(cells).scatter_add(1, covered_by.clamp(min=0), (cells & (covered_by >= 0)).int())
    in_it = touched.flatten(1).gather(1, place) > 0
    of_stay = hidden.flatten(1).any(-1, keepdim=True)
    return tokens.valid & torch.where(tokens.variable == STAY, of_stay, in_it)


def evenly(where: Bool[Tensor, "B N"], most: int) -> tuple[Int[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """The places of up to K = min(most, N) of each row's True entries, evenly spread; and which exist.

    >>> evenly(torch.tensor([[True, True, False, True, True], [False, False, False, False, True]]), 2)[0]
    tensor([[0, 3],
            [4, 0]])
    """
    n_places = min(most, where.shape[1])
    n = where.sum(-1, keepdim=True)
    place = torch.arange(n_places, device=where.device).expand(len(where), -1)
    rank = torch.where(n > n_places, place * n // n_places, place)
    return first_true(where, where.shape[1]).gather(1, rank), place < n


def spread_of_stays(target: Tokens) -> Float[Tensor, ""]:
    """Of the mean layer-normed embeddings of stays with tokens, the deviation; mean over coordinates."""
    normed = F.layer_norm(target.embedding.float(), target.embedding.shape[-1:])
    there = target.valid.any(-1, keepdim=True)
    _, deviation, n = moments(pool_stay(target._replace(embedding=normed)), there.float())
    return (deviation.square().sum(0) / n.clamp(min=1)).sqrt().mean()
