"""A loss as a module: a function and its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn


class LossModule(nn.Module):
    """Calls ``function`` with the options it was made with.

    Raises:
        TypeError: an option that the function does not have.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        inspect.signature(type(self).function).bind_partial(**options)
        self.options = options

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """What the function gives."""
        return type(self).function(*inputs, **named, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())
