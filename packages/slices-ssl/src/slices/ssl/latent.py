"""Predicting a teacher's embeddings of what was hidden.

Letters: B stays, T time steps, D variables, N tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .decoder import CrossAttentionDecoder
from .encoding import STAY, STEP, StayInputs, TokenReader, Tokens, pool_stay, step_of
from .losses import latent_loss
from .teacher import Teacher, cosine_momentum
from .viewing import Masked


class LatentPrediction(nn.Module):
    """A light predictor asks the tokens of what is visible for those that a teacher has of the whole stay.

    Asked for, and scored, are the tokens in which a hidden observation has a part, by (time, variable): those
    of its cell, of its step, or of the stay, whichever the encoder has; tokens of a static variable are not.

    Args:
        encoder: of which the teacher is a copy that follows it.
        read: reads its tokens.
        n_variables: D, for which a token may stand; 0 where it cannot.
        momentum: of the teacher, at the start; it rises to 1 over the run.
        width, n_layers, n_heads: size of the predictor.
    """

    def __init__(
        self,
        encoder: nn.Module,
        read: TokenReader,
        n_variables: int,
        momentum: float,
        width: int,
        n_layers: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        self.read, self.momentum = read, momentum
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
        predicted = self.predictor(seen.tokens, target.time, target.variable)
        hidden = seen.inputs.mask & seen.hidden
        loss = latent_loss(predicted, target.embedding, hidden_tokens(target, seen.inputs, hidden))
        return loss, {"target_std": spread_of_stays(target)}


def hidden_tokens(tokens: Tokens, inputs: StayInputs, hidden: Bool[Tensor, "B T D"]) -> Bool[Tensor, "B N"]:
    """The valid tokens in which a hidden cell has a part."""
    step = step_of(tokens.time, inputs.times, inputs.padding_mask)
    width = hidden.shape[-1]
    cell = step * width + tokens.variable.clamp(0, width - 1)
    of_cell = hidden.flatten(1).gather(1, cell)
    of_step = hidden.any(-1).gather(1, step)
    of_stay = hidden.flatten(1).any(-1, keepdim=True)
    in_it = of_cell.where(tokens.variable >= 0, of_step & (tokens.variable == STEP))
    return tokens.valid & (in_it | of_stay & (tokens.variable == STAY))


def spread_of_stays(target: Tokens) -> Float[Tensor, ""]:
    """The standard deviation between stays of their mean layer-normed embedding; mean over coordinates."""
    normed = F.layer_norm(target.embedding.float(), target.embedding.shape[-1:])
    return pool_stay(target._replace(embedding=normed)).std(0, correction=0).mean()
