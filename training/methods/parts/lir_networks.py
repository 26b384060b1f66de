"""All five networks of LIR from the generator of a run, which holds those of its own path."""

from typing import Any, Literal

from torch import nn

from models import Network
from models.lir import Lir, LirStyle
from models.lir_parts import ContentDecoder, ContentEncoder, StyledDecoder, StyleEncoder
from training.config.recipe import ConfigError
from training.methods.parts.lir_passes import LirNetworks


def complete(
    generator: Network, variant: Literal["denoise", "style"]
) -> tuple[LirNetworks, nn.ModuleDict]:
    """Make the encoders and decoders of a variant that its generator lacks.

    Args:
        generator: `Lir` for "denoise", `LirStyle` for "style".
        variant: See `training.methods.lir`.

    Returns:
        The five networks, and by name the ones that are not part of the generator; these have its
        width, number of blocks and norm.

    Raises:
        ConfigError: The generator is not the variant's.
    """
    options: dict[str, Any] = generator.hyper_parameters
    if variant == "denoise" and isinstance(generator, Lir):
        width, num_blocks, norm = options["width"], options["num_blocks"], options["norm"]
        same = {"width": width, "num_blocks": num_blocks, "norm": norm}
        helpers = {
            "encode_y": ContentEncoder(**same),
            "encode_style": StyleEncoder(width=width, norm=norm),
            "decode_x": StyledDecoder(**same, pool="none"),
        }
        mine = {"encode_x": generator.encoder, "decode_y": generator.decoder}
    elif variant == "style" and isinstance(generator, LirStyle):
        width, num_blocks, norm = options["width"], options["num_blocks"], options["norm"]
        helpers = {
            "encode_x": ContentEncoder(width=width, num_blocks=num_blocks, norm=norm),
            "decode_y": ContentDecoder(channels=4 * width, num_blocks=num_blocks, norm=norm),
        }
        mine = {
            "encode_y": generator.encoder,
            "encode_style": generator.style_encoder,
            "decode_x": generator.decoder,
        }
    else:
        wanted = "lir" if variant == "denoise" else "lir_style"
        raise ConfigError(
            f"generator.name builds a {type(generator).__name__}, expected {wanted!r} for "
            f"method.variant {variant!r}"
        )
    return LirNetworks(**mine, **helpers), nn.ModuleDict(helpers)
