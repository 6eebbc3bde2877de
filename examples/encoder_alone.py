"""An encoder alone, in plain torch: from sparse stays to a label, with nothing else of ours installed.

pip install slices-encoders
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slices.encoders import build_encoder

STAYS, STEPS, VARIABLES = 256, 24, 8


def make_stays(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, what was observed, hours, and a label: does the first variable rise?"""
    times = torch.rand(STAYS, STEPS, generator=generator).mul(48).sort(dim=1).values  # hours since admission
    slope = torch.randn(STAYS, 1, generator=generator)
    values = torch.randn(STAYS, STEPS, VARIABLES, generator=generator)
    values[:, :, 0] = 0.5 * values[:, :, 0] + slope * (times - 24) / 12
    observed = torch.rand(STAYS, STEPS, VARIABLES, generator=generator) < 0.3
    return values, observed, times, (slope[:, 0] > 0).float()


def main() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    values, observed, times, rises = make_stays(generator)
    encoder = build_encoder("gru", {"d_input": VARIABLES, "d_model": 32})
    print(encoder.describe())

    classify = nn.Linear(encoder.output_dim, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *classify.parameters()], lr=1e-2)
    for _ in range(40):
        logit = classify(encoder(values, observed, times=times))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logit, rises)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    values, observed, times, rises = make_stays(generator)  # others
    encoder.eval()
    with torch.no_grad():
        says = classify(encoder(values, observed, times=times))[:, 0] > 0
    print(f"accuracy on new stays: {(says == rises.bool()).float().mean():.2f}")


if __name__ == "__main__":
    main()
