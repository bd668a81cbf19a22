"""What does not fit the data is refused with a sentence that names what does."""

import re

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from ebm_lab.cli import CONFIGS
from ebm_lab.domains import DOMAINS, check_domain, check_objective
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


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_objective_for_other_data_names_data_for_it_and_objectives_for_these(domain):
    class Picky:
        domains = frozenset(DOMAINS) - {domain}

    with pytest.raises(UserError, match=rf"Picky trains on .* data, these are {domain}: choose") as refusal:
        check_objective(Picky, domain)
    data, objectives = str(refusal.value).split(", or for these data ")
    assert data.count("data=") >= len(DOMAINS) - 1
    for name in re.findall(r"objective=(\w+)", objectives):
        target = OmegaConf.load(CONFIGS / "objective" / f"{name}.yaml")._target_
        assert domain in get_class(target).domains
