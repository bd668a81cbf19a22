"""Evaluate a trained run on images.

`python scripts/evaluate.py run=outputs/... num_samples=500 ood=fashion_mnist long_run=5000`: numbers go to
the run's evaluation.json, pictures to its samples/ folder as evaluation_*.png. An earlier evaluation is
replaced.
"""

from omegaconf import DictConfig

from ebm_lab.cli import run_command


def main(cfg: DictConfig) -> None:
    """Load the run, draw samples, measure them."""
    from ebm_lab.evaluating import evaluate

    evaluate(cfg)


if __name__ == "__main__":
    run_command(main, "evaluate")
