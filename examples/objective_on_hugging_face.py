"""An objective on a model of Hugging Face's transformers: BERT's blocks over the steps of a stay.

pip install slices-ssl transformers
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from slices.ssl import build_ssl_objective

STAYS, STEPS, VARIABLES, WIDTH = 128, 24, 8, 32


class Bert(nn.Module):
    """A step's values, and which were observed, become BERT's ``inputs_embeds``."""

    output_dim = WIDTH

    def __init__(self) -> None:
        super().__init__()
        size = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "vocab_size": 1}
        shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": STEPS}
        self.embed = nn.Linear(2 * VARIABLES, WIDTH)
        self.bert = BertModel(BertConfig(**size, **shape), add_pooling_layer=False)

    def forward(self, x: Tensor, mask: Tensor, padding_mask: Tensor) -> Tensor:
        steps = self.embed(torch.cat((x, mask.float()), dim=-1))
        out: Tensor = self.bert(inputs_embeds=steps, attention_mask=padding_mask.long()).last_hidden_state
        return out


def main() -> None:
    torch.manual_seed(0)
    values = torch.randn(STAYS, 1, VARIABLES) + 0.3 * torch.randn(STAYS, STEPS, VARIABLES)
    observed = torch.rand(STAYS, STEPS, VARIABLES) < 0.4

    objective = build_ssl_objective(Bert(), {"name": "vicreg", "d_input": VARIABLES})
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    for step in range(1, 11):
        loss, metrics = objective(values, observed)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss:.2f}, distance of two views {metrics['distance']:.2f}")


if __name__ == "__main__":
    main()
