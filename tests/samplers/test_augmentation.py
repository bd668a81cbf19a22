import pytest
import torch
from torchvision.transforms import v2

from ebm_lab.samplers import Augmentation


def test_each_image_has_draws_of_its_own_from_the_generator_alone():
    x = torch.rand(64, 1, 4, 4) * 2 - 1
    flips = Augmentation([v2.RandomHorizontalFlip(0.5)])
    state = torch.get_rng_state()
    once = flips(x, torch.Generator().manual_seed(0))
    torch.manual_seed(7)
    again = flips(x, torch.Generator().manual_seed(0))
    torch.set_rng_state(state)
    assert torch.equal(once, again)
    assert not torch.equal(once, flips(x, torch.Generator().manual_seed(1)))
    flipped = (once - x.flip(-1)).abs().amax((1, 2, 3)) < 1e-6
    kept = (once - x).abs().amax((1, 2, 3)) < 1e-6
    assert (flipped ^ kept).all()
    assert 16 <= flipped.sum() <= 48  # binomial(64, ½): 32 ± 4 standard deviations of 4


def test_transforms_see_images_between_0_and_1():
    seen = []
    x = torch.tensor([[[[-2.0, 0.0, 2.0]]]])
    same = Augmentation([lambda image: seen.append(image) or image], low=-2.0, high=2.0)
    torch.testing.assert_close(same(x, torch.Generator().manual_seed(0)), x)
    assert seen[0].flatten().tolist() == [0.0, 0.5, 1.0]


def test_the_global_generator_is_put_back():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Augmentation([v2.RandomHorizontalFlip()])(torch.zeros(2, 1, 2, 2), torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(2), expected)


def test_no_events_are_no_images():
    x = torch.zeros(0, 1, 2, 2)
    assert Augmentation([v2.RandomHorizontalFlip()])(x, torch.Generator().manual_seed(0)).shape == x.shape


@pytest.mark.parametrize(("transforms", "low", "high"), [([], 0, 1), ([v2.RandomHorizontalFlip()], 1, 1)])
def test_what_transforms_nothing_is_refused(transforms, low, high):
    with pytest.raises(ValueError, match="augmentation needs a transform and low < high"):
        Augmentation(transforms, low, high)
