from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slices.encoders import build_encoder
from slices.encoders.inputs import clocked_features, complete
from slices.encoders.rnn import RNNEncoder


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_padding_is_left_out_of_the_recurrence(name: str, stays: dict[str, Tensor]) -> None:
    encoder = build_encoder(name, {"d_input": 5, "d_model": 8, "pooling": "none"}).eval()
    assert isinstance(encoder, RNNEncoder)
    out = encoder(**stays)
    for i, real in enumerate(stays["padding_mask"]):
        alone = complete(**{key: value[i : i + 1, real] for key, value in stays.items()})
        hidden, _ = encoder.rnn(clocked_features(alone))
        torch.testing.assert_close(out[i, real], hidden[0])
