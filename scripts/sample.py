"""Draw from a trained run with any sampler.

`python scripts/sample.py run=outputs/... sampler=mala num_samples=64`: chains start at the
run's noise; a PNG and an .npz (x, energy; pixels where the data are transformed) go to the run's
samples/ folder.
"""

from omegaconf import DictConfig

from ebm_lab.cli import run_command


def main(cfg: DictConfig) -> None:
    """Load the run, run the chains, write what they found."""
    from ebm_lab.sampling import draw

    draw(cfg)


if __name__ == "__main__":
    run_command(main, "sample")
