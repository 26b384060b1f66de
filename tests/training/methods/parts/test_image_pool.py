"""The pool of old generated images."""

import pytest
import torch

from training.methods.parts.image_pool import ImagePool


def batch(*values: float) -> torch.Tensor:
    """Return constant images, one for each value."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def pool(capacity: int = 3, probability: float = 0.5, seed: int = 0) -> ImagePool:
    """Return an empty pool with its own draws."""
    return ImagePool(
        generator=torch.Generator().manual_seed(seed),
        capacity=capacity,
        exchange_probability=probability,
    )


def test_a_pool_that_is_not_full_returns_what_it_gets() -> None:
    """Its first images come back as they are, without their graph."""
    images = batch(1, 2, 3).requires_grad_()

    returned = pool().exchange(images)

    torch.testing.assert_close(returned, images.detach())
    assert not returned.requires_grad


def test_a_full_pool_exchanges_and_loses_nothing() -> None:
    """With certainty each new image takes the place of the old one that is returned."""
    full = pool(probability=1.0)
    full.exchange(batch(1, 2, 3))

    returned = full.exchange(batch(4, 5))[:, 0, 0, 0].tolist()

    held = full.state_dict()["images"][:, 0, 0, 0].tolist()
    assert {1.0, 2.0, 3.0, 4.0, 5.0} == {*returned, *held}
    assert returned[0] in (1.0, 2.0, 3.0)


def test_half_of_the_images_are_old() -> None:
    """About the given share is exchanged, and every stored place gets its turn."""
    full = pool(capacity=10)
    full.exchange(batch(*range(10)))

    news = [full.exchange(batch(100 + k))[0, 0, 0, 0].item() == 100 + k for k in range(1000)]

    assert 450 < sum(news) < 550
    assert full.state_dict()["images"].min() >= 100


def test_a_resumed_pool_gives_the_same_images() -> None:
    """State and draws are restored; the saved state is not changed by going on."""
    first = pool(seed=1)
    first.exchange(batch(1, 2, 3, 4))
    saved = first.state_dict()
    rest = [first.exchange(batch(k, k + 0.5)) for k in range(10, 30)]

    second = pool(seed=2)
    second.load_state_dict(saved)
    again = [second.exchange(batch(k, k + 0.5)) for k in range(10, 30)]

    torch.testing.assert_close(torch.stack(rest), torch.stack(again))


def test_an_empty_pool_can_be_saved() -> None:
    """Before the first step there is nothing to stack."""
    fresh = pool(seed=5)
    fresh.load_state_dict(pool(seed=6).state_dict())

    torch.testing.assert_close(fresh.exchange(batch(1)), batch(1))


def test_no_capacity_is_no_pool() -> None:
    """What gradient penalties want: always the newest images."""
    images = batch(1, 2)

    torch.testing.assert_close(pool(capacity=0).exchange(images), images)


def test_wrong_arguments_and_shapes_are_refused() -> None:
    """A probability beyond 1, and images that could not be stacked."""
    with pytest.raises(ValueError, match=r"capacity >= 0 .* got 3 and 1\.5"):
        pool(probability=1.5)
    held = pool()
    held.exchange(batch(1))
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\), got \(1, 4, 4\)"):
        held.exchange(torch.zeros(1, 1, 4, 4))
