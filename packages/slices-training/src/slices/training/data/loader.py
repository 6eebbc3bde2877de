"""Batches in a seeded order, the same whether a run was interrupted or not."""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Index = npt.NDArray[np.int64]
SORTED_TOGETHER = 32  # batches whose stays are sorted by size: few enough that an epoch stays random


class StaySampler:
    """Which stays each batch of an epoch holds, on each rank.

    Training (``shuffle=True``): a permutation by (seed, epoch), repeated from its start to a multiple
    of the ranks, dealt out batch by batch, so that every rank has batches of equal size; the last ones
    may be smaller, and none is dropped. Evaluation: every stay once, dealt out in turn, and cut into
    the same number of batches on every rank; with several ranks a batch may hold one stay more than
    ``batch_size``, and one more than on another rank. Where ranks exchange embeddings that cannot be
    (``even=True``): then the last few stays, fewer than there are ranks, are left out. With ``sizes``
    (one a stay) training batches are of stays of about one size, and come in random order.
    """

    def __init__(
        self,
        stays: Index,
        batch_size: int,
        *,
        shuffle: bool,
        even: bool = False,
        sizes: Index | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(stays) < (1 if shuffle else world_size):
            raise ValueError(
                f"{len(stays)} stays cannot be dealt out to {world_size} ranks: use fewer, or more stays"
            )
        self.stays = stays[: len(stays) // world_size * world_size] if even else stays
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sizes = sizes
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches in an epoch, on this rank as on every other."""
        share = len(self.stays) / self.world_size
        return max(1, math.ceil((math.ceil(share) if self.shuffle else math.floor(share)) / self.batch_size))

    def batches(self) -> list[Index]:
        """The batches of the current epoch."""
        if not self.shuffle:
            return np.array_split(self.stays[self.rank :: self.world_size], len(self))
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.stays))
        order = np.resize(order, math.ceil(len(order) / self.world_size) * self.world_size)
        share = order[self.rank :: self.world_size]
        if self.sizes is None:
            return [self.stays[chosen] for chosen in _pieces(share, self.batch_size)]
        sizes, groups = self.sizes, _pieces(share, SORTED_TOGETHER * self.batch_size)
        by_size = [group[np.argsort(sizes[group], kind="stable")] for group in groups]
        batches = [piece for group in by_size for piece in _pieces(group, self.batch_size)]
        return [self.stays[batches[i]] for i in rng.permutation(len(batches))]


def _pieces(array: Index, length: int) -> list[Index]:
    return [array[start : start + length] for start in range(0, len(array), length)]


class StayLoader:
    """An iterable of batches that Lightning can stop and resume anywhere.

    ``cut`` makes a batch from the positions of its stays, and the epoch; ``window`` says which pieces of
    stays these are, where they are. The state is (epoch, batches handed out); loaded, it holds for the epoch
    it was saved in and is forgotten in any other.
    """

    def __init__(
        self,
        cut: Callable[[Index, int], dict[str, Tensor]],
        sampler: StaySampler,
        *,
        window: Mapping[str, Any] | None = None,
    ) -> None:
        self.cut = cut
        self.sampler = sampler
        self.window = window
        self.batch_sampler = None  # Lightning asks a loader with a sampler for it
        self._done = (0, 0)
        self._resume: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        # Runs from the first next() on, that is after Lightning has set the epoch.
        epoch = self.sampler.epoch
        resume, self._resume = self._resume, None
        start = resume[1] if resume is not None and resume[0] == epoch else 0
        batches = self.sampler.batches()[start:]
        with ThreadPoolExecutor(1, "slices-cut") as pool:  # the next batch is cut while one is trained on
            ahead = deque(pool.submit(self.cut, stays, epoch) for stays in batches[:1])
            for done in range(start + 1, start + len(batches) + 1):
                batch = ahead.popleft().result()
                if done < start + len(batches):
                    ahead.append(pool.submit(self.cut, batches[done - start], epoch))
                self._done = (epoch, done)
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands, and what the order depends on."""
        return {"epoch": self._done[0], "done": self._done[1], "order": self._order()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there. Raises ``ValueError`` where the order of the stays would be another one."""
        saved, now = state_dict["order"], self._order()
        changed = [
            f"{key}: {saved.get(key)} then, {now[key]} now" for key in now if saved.get(key) != now[key]
        ]
        if changed:
            raise ValueError(
                f"cannot resume in the same order of stays ({'; '.join(changed)}): resume with the "
                "settings of the interrupted run, or start anew from its weights"
            )
        self._resume = self._done = (state_dict["epoch"], state_dict["done"])

    def _order(self) -> dict[str, Any]:
        sampler = self.sampler
        return {
            "stays": zlib.crc32(sampler.stays.tobytes()),
            "n_stays": len(sampler.stays),
            "batch_size": sampler.batch_size,
            "seed": sampler.seed,
            "world_size": sampler.world_size,
            "bucket_by_length": None if sampler.sizes is None else zlib.crc32(sampler.sizes.tobytes()),
            "window": None if self.window is None else dict(self.window),
        }


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and how many there are; 0 and 1 outside distributed training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
