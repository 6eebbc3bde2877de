"""Embeddings of new stays as rows, from a pretrained encoder or a fine-tuned model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch
from torch import Tensor

from slices.encoders import ENCODER_REGISTRY, BaseEncoder, EncoderCard, LoadedEncoder, Normalizer
from slices.encoders.config import PoolingName
from slices.encoders.files import checked_path, is_of_kind
from slices.encoders.registry import make_config
from slices.ssl.encoding import INPUTS, accepted_inputs
from slices.training.batch import keywords
from slices.training.config import NamedEncoder
from slices.training.data.schema import Variable
from slices.training.errors import UserError
from slices.training.pretrained import adapted, read_pretrained
from slices.training.serving.ensemble import model_files
from slices.training.serving.file import MODEL, load_model
from slices.training.serving.info import ViewConfig
from slices.training.serving.stays import Inputs, NewStays

VIEW = ("resolution", "horizon", "window", "max_steps", "aggregate")


class Embedder(NamedTuple):
    """An encoder with all that it needs to be fed."""

    encoder: BaseEncoder
    normalizer: Normalizer
    inputs: Inputs

    @torch.no_grad()
    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, H), or (B, T, H) where the encoder does not pool, of a batch in raw units; on the CPU."""
        device = self.normalizer.location.device
        given = {name: batch[name].to(device) for name in INPUTS}
        x = self.normalizer(batch["timeseries"].to(device), given["mask"])
        embedding: Tensor = self.encoder(x, **keywords(given, accepted_inputs(self.encoder)))
        return embedding.float().cpu()

    def to(self, device: torch.device) -> Embedder:
        """The same on a device."""
        return self._replace(encoder=self.encoder.to(device), normalizer=self.normalizer.to(device))


def read_embedder(path: str, *, per_step: bool = False, pooling: PoolingName | None = None) -> Embedder:
    """The encoder of an encoder's file, a pretraining checkpoint, or a fine-tuned model's file or folder.

    Args:
        path: where it lies.
        per_step: one embedding a step, whatever the pooling was.
        pooling: another than its own.

    Raises:
        UserError: a file that does not say how to feed it, or a pooling that nobody trained.
        ValueError, FileNotFoundError: no such file, or another one; it is named.
    """
    place = Path(path)
    if place.is_dir():
        place, *others = model_files(place)
        if others:
            raise UserError(f"{path} holds {1 + len(others)} models: give the file of one, e.g. {place}")
    if place.suffix != ".ckpt" and is_model(place):
        model = load_model(place)
        loaded = LoadedEncoder(model.encoder, model.normalizer, EncoderCard())
        inputs = Inputs(model.info.columns, model.info.view)
    else:
        found = read_pretrained(place)
        assert found is not None
        loaded, inputs = found, _inputs_of(place, found)
    if loaded.normalizer is None:
        raise UserError(f"{path} has no normaliser, so that it cannot be fed raw units: pretrain it anew")
    return Embedder(_pooled(loaded, per_step, pooling), loaded.normalizer, inputs)


def is_model(path: Path) -> bool:
    """Is this the file of a fine-tuned model, and not of an encoder?"""
    if not path.is_file():
        raise FileNotFoundError(f"no encoder at {path}: give the file of one, or of a model")
    return is_of_kind(checked_path(path), MODEL)


def _inputs_of(path: Path, loaded: LoadedEncoder) -> Inputs:
    """Of an encoder's card: it says all but which variables are summed."""
    card, static = loaded.card, set(loaded.encoder.config.static_columns)
    if not card.variables or any(key not in card.data for key in VIEW):
        raise UserError(
            f"{path} does not say which variables it takes and how a stay is cut: pretrain it anew"
        )
    units = card.units or ("",) * len(card.variables)
    variables = tuple(
        Variable(name=name, unit=unit, static=i in static)
        for i, (name, unit) in enumerate(zip(card.variables, units, strict=True))
    )
    view = make_config(ViewConfig, {key: card.data[key] for key in VIEW}, "view")
    return Inputs(variables, view, sums_known=False)


def _pooled(loaded: LoadedEncoder, per_step: bool, pooling: PoolingName | None) -> BaseEncoder:
    name, config = ENCODER_REGISTRY.name_of(type(loaded.encoder)), loaded.encoder.config
    wanted = NamedEncoder(name=name, config=dataclasses.replace(config, pooling=pooling or config.pooling))
    encoder, untrained = adapted(loaded, wanted, name, per_step)
    if untrained:
        raise UserError(
            f"pooling={encoder.config.pooling}: nobody trained its weights ({', '.join(untrained)}): use "
            "pooling=mean"
        )
    return encoder.eval()


def embedding_schema(width: int) -> pl.Schema:
    """The columns of the rows."""
    about = {"stay_id": pl.Int64, "patient_id": pl.Int64, "time": pl.Float32}
    return pl.Schema(about | {"embedding": pl.Array(pl.Float32, width)})


def embedding_tables(embedder: Embedder, stays: NewStays, batch_size: int) -> Iterator[pl.DataFrame]:
    """A row for each sample, or each of its real steps, a table a batch.

    ``time``, in hours since admission, is the end of what was seen; of a step, its beginning (on a grid), or
    its timestamp.
    """
    width = embedder.encoder.output_dim
    for rows, batch in stays.batches(batch_size):
        embedding = embedder.embed(batch)
        samples = stays.samples.take(rows)
        length = torch.from_numpy(stays.store.length_hours[samples.stay])
        time = torch.from_numpy(samples.until).minimum(length).clamp(max=stays.view.horizon)
        ids = {name: batch[name] for name in ("stay_id", "patient_id")}
        if embedding.ndim == 3:
            real = batch["padding_mask"]
            ids = {name: value.unsqueeze(1).expand(real.shape)[real] for name, value in ids.items()}
            time, embedding = batch["times"][real], embedding[real]
        columns = {name: value.numpy() for name, value in (ids | {"time": time}).items()}
        vectors = pl.Series(embedding.numpy(), dtype=pl.Array(pl.Float32, width))
        yield pl.DataFrame(columns).with_columns(embedding=vectors)
