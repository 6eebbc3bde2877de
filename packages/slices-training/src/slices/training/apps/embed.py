"""``slices-embed``: embeddings of any stays, from a pretrained encoder or a fine-tuned model."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch

log = logging.getLogger(__name__)


def embed(config: DictConfig) -> None:
    """Writes the embeddings of all stays of a source."""
    from hydra.core.hydra_config import HydraConfig

    from slices.training.apps.predict import stays_of
    from slices.training.apps.run import Cost
    from slices.training.serving.config import EmbedConfig, device_of
    from slices.training.serving.dataset import refuse_view_options
    from slices.training.serving.embedding import embedding_schema, embedding_tables, read_embedder
    from slices.training.serving.stays import NewStays
    from slices.training.serving.streaming import write_stream

    cost = Cost()
    with checking_what_was_asked():
        refuse_view_options(HydraConfig.get().overrides.task)
        parsed = EmbedConfig.parse(config)
        folder = Path(HydraConfig.get().runtime.output_dir)
        embedder = read_embedder(parsed.model, per_step=parsed.per_step, pooling=parsed.pooling)
        embedder = embedder.to(device_of(parsed.device))
        with stays_of(parsed, folder, embedder.inputs.variables) as (store, _):
            stays = NewStays(store, embedder.inputs, adapt=parsed.adapt_variables)
            if parsed.at is not None:
                stays.ask_at(parsed.at)
            width = embedder.encoder.output_dim
            log.info(
                "embeddings %d wide of %s samples; view: %s", width, f"{len(stays):,}", embedder.inputs.view
            )
            file = folder / "embeddings.parquet"
            tables = embedding_tables(embedder, stays, parsed.data.batch_size)
            rows = write_stream(file, tables, embedding_schema(width))
    log.info("%s embeddings: %s, after %s", f"{rows:,}", file, cost)


def main() -> None:
    launch("embed", embed)


if __name__ == "__main__":
    main()
