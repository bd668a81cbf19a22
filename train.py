"""Train an energy-based model: `python train.py objective=nce data=digits`; `--help` lists every choice."""

from omegaconf import DictConfig

from ebm_lab.cli import run_command


def main(cfg: DictConfig) -> None:
    """One run, from its composed config to its report."""
    from ebm_lab.training import run  # torch and Lightning load only once the config stands

    run(cfg)


if __name__ == "__main__":
    run_command(main, "train")
