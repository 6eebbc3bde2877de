from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slices.encoders import (
    ENCODER_CONFIG_REGISTRY,
    ENCODER_REGISTRY,
    BaseEncoder,
    EncoderConfig,
    RNNConfig,
    build_encoder,
    list_encoders,
    load_encoder,
    register_encoder,
    save_encoder,
)
from slices.encoders.registry import make_config

CONFIGS = Path(__file__).parents[3] / "configs" / "encoder"


def test_built_ins_are_listed() -> None:
    assert {"gru", "linear", "lstm", "transformer"} <= set(list_encoders())
    assert list_encoders("*stm") == ["lstm"]


@pytest.mark.parametrize("name", list_encoders())
def test_a_dataclass_and_a_mapping_build_the_same(name: str) -> None:
    config = ENCODER_CONFIG_REGISTRY[name](d_input=3, d_model=8, static_columns=(1,))
    torch.manual_seed(0)
    one = build_encoder(name, config)
    torch.manual_seed(0)
    other = build_encoder(name, {"name": name, "d_input": 3, "d_model": 8, "static_columns": [1]})
    assert one.config == other.config
    x = torch.randn(2, 4, 3)
    assert torch.equal(one.eval()(x), other.eval()(x))


@pytest.mark.parametrize(
    ("name", "config", "error", "message"),
    [
        ("transfomer", {}, ValueError, "unknown encoder 'transfomer': did you mean 'transformer'"),
        ("gru", {"d_modle": 3}, ValueError, "encoder: unknown option 'd_modle': did you mean 'd_model'"),
        ("gru", {"n_heads": 2}, ValueError, "unknown option 'n_heads'"),
        ("gru", {"name": "lstm"}, ValueError, "the config is of 'lstm', but 'gru' was asked for"),
        ("gru", {"d_model": "8"}, TypeError, "encoder.d_model: expected int, got '8'"),
        ("transformer", RNNConfig(d_input=3), TypeError, "expected a mapping or TransformerConfig"),
        ("gru", {}, ValueError, "GRUEncoder needs d_input, the number of variables"),
        ("gru", {"d_model": 0}, ValueError, "d_model must be at least 1, got 0"),
        ("gru", {"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\), got 1.0"),
        ("gru", {"pooling": "cls"}, ValueError, "'cls' is not offered: a recurrent encoder has no CLS token"),
        ("gru", {"pooling": "men"}, ValueError, "did you mean 'mean'"),
        (
            "gru",
            {"static_columns": [4], "d_input": 4},
            ValueError,
            r"static_columns must be in \[0, d_input=4",
        ),
        ("gru", {"static_columns": [-1]}, ValueError, "static_columns must be in"),
        ("gru", {"static_columns": [1, 1]}, ValueError, "static_columns must not repeat"),
        (
            "duett",
            {"d_input": 2, "static_columns": [0, 1]},
            ValueError,
            "needs a variable that is not static",
        ),
        ("linear", {"n_layers": 2}, ValueError, "n_layers of the linear encoder must be 1, got 2"),
        ("transformer", {"n_heads": 3}, ValueError, "d_model must be a multiple of n_heads"),
        ("transformer", {"n_heads": 0}, ValueError, "n_heads must be at least 1"),
        ("transformer", {"d_ff": 0}, ValueError, "d_ff must be at least 1 or None"),
        ("transformer", {"causal": True, "pooling": "cls"}, ValueError, "'cls' is not offered with causal"),
    ],
)
def test_mistakes_are_answered(name: str, config: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_encoder(name, config)


def test_another_number_of_variables_is_refused() -> None:
    with pytest.raises(ValueError, match="x has 4 variables, the encoder was built for 3"):
        build_encoder("gru", {"d_input": 3})(torch.randn(1, 2, 4))


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="outside a checkout of the repository")
@pytest.mark.parametrize("name", list_encoders())
def test_preset_states_the_defaults(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    preset = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    defaults = asdict(ENCODER_CONFIG_REGISTRY[name]())
    assert preset == {"name": name, **defaults, "static_columns": list(defaults["static_columns"])}
    assert next(iter(preset)) == "name"


@dataclass
class MyEncoderConfig(EncoderConfig):
    hidden_size: int = 7


class MyEncoder(BaseEncoder):
    """Written to the recipe: no more than a constructor and a forward."""

    def __init__(self, config: MyEncoderConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(self.d_input, config.d_model)

    def forward(self, x: Tensor, mask: Any = None, padding_mask: Any = None) -> Tensor:  # type: ignore[override]
        steps = self.linear(x)
        return steps if self.config.pooling == "none" else steps.mean(1)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODER_REGISTRY, "my_encoder", MyEncoder)
    monkeypatch.setitem(ENCODER_CONFIG_REGISTRY, "my_encoder", MyEncoderConfig)


@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize(("pooling", "variable"), [("none", [-1, -1, -1]), ("mean", [-2])])
def test_an_encoder_of_the_recipe_is_a_full_member(pooling: str, variable: list[int], tmp_path: Path) -> None:
    config = {"name": "my_encoder", "hidden_size": 9, "d_input": 2, "d_model": 4, "pooling": pooling}
    encoder = build_encoder("my_encoder", config)
    x, padding_mask = torch.randn(2, 3, 2), torch.tensor([[True, True, False], [False] * 3])
    tokens = encoder.encode(x, padding_mask=padding_mask, times=torch.ones(2, 3))
    assert tokens.variable[0].tolist() == variable
    assert tokens.embedding.shape == (2, len(variable), encoder.output_dim)
    assert tokens.valid[0, 0] and not tokens.valid[1].any() and not tokens.embedding[1].any()
    assert not encoder.causal
    loaded = load_encoder(save_encoder(tmp_path / "mine.pt", encoder)).encoder
    assert torch.equal(loaded(x), encoder.eval()(x))


@pytest.mark.usefixtures("recipe")
def test_a_forward_may_call_its_inputs_what_it_likes() -> None:
    class Open(MyEncoder):
        def forward(self, values: Tensor, mask: Any = None, **rest: Any) -> Tensor:  # type: ignore[override]
            self.given = {"mask": mask, **rest}
            return super().forward(values)

    encoder = Open(MyEncoderConfig(d_input=2, d_model=4))
    times = torch.tensor([[0.0, 1.5, 7.0]])
    encoder.encode(torch.randn(1, 3, 2), times=times)
    assert encoder.given.keys() == {"mask", "padding_mask", "times", "counts"}
    assert torch.equal(encoder.given["times"], times)


def test_a_tuple_of_a_fixed_length_has_that_length() -> None:
    @dataclass
    class Pair:
        betas: tuple[float, float] = (0.9, 0.999)

    assert make_config(Pair, {"betas": [0, 0.5]}, "pair").betas == (0.0, 0.5)
    for wrong in ([0.9], [0.9, 0.99, 0.999]):
        with pytest.raises(ValueError, match=rf"pair.betas: expected 2 values, got {len(wrong)}"):
            make_config(Pair, {"betas": wrong}, "pair")


def test_a_wrong_output_dim_is_found() -> None:
    class Wider(MyEncoder):
        output_dim = 5  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"Wider.forward gives width 4, but output_dim is 5"):
        Wider(MyEncoderConfig(d_input=2, d_model=4)).encode(torch.randn(1, 3, 2))


def test_the_decorator_registers_both_and_takes_no_name_away() -> None:
    def decorated() -> type[MyEncoder]:
        class Decorated(MyEncoder):
            pass

        return Decorated

    try:
        first, again = decorated(), decorated()
        assert register_encoder("decorated", MyEncoderConfig)(first) is first
        assert type(build_encoder("decorated", {"d_input": 2})) is first
        register_encoder("decorated", MyEncoderConfig)(again)  # a notebook's cell that runs twice
        assert type(build_encoder("decorated", {"d_input": 2})) is again
        with pytest.raises(ValueError, match=r"the encoder 'decorated' is taken by .*Decorated"):
            register_encoder("decorated", MyEncoderConfig)(MyEncoder)
    finally:
        del ENCODER_REGISTRY["decorated"], ENCODER_CONFIG_REGISTRY["decorated"]
