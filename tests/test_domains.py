"""What does not fit the data is refused with a sentence that names what does."""

import pytest

from ebm_lab.domains import check_domain
from ebm_lab.errors import UserError
from ebm_lab.noise import StandardGaussian
from ebm_lab.samplers import MALA


@pytest.mark.parametrize(
    ("role", "part", "domain", "sentence"),
    [
        ("sampler", MALA(0.1), "binary", "MALA is for image or real data, these are binary: .*sampler=gwg"),
        ("noise", StandardGaussian((2,)), "categorical", "StandardGaussian .* choose noise=categorical"),
        ("evaluation.kernel", MALA(0.1), "binary", "MALA .* choose evaluation=binary"),
    ],
)
def test_another_domain_is_refused(role, part, domain, sentence):
    check_domain(role, part, "image")
    with pytest.raises(UserError, match=f"{role}: {sentence}"):
        check_domain(role, part, domain)
