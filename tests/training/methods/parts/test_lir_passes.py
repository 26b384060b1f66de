"""The passes of LIR: what comes back, and which noise is added where."""

import pytest
import torch

from training.losses.lir import multi_reference
from training.methods.parts.lir_passes import LirNetworks, other_references, run_passes

IDENTITY = LirNetworks(
    encode_x=lambda image: image,
    encode_y=lambda image: image,
    encode_style=lambda image: 0.0 * image,
    decode_x=lambda content, style: content + style,
    decode_y=lambda content: content,
)
"""Auto-encoders that lose nothing."""


def test_perfect_auto_encoders_reconstruct_exactly() -> None:
    """Without noise, self-reconstruction and cycle give the image back."""
    x, y = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)

    passes = run_passes(IDENTITY, x, y, noise_std=0.0, generator=torch.Generator())

    for image, same in ((x, passes.x_again), (y, passes.y_again)):
        assert torch.equal(image, same)
    assert torch.equal(x, passes.x_cycle)
    assert torch.equal(y, passes.y_cycle)
    assert torch.equal(y, passes.x_made)  # the content of y with the empty style of x


def test_one_draw_of_noise_serves_all_passes_of_a_decoder() -> None:
    """What the identity adds to self-reconstruction and translation is the same noise."""
    x, y = torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)

    passes = run_passes(IDENTITY, x, y, noise_std=1.0, generator=torch.Generator().manual_seed(1))

    of_x = passes.noise.x_content + passes.noise.x_style
    for image, content in ((passes.x_again, x), (passes.x_made, y)):
        torch.testing.assert_close(image - content, of_x)
    for image, content in ((passes.y_again, y), (passes.y_made, x)):
        torch.testing.assert_close(image - content, passes.noise.y_content)
    # A cycle has both decoders' noise, its own and that of the translation it starts from.
    torch.testing.assert_close(passes.x_cycle - x, of_x + passes.noise.y_content)
    torch.testing.assert_close(passes.y_cycle - y, of_x + passes.noise.y_content)


def test_other_references_are_other_images_of_the_batch() -> None:
    """Contents and noise stay, so that only the style changes; a small batch is refused."""
    x = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    y = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    networks = LirNetworks(**{**vars(IDENTITY), "encode_style": lambda image: image})
    passes = run_passes(networks, x, y, noise_std=1.0, generator=torch.Generator().manual_seed(1))

    others = other_references(networks, passes, count=2)

    noise = passes.noise.x_content + passes.noise.x_style
    for image, style in zip([passes.x_made, *others], (x, x[[2, 0, 1]], x[[1, 2, 0]]), strict=True):
        torch.testing.assert_close(image, y + style + noise)
    # Two, one and one: three pairs for each image of a batch of the styles 0, 1 and 2.
    assert pytest.approx(4 / 3, rel=1e-5) == float(multi_reference([passes.x_made, *others]))
    with pytest.raises(ValueError, match="4 references need as many images in a batch, got 3"):
        other_references(networks, passes, count=3)


def test_equal_references_give_equal_outputs() -> None:
    """Eq. 3.1 is then zero, though noise is added: all decodes share one draw."""
    x = torch.rand(1, 1, 8, 8).expand(3, -1, -1, -1)
    y = torch.rand(3, 1, 8, 8)
    networks = LirNetworks(**{**vars(IDENTITY), "encode_style": lambda image: image})
    passes = run_passes(networks, x, y, noise_std=1.0, generator=torch.Generator().manual_seed(1))

    others = other_references(networks, passes, count=2)

    assert 0.0 == float(multi_reference([passes.x_made, *others]))
