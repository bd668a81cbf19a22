"""Evaluate a trained run: its images, and its log Z.

`python scripts/evaluate.py run=outputs/... num_samples=500 ood=fashion_mnist long_run=5000`: numbers go to
the run's evaluation.json, pictures to its samples/ folder as evaluation_*.png. An earlier evaluation is
replaced. `python scripts/evaluate.py run=outputs/... log_z=ais` brackets log Z of any run, for a likelihood.
"""

from omegaconf import DictConfig

from ebm_lab.cli import run_command


def main(cfg: DictConfig) -> None:
    """Load the run, draw samples, measure them."""
    from ebm_lab.evaluating import evaluate

    evaluate(cfg)


if __name__ == "__main__":
    run_command(main, "evaluate")
