"""Building by name, the errors a user meets, and the extension recipe."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from slices.ssl import JEPA, MAE, JEPAConfig, MAEConfig, build_ssl_objective, list_objectives
from slices.ssl.base import BaseSSLObjective, SSLConfig
from slices.ssl.factory import CONFIG_REGISTRY, SSL_REGISTRY


def test_by_name_or_by_dataclass(make):
    encoder = make("OnlyX")
    from_mapping = build_ssl_objective(encoder, {"name": "mae", "d_input": 5, "mask_ratio": 0.15})
    from_dataclass = build_ssl_objective(encoder, MAEConfig(d_input=5, mask_ratio=0.15))
    assert type(from_mapping) is type(from_dataclass) is MAE
    assert from_mapping.config == from_dataclass.config
    assert from_mapping.encoder is encoder
    assert list_objectives("*ae") == ["mae"]
    assert len(list_objectives()) == 16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "may"}, "unknown SSL objective 'may': did you mean 'mae'"),
        ({"mask_ratio": 0.5}, "unknown SSL objective ''.*There are: barlow_twins, byol, contrastive"),
        ({"name": "mae", "mask_ration": 0.5}, "unknown option 'mask_ration': did you mean 'mask_ratio'"),
        ({"name": "mae", "mask_ratio": 1.0}, "mask_ratio=1.0: must be between 0 and 1"),
        ({"name": "mae", "mask_mode": "times"}, "mask_mode.*'times': did you mean 'time'"),
        ({"name": "mae", "decoder_dim": 10}, "decoder_dim=10: must be a multiple of decoder_heads=4"),
        ({"name": "mae", "decoder_layers": 0}, "decoder_layers=0: must be at least 1"),
        ({"name": "mae", "weighting": "cells"}, "weighting.*'cells': did you mean 'cell'"),
        ({"name": "sum"}, "parts: must name at least one objective"),
        ({"name": "sum", "parts": {"mea": {}}}, "unknown SSL objective 'mea': did you mean 'mae'"),
        (
            {"name": "sum", "parts": {"mae": {"mask_ration": 0.3}}},
            "parts.mae: unknown option 'mask_ration'",
        ),
        ({"name": "sum", "parts": {"mae": {"weight": -1}}}, "parts.mae.weight=-1: must be"),
        ({"name": "sum", "parts": {"mae": {"d_input": 3}}}, "parts.mae.d_input: is the sum's"),
        ({"name": "sum", "parts": {"a": {"name": "sum"}}}, "a sum is no part of a sum"),
        ({"name": "sum", "parts": {"a.b": {"name": "mae"}}}, "parts.a.b: a part's name must be a word"),
        ({"name": "sum", "parts": {"keys": {"name": "mae"}}}, "parts.keys: a part's name must be a word"),
        ({"name": "sum", "parts": {"training": {"name": "mae"}}}, "parts.training: a part's name must be"),
        (
            {"name": "sum", "parts": {"mae": {"weight": float("inf")}}},
            "parts.mae.weight=inf: must be a finite",
        ),
        (
            {"name": "mae", "presence_weight": float("inf")},
            "presence_weight=inf: must be finite",
        ),
        ({"name": "vicreg", "views": {"corp": 0.5}}, "ssl.views: unknown option 'corp': did you mean 'crop'"),
        ({"name": "vicreg", "views": {"crop": 0.0}}, "crop=0.0: must be above 0 and at most 1"),
        ({"name": "time_to_event", "bins": [2.0, 1.0]}, r"bins=\(2.0, 1.0\): must be hours that rise"),
        ({"name": "dino", "n_prototypes": 1}, "n_prototypes=1: must be at least 2"),
        ({"name": "mae"}, "MAE predicts values, so it needs .* set d_input"),
        ({"name": "mae", "d_input": 5, "static_columns": [5]}, r"static_columns=\(5,\).*d_input=5"),
        ({"name": "mae", "d_input": 5, "static_columns": [-1]}, "static_columns.*counted from 0"),
        ({"name": "contrastive", "temperature": 0.0}, "temperature=0.0: must be above 0"),
        (
            {"name": "contrastive", "temperature": float("inf")},
            "temperature=inf: must be above 0, and finite",
        ),
        (
            {"name": "contrastive", "mode": "temporal", "views": {"crop": 0.5}},
            "views.crop=0.5: must be",
        ),
        ({"name": "jepa", "momentum": 1.5}, "momentum=1.5: must be from 0 to 1"),
    ],
)
def test_bad_options_are_refused_with_what_is_allowed(config, message, make):
    with pytest.raises(ValueError, match=message):
        build_ssl_objective(make("OnlyX"), config)


def test_wrong_types_are_refused(make):
    with pytest.raises(TypeError, match=r"ssl.mask_ratio: expected float, got 'half'"):
        build_ssl_objective(make("OnlyX"), {"name": "mae", "mask_ratio": "half"})
    with pytest.raises(TypeError, match="expected a mapping or MAEConfig, got JEPAConfig"):
        build_ssl_objective(make("OnlyX"), JEPAConfig(name="mae"))
    with pytest.raises(TypeError, match=r"Linear cannot be pretrained: it needs .*`output_dim`"):
        build_ssl_objective(nn.Linear(5, 8), {"name": "mae"})


def test_an_encoder_and_an_objective_of_different_widths_are_refused(make):
    encoder = make("OnlyX")
    encoder.config = MAEConfig(d_input=5)
    assert build_ssl_objective(encoder, {"name": "mae"}).d_input == 5
    with pytest.raises(ValueError, match="d_input=5 variables, the objective 6"):
        build_ssl_objective(encoder, {"name": "mae", "d_input": 6})


def test_jepa_needs_no_width_for_an_encoder_without_tokens_of_its_own(make, batch):
    assert JEPA(make("StepGRU"), JEPAConfig())(*batch)[0] > 0
    with pytest.raises(ValueError, match="JEPA asks for tokens by variable"):
        JEPA(make("ObservationTokens"), JEPAConfig())


def test_the_recipe_for_a_new_objective(make, batch):
    @dataclass
    class MySSLConfig(SSLConfig):
        name: str = "my_ssl"
        scale: float = 2.0

    class MySSLObjective(BaseSSLObjective):
        def __init__(self, encoder, config: MySSLConfig):
            super().__init__(encoder, config)

        def forward(self, x, mask):
            loss = self.config.scale * self.encoder(x).square().mean()
            return loss, {"observed": mask.float().mean()}

    SSL_REGISTRY["my_ssl"] = MySSLObjective
    CONFIG_REGISTRY["my_ssl"] = MySSLConfig
    try:
        objective = build_ssl_objective(make("OnlyX"), {"name": "my_ssl", "scale": 3})
    finally:
        del SSL_REGISTRY["my_ssl"], CONFIG_REGISTRY["my_ssl"]
    loss, metrics = objective(batch.x, batch.mask)
    assert torch.allclose(loss, 3 * objective.encoder(batch.x).square().mean())
    assert objective.draw(batch.x, batch.mask) is None
    assert objective.on_optimizer_step(1, 10) is None
    assert set(metrics) == {"observed"}
