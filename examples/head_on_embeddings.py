"""A head on somebody else's embeddings: rare labels, some of them missing.

pip install slices-heads
"""

from __future__ import annotations

import torch

from slices.heads import balanced_class_weights, build_task_head, build_task_loss

STAYS, WIDTH = 512, 48


def main() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(STAYS, WIDTH)  # from any model: a row a stay
    risk = embedding[:, :4].sum(1) - 2.5
    died = (risk + 0.5 * torch.randn(STAYS) > 0).long()  # about one in ten
    known = torch.rand(STAYS) < 0.8

    task = {"name": "mlp", "task_type": "binary", "input_dim": WIDTH, "hidden_dims": [16]}
    head = build_task_head(task)
    weight = balanced_class_weights(died, known, "binary", 2)
    loss_of = build_task_loss(task, class_weight=weight)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(100):
        loss = loss_of(head(embedding)["logits"], died, known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    head.eval()
    with torch.no_grad():
        probability = head(embedding)["probs"][:, 1]
    unseen, dead = ~known, died == 1
    above = (probability[unseen & dead][:, None] > probability[unseen & ~dead]).float().mean()
    print(f"AUROC on the stays without a label: {above:.2f}")


if __name__ == "__main__":
    main()
