"""What losses see of the weights of two separated modes: `python scripts/blindness.py [picture.png]`

Data ½ N(-6, 1) + ½ N(6, 1), the model with the weights .9 and .1. One line a loss: its derivative in the
logit of the weight, which is all that a method can learn the weight by. The picture: these numbers, and the
term of each noise level of multi-scale denoising over σ. `python train.py experiment=blindness` trains the
weight.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from ebm_lab.evaluation.blindness import (
    TwoModes,
    conditional_noise_contrastive,
    denoising,
    dual,
    energy_discrepancy,
    fisher_divergence,
    kl,
    level_classification,
    multi_scale,
    noise_contrastive,
    score_matching,
    sensitivity,
)
from ebm_lab.evaluation.plots import CYCLE, MUTED, save

WEIGHT = 0.9  # of the model's left mode
LEVELS = (0.1, 0.215, 0.464, 1.0, 2.15, 4.64, 10.0)  # σ of the multi-scale loss
LOSSES = {
    "maximum likelihood (pcd, jarzynski, ...)": kl,
    "nce, noise N(0, 37)": noise_contrastive(),
    "energy discrepancy, t = 50": energy_discrepancy(50.0),
    "conditional nce, σ = 12": conditional_noise_contrastive(12.0),
    "multi-scale dsm, σ = .1 ... 10": multi_scale(LEVELS),
    "dual score matching, σ = .1 ... 10": dual(LEVELS),
    "classifier of diffclf, σ = .1 ... 10": level_classification(LEVELS),
    "dsm, σ = 4": denoising(4.0),
    "conditional nce, σ = 1": conditional_noise_contrastive(1.0),
    "energy discrepancy, t = 1": energy_discrepancy(1.0),
    "dsm, σ = 1": denoising(1.0),
    "dsm, σ = .1": denoising(0.1),
    "score matching (ssm, ...)": score_matching,
}
SIGMAS = [0.1 * 10 ** (k / 30) for k in range(91)]  # .1 to 100


def main() -> None:
    """One line a loss, and the picture."""
    slopes = {name: sensitivity(loss, WEIGHT) for name, loss in LOSSES.items()}
    slopes = dict(sorted(slopes.items(), key=lambda item: -item[1]))
    print(f"dL/da at w = {WEIGHT}, where the data have w = .5")
    for name, slope in slopes.items():
        print(f"  {name:42s}{slope:12.3g}")
    data, model = TwoModes.of_weight(0.5), TwoModes.of_weight(WEIGHT)
    print(f"KL {float(kl(data, model)):.6f}, Fisher divergence {float(fisher_divergence(data, model)):.3g}")
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=(1.3, 1))
    bars.barh(range(len(slopes)), list(slopes.values()), color=CYCLE[0])
    bars.set_yticks(range(len(slopes)), list(slopes))
    bars.invert_yaxis()
    bars.set(xscale="log", xlim=(1e-8, 1), xlabel="derivative in the logit of the weight")
    terms = [sigma**2 * sensitivity(denoising(sigma), WEIGHT) for sigma in SIGMAS]
    curve.plot(SIGMAS, terms, color=CYCLE[1], label="σ² · dsm at σ")
    curve.axhline(sensitivity(kl, WEIGHT), color=MUTED, label="maximum likelihood")
    curve.set(xscale="log", yscale="log", ylim=(1e-8, 1), xlabel="σ of one noise level")
    curve.legend(frameon=False)
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/blindness.png")
    print(save(figure, path))


if __name__ == "__main__":
    main()
