"""The passes of LIR through its encoders and decoders: self-reconstruction, translation, cycle.

Domain X has a content and a style code, domain Y a content code only. What X and Y are is decided
by `training.methods.lir`.

Source: Du, Chen and Yang 2020, section 3.2 and its code.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

Encode = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class LirNetworks:
    """The five networks of LIR, as functions.

    Attributes:
        encode_x: E_X: images of X to content codes.
        encode_y: E_Y: images of Y to content codes.
        encode_style: E_N: images of X to noise or style codes.
        decode_x: G_X: content and style codes to images of X.
        decode_y: G_Y: content codes to images of Y.
    """

    encode_x: Encode
    encode_y: Encode
    encode_style: Encode
    decode_x: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    decode_y: Encode


@dataclass(frozen=True, kw_only=True)
class CodeNoise:
    """Noise that is added to codes before decoding: one draw for each decoder and training step.

    The published code adds the same draw in self-reconstruction, translation and cycle.

    Attributes:
        x_content: Noise on the content codes that G_X decodes.
        x_style: Noise on its style codes.
        y_content: Noise on the content codes that G_Y decodes.
    """

    x_content: torch.Tensor
    x_style: torch.Tensor
    y_content: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class LirPasses:
    """Codes and images of one training step, all with their graph; images are float32.

    Attributes:
        x_content: E_X(x).
        y_content: E_Y(y).
        x_style: E_N(x).
        x_again: x decoded from its own codes.
        y_again: y decoded from its own code.
        x_made: Image of X with the content of y and the style of x.
        y_made: Image of Y with the content of x.
        made_codes: Content and style of `x_made`, content of `y_made`.
        x_cycle: x from the content of `y_made` and the style of `x_made`.
        y_cycle: y from the content of `x_made`.
        noise: Noise on the codes.
    """

    x_content: torch.Tensor
    y_content: torch.Tensor
    x_style: torch.Tensor
    x_again: torch.Tensor
    y_again: torch.Tensor
    x_made: torch.Tensor
    y_made: torch.Tensor
    made_codes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    x_cycle: torch.Tensor
    y_cycle: torch.Tensor
    noise: CodeNoise

    @property
    def codes(self) -> tuple[torch.Tensor, ...]:
        """All codes, of both passes."""
        return (self.x_content, self.y_content, self.x_style, *self.made_codes)


def run_passes(
    networks: LirNetworks,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    noise_std: float,
    generator: torch.Generator,
) -> LirPasses:
    """Run all passes of a training step.

    Args:
        networks: The five networks.
        x: Images of X, (N, 1, H, W).
        y: Images of Y, the same shape, of other places.
        noise_std: Deviation of the noise that is added to codes.
        generator: Source of the noise, on the CPU.
    """
    x_content, y_content = networks.encode_x(x), networks.encode_y(y)
    x_style = networks.encode_style(x)

    def draw(like: torch.Tensor) -> torch.Tensor:
        noise = noise_std * torch.randn(like.shape, generator=generator)
        return noise.to(like.device, like.dtype)

    noise = CodeNoise(x_content=draw(y_content), x_style=draw(x_style), y_content=draw(x_content))

    def decode_x(content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return networks.decode_x(content + noise.x_content, style + noise.x_style).float()

    def decode_y(content: torch.Tensor) -> torch.Tensor:
        return networks.decode_y(content + noise.y_content).float()

    x_made, y_made = decode_x(y_content, x_style), decode_y(x_content)
    back = (networks.encode_x(x_made), networks.encode_style(x_made), networks.encode_y(y_made))
    made_content, made_style, y_made_content = back
    return LirPasses(
        x_content=x_content,
        y_content=y_content,
        x_style=x_style,
        x_again=decode_x(x_content, x_style),
        y_again=decode_y(y_content),
        x_made=x_made,
        y_made=y_made,
        made_codes=back,
        x_cycle=decode_x(y_made_content, made_style),
        y_cycle=decode_y(made_content),
        noise=noise,
    )


def other_references(networks: LirNetworks, passes: LirPasses, *, count: int) -> list[torch.Tensor]:
    """Decode the contents of y with the styles of other images of the batch, for eq. 3.1.

    The crops of a batch are independent draws, so an image's neighbours in the batch are random
    references, and their style codes are there already.

    Args:
        networks: The five networks.
        passes: Passes of the step, of at least `count` + 1 images.
        count: n - 1.

    Returns:
        `count` batches (N, 1, H, W), which differ from `passes.x_made` by the style alone: content
        and noise are the same.
    """
    size = len(passes.x_style)
    if count >= size:
        raise ValueError(f"{count + 1} references need as many images in a batch, got {size}")
    content = passes.y_content + passes.noise.x_content
    return [
        networks.decode_x(
            content, passes.x_style.roll(shift, dims=0) + passes.noise.x_style
        ).float()
        for shift in range(1, count + 1)
    ]
