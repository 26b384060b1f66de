"""PatchNCE or MoNCE within a method: features, F-MLP, places and the generator's term.

Source: Park et al. 2020 (CUT); Zhan et al. 2022 (MoNCE); Hu et al. 2022 (QS-Attn); keys from a
running average after He et al. 2020 (MoCo).
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import nn

from models import Generator
from models.resnet9 import ResNet9
from training.config.contrastive import PatchContrastConfig
from training.config.recipe import ConfigError
from training.losses.features import Vgg16, load_vgg16
from training.losses.patch_nce import patch_nce
from training.losses.queries import draw_queries
from training.losses.query_selection import route, select_queries
from training.losses.transport import transport_weights
from training.methods.parts.encoder_half import EncoderHalf
from training.methods.parts.feature_sampler import FeatureSampler, values_at
from training.run.averaging import update_average

Features = Mapping[str, torch.Tensor]
Result = TypeVar("Result")


class PatchContrast:
    """Contrast between places of the output and of the source, averaged over taps.

    Attributes:
        head: F-MLP; it is trained with the generator.
        averaged: Running average of encoder and F-MLP that the keys come from; None where they
            come from the current ones.
    """

    def __init__(
        self,
        config: PatchContrastConfig,
        generator: Generator,
        device: torch.device,
        *,
        vgg16: Path | None,
    ) -> None:
        self.config = config
        self._features = _feature_network(config, generator, device, vgg16=vgg16)
        self.head = FeatureSampler(self._features.channels, width=config.head_width).to(device)
        self.averaged: nn.ModuleDict | None = None
        self._key_features = self._features
        if config.key_decay is not None and isinstance(self._features, EncoderHalf):
            # The slice shares its layers with the generator, so that it follows the training.
            self._current = nn.ModuleDict({"layers": self._features.layers, "head": self.head})
            self.averaged = copy.deepcopy(self._current).requires_grad_(requires_grad=False)
            layers = cast("nn.Sequential", self.averaged["layers"])
            self._key_features = EncoderHalf(layers, config.taps)

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules that a resumed run needs."""
        averaged = {} if self.averaged is None else {"averaged_keys": self.averaged}
        return {"contrast_head": self.head, **averaged}

    def follow(self, step: int) -> None:
        """Move the averaged encoder and F-MLP towards the weights that step `step` starts with."""
        if self.averaged is not None and self.config.key_decay is not None:
            update_average(self.averaged, self._current, step=step, decay=self.config.key_decay)

    def run(self, generate: Callable[[], Result], source: torch.Tensor) -> tuple[Result, Features]:
        """Run the generator once; return its result and the features that keys are made of.

        Args:
            generate: Function that calls the generator on the LR image of `source`, or on `source`.
            source: (N, 1, H, W) float32 in [0, 1]: enlarged LR crops, or HR crops for the identity
                term.

        Returns:
            The function's result, and (N, C, h, w) of each tap without gradient.
        """
        if self.averaged is None and isinstance(self._features, EncoderHalf):
            with self._features.recorded() as found:
                result = generate()
            return result, found
        result = generate()
        with torch.no_grad():
            return result, self._key_features(source)

    def loss(
        self, source: Features, output: torch.Tensor, *, draws: torch.Generator
    ) -> torch.Tensor:
        """Return the loss, unweighted: the mean over taps.

        Keys get no gradient: the F-MLP and the encoder learn from the output's side alone.

        Args:
            source: Features from `run`.
            output: (N, 1, H, W) generated from the source, in the graph.
            draws: Source of the places, on the CPU; they are drawn again for each tap. Random ones
                are shared by the images of the batch.
        """
        losses = []
        for tap, features in self._features(output).items():
            values_of = self._places(tap, source[tap], draws)
            with torch.no_grad():
                keys = self._key_head(tap, values_of(source[tap]))
            losses.append(self._compare(self.head(tap, values_of(features)), keys))
        return torch.stack(losses).mean()

    def _places(
        self, tap: str, source: torch.Tensor, draws: torch.Generator
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function that takes the features of a tap's places, for source and output."""
        config, count = self.config, self.config.places
        if config.queries == "random" or tap not in map(str, config.routed_taps):
            height, width = source.shape[-2:]
            ids = draw_queries(height, width, count, generator=draws)
            return lambda features: values_at(features, ids)
        mode = "global" if config.queries == "qs_global" else "local"
        routing = select_queries(source, count, mode=mode, form=config.selection, generator=draws)
        return lambda features: route(features, routing)

    def _key_head(self, tap: str, values: torch.Tensor) -> torch.Tensor:
        head = self.head if self.averaged is None else self.averaged["head"]
        return head(tap, values)

    def _compare(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        config, weights = self.config, None
        if config.kind != "patch":
            # Exact: a small beta magnifies what half precision would round.
            with torch.no_grad(), torch.autocast(queries.device.type, enabled=False):
                similarity = queries @ keys.transpose(1, 2)
            weights = transport_weights(
                similarity, beta=config.beta, kind="hard" if config.kind == "monce_hard" else "easy"
            )
        return patch_nce(queries, keys, temperature=config.temperature, weights=weights)


def _feature_network(
    config: PatchContrastConfig, generator: Generator, device: torch.device, *, vgg16: Path | None
) -> EncoderHalf | Vgg16:
    if config.features == "vgg16":
        return load_vgg16(vgg16, taps=config.vgg16_taps).to(device)
    if not isinstance(generator, ResNet9):
        raise ConfigError(
            f"method.contrast.features is 'generator', but {type(generator).__name__} has no "
            "encoder at the size of the output; set method.contrast.features=vgg16 and "
            "method.contrast.identity=false"
        )
    try:
        return EncoderHalf(generator.layers, config.taps)
    except ValueError as error:
        raise ConfigError(f"method.contrast.taps: {error}") from error
