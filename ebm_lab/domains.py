"""What kind of numbers events hold, and the sentence for parts that do not fit the data."""

from typing import Any

from ebm_lab.errors import UserError

DOMAINS = ("real", "image", "nonnegative", "unit", "binary", "categorical")
ANY = frozenset(DOMAINS)
CONTINUOUS = frozenset({"real", "image"})
NONNEGATIVE = frozenset({"nonnegative"})  # no number below 0
UNIT = frozenset({"unit"})  # every number in [0, 1]
BOUNDED = NONNEGATIVE | UNIT  # where densities end at an edge, and need not vanish there
BINARY = frozenset({"binary"})  # {0, 1} floats, (batch, *shape)
CATEGORICAL = frozenset({"categorical"})  # one-hot floats, (batch, *sites, classes)
DISCRETE = BINARY | CATEGORICAL

_CHOICES = {
    "sampler": {
        "real": "sampler=langevin, sampler=mala or sampler=hmc",
        "image": "sampler=langevin, sampler=mala or sampler=hmc",
        "nonnegative": "sampler=reflected",
        "unit": "sampler=reflected_unit",
        "binary": "sampler=gibbs, sampler=gwg or sampler=dmala",
        "categorical": "sampler=gibbs, sampler=gwg or sampler=dmala, with sampler.domain=categorical",
    },
    "noise": {
        "real": "noise=gaussian or noise=uniform",
        "image": "noise=gaussian or noise=uniform",
        "nonnegative": "noise=exponential",
        "unit": "noise=unit",
        "binary": "noise=bernoulli",
        "categorical": "noise=categorical",
    },
    "energy": {
        "real": "energy=mlp",
        "image": "energy=convnet",
        "nonnegative": "energy=mlp",
        "unit": "energy=mlp",
        "binary": "energy=rbm, energy=ising or energy=mlp",
        "categorical": "energy=potts or energy=mlp",
    },
    "evaluation.kernel": {
        "real": "evaluation=points",
        "image": "evaluation=images",
        "nonnegative": "evaluation=nonnegative",
        "unit": "evaluation=unit",
        "binary": "evaluation=binary",
        "categorical": "evaluation=categorical",
    },
    "data": {
        "real": "data=moons",
        "image": "data=digits",
        "nonnegative": "data=nonnegative",
        "unit": "data=unit",
        "binary": "data=gray_points",
        "categorical": "data=npz with data.domain=categorical",
    },
    "objective": {
        "real": "objective=nce, objective=dsm or objective=pcd",
        "image": "objective=nce, objective=dsm or objective=pcd",
        "nonnegative": "objective=pcd or objective=nonnegative_score_matching",
        "unit": "objective=pcd or objective=unit_score_matching",
        "binary": "objective=pcd or objective=ratio_matching",
        "categorical": "objective=pcd",
    },
}


def check_domain(role: str, part: Any, domain: str) -> None:
    """Refuse a sampler, a noise or an energy (anything with `domains`) on data of another domain.

    Args:
        role: config key of the part, such as sampler.
        part: what is checked.
        domain: of the data.

    Raises:
        UserError: one sentence with the choices that work.
    """
    if domain not in part.domains:
        raise UserError(
            f"{role}: {type(part).__name__} is for {' or '.join(sorted(part.domains))} data, these are "
            f"{domain}: choose {_CHOICES[role][domain]}"
        )


def check_objective(objective: type, domain: str) -> None:
    """Refuse an objective's class on data of a domain that it does not train on.

    Raises:
        UserError: one sentence with the data for it, and the objectives for these data.
    """
    if domain not in objective.domains:
        fitting = sorted(objective.domains)
        raise UserError(
            f"{objective.__name__} trains on {' or '.join(fitting)} data, these are {domain}: choose "
            f"{' or '.join(_CHOICES['data'][other] for other in fitting)}, or for these data "
            f"{_CHOICES['objective'][domain]}"
        )
