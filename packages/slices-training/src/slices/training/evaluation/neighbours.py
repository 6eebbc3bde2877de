"""The k nearest neighbours' vote. Letters: N training rows, M others, F features, C classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def knn_predict(
    train: Float[Tensor, "N F"],
    label: Int[Tensor, "N"],
    others: Float[Tensor, "M F"],
    n_classes: int = 2,
    k: int = 20,
    temperature: float = 0.07,
) -> Float[Tensor, "M C"]:
    """Shares of the vote of the ``k`` nearest training rows, by cosine similarity s, each with weight
    exp(s / temperature) (Wu et al., 2018, section 3.4).

    >>> train = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> knn_predict(train, torch.tensor([0, 0, 1]), torch.tensor([[0.0, 2.0]]), k=1)
    tensor([[0., 1.]])
    """
    similarity = F.normalize(others.float(), dim=-1) @ F.normalize(train.float(), dim=-1).T
    near = similarity.topk(min(k, len(train)), dim=1)
    weight = torch.softmax(near.values / temperature, dim=1)
    votes = weight.new_zeros(len(others), n_classes)
    return votes.scatter_add(1, label[near.indices].long(), weight)
