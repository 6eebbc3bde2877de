"""An objective on an encoder of your own: a module with ``output_dim`` and a ``forward``, here a GRU.

pip install slices-ssl
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slices.ssl import build_ssl_objective

STAYS, STEPS, VARIABLES = 64, 24, 8


class Yours(nn.Module):
    """A GRU on values and on what was observed; objectives pass what ``forward`` names."""

    output_dim = 32

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2 * VARIABLES, self.output_dim, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        steps: Tensor = self.gru(torch.cat((x, mask.float()), dim=-1))[0]
        return steps


def main() -> None:
    torch.manual_seed(0)
    level = torch.randn(STAYS, 1, VARIABLES)  # what the steps of a stay have in common
    values = level + 0.3 * torch.randn(STAYS, STEPS, VARIABLES)
    observed = torch.rand(STAYS, STEPS, VARIABLES) < 0.4

    objective = build_ssl_objective(Yours(), {"name": "mae", "d_input": VARIABLES, "mask_ratio": 0.5})
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    total = 60
    for step in range(1, total + 1):
        loss, metrics = objective(values, observed)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.on_optimizer_step(step, total)  # moves a teacher, where the objective has one
        if step in (1, total):
            print(f"step {step}: error of hidden values {metrics['reconstruction']:.2f}")

    torch.save(objective.encoder.state_dict(), "yours.pt")


if __name__ == "__main__":
    main()
