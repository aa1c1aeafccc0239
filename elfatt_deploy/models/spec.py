"""A model by name: its configuration, its builder, its preprocessing. Torch-free."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.artifacts import Preprocessing
from elfatt_deploy.models.config import ModelConfig
from elfatt_deploy.models.settings import with_settings

if TYPE_CHECKING:
    from torch import nn


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model by name.

    Args:
        name: its name on the command line.
        family: name of the paper's row without its input size.
        builder: import string of `build(config, height, width)`.
        config: the configuration behind the name.
        input_size: default height, and width where `input_width` is None, of the input in pixels.
        input_width: default width of the input in pixels.
        crop_share: share of the resized image that is kept, at input sizes below `whole_from`.
        whole_from: shorter input side in pixels from which the whole image is kept.
        interpolation: how images are resized.
        mean: mean of each colour channel, on the scale 0 to 1.
        std: standard deviation of each.
        summary: one line for the listing.
        ablation: whether it is a row of the paper's Tables II to V.
        own_weights: whether `build` gives a module with weights of its own, as a user's function
            does; else they are unset.
    """

    name: str
    family: str
    builder: str
    config: ModelConfig
    input_size: int = 224
    input_width: int | None = None
    crop_share: float = 0.9
    whole_from: int | None = 384
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    summary: str = ""
    ablation: bool = False
    own_weights: bool = False

    def size(self, height: int | None, width: int | None) -> tuple[int, int]:
        """Return the input height and width: what was asked for, else the model's own."""
        return height or self.input_size, width or self.input_width or self.input_size

    def configured(self, settings: Mapping[str, str]) -> ModelSpec:
        """Return this model with `--set` settings applied."""
        return dataclasses.replace(self, config=with_settings(self.config, settings))

    def preprocessing(self, height: int, width: int) -> Preprocessing:
        """Return how an image becomes the input tensor, as in the model's official evaluation."""
        whole = self.whole_from is not None and min(height, width) >= self.whole_from
        return Preprocessing(
            height=height,
            width=width,
            crop_share=1.0 if whole else self.crop_share,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )

    def build(self, height: int, width: int) -> nn.Module:
        """Build the torch module in eval mode.

        Raises:
            MissingDependency: torch is absent or broken.
            UsageError: the builder or a mechanism cannot be imported.
            ModelError: the configuration or the size is not possible.
        """
        optional.load("torch")
        module: nn.Module = optional.resolve(self.builder)(self.config, height, width)
        return module
