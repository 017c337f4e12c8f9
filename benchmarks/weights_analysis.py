"""What the learned weights say: measured on a finished run of IADD.

    python -m benchmarks.weights_analysis --run RUN [--method iadd_hypergradient] [--restart 3] [--name covid-cxr]

RUN is a folder of `medidistill run` with the method among its arms. For drawn segments (expert, start epoch i) a
student is trained on the run's set as in an outer step, and with residual d = theta_J - theta_{i+K} and movement
m = theta_i - theta_{i+K} of each parameter this measures

- the residual by layer, relative to the movement: mean d^2 / mean m^2, and quantiles of d^2 / mean m^2;
- W by layer, at the end and over the outer steps;
- Spearman's correlation of W with m^2, d^2, d^2 / m^2, the diagonal of the Fisher information on real training
  images at theta_i, and the depth of the layer;
- with `--restart n`: whether the learned W, frozen, helps a fresh distillation: validation scores over n paired seeds,
  beside MTT and the method from scratch. The first seed is the run's own, whose W it is.

It reads training and validation images, never the test split. Writes benchmarks/results/weights_<name>.json;
`benchmarks.weights_page` makes figures and page from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from benchmarks.paper_results import paired
from medidistill.config import DistillConfig, RunConfig, as_dict
from medidistill.distillation import Callbacks, DistillProblem, Experts, InnerStep, distill, draw_plan
from medidistill.distillation.fisher import fisher_information
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, MedidistillError
from medidistill.files import read_json, write_json
from medidistill.networks import ParameterLayout, augment, raise_malloc_thresholds
from medidistill.pipeline import RunFolder, load_config
from medidistill.pipeline.comparison.arms import method_config, validation_score
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions
from medidistill.seeding import stream

__all__ = ["Measured", "by_layer", "correlations", "measure"]

HERE = Path(__file__).parent
_ELEMENTS = 50_000  # at most so many parameters in a correlation, drawn with a fixed seed
_QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Means over segments for each parameter, all (P,) float64.

    Args:
        residual: d^2.
        movement: m^2.
        fisher: squared gradient of the log-likelihood of one real image, averaged over images and segments.
    """

    residual: Tensor
    movement: Tensor
    fisher: Tensor


def measure(
    distilled: DistilledSet, experts: Experts, config: RunConfig, data: PreparedData, segments: int, fisher_images: int
) -> Measured:
    """Train students on the set along drawn segments of the experts."""
    settings, shape = method_config(config, "iadd"), experts.architecture
    network = shape.make_network(stream(0, "layout"))
    step, generator = InnerStep(network), stream(config.seed, "weights-analysis")
    targets = distilled.targets
    hard = targets.ndim == 1
    targets = torch.nn.functional.one_hot(targets, shape.num_classes).float() if hard else targets
    order = torch.randperm(len(data.train), generator=generator)[:fisher_images]
    real, labels = data.normalisation.apply(data.train.images[order]), data.train.labels[order]
    found = []
    for _ in range(segments):
        number = int(torch.randint(len(experts), (), generator=generator))
        start = int(torch.randint(settings.min_start, settings.max_start, (), generator=generator))
        begin, target = experts.segment(number, start, settings.expert_epochs)
        plan = draw_plan(len(distilled), settings.inner_steps, settings.batch_size, settings.augment, generator, "cpu")
        theta = begin
        for batch, parameters in zip(plan.batches, plan.parameters, strict=True):
            x = augment(distilled.images[batch], plan.augment, parameters)
            theta = theta - distilled.alpha * step.gradient(theta, x, targets[batch])[1]
        squares = ((theta - target).double().square(), (begin - target).double().square())
        found.append((*squares, fisher_information(network, begin, real, labels)))
    return Measured(*(torch.stack(part).mean(0) for part in zip(*found, strict=True)))


def weight_vector(distilled: DistilledSet, layout: ParameterLayout) -> Tensor:
    """Return the shipped W as one vector, (P,) float64."""
    parts = [
        distilled.importance[name].double().expand(shape).reshape(-1)
        for name, shape in zip(layout.names, layout.shapes, strict=True)
    ]
    return torch.cat(parts)


def by_layer(layout: ParameterLayout, w: Tensor, measured: Measured) -> list[dict[str, Any]]:
    """Return one row a tensor: size, residual over movement (mean, quantiles), Fisher information, quantiles of w."""
    rows = []
    for depth, (name, place) in enumerate(layout.slices()):
        moved = float(measured.movement[place].mean())
        residual = measured.residual[place] / moved if moved > 0 else None
        rows.append(
            {
                "name": name,
                "depth": depth,
                "elements": place.stop - place.start,
                "movement": moved,
                "residual_over_movement": None if residual is None else float(residual.mean()),
                "residual_spread": None if residual is None else _spread(residual),
                "fisher": float(measured.fisher[place].mean()),
                "w": _spread(w[place]),
            }
        )
    return rows


def _spread(values: Tensor) -> dict[str, float]:
    found = torch.quantile(values, torch.tensor([*_QUANTILES.values()], dtype=values.dtype)).tolist()
    return dict(zip(_QUANTILES, found, strict=True))


def correlations(layout: ParameterLayout, w: Tensor, measured: Measured) -> dict[str, dict[str, float | None]]:
    """Return Spearman's correlation of w with each quantity: over all moving parameters, and its median within layers.

    Over all parameters a correlation mixes what differs between layers with what differs inside them; the median
    within layers holds the layer fixed. None where w or the quantity is constant.
    """
    depth = torch.cat([torch.full((size,), float(k)) for k, size in enumerate(layout.sizes)])
    moving = measured.movement > 0
    quantities = {
        "movement m^2": measured.movement,
        "residual d^2": measured.residual,
        "d^2 / m^2": measured.residual / measured.movement.clamp_min(torch.finfo(torch.float64).tiny),
        "Fisher information": measured.fisher,
        "depth of the layer": depth,
    }
    index = torch.nonzero(moving).flatten()
    drawn = index[torch.randperm(len(index), generator=stream(0, "correlation"))[:_ELEMENTS]]
    result: dict[str, dict[str, float | None]] = {}
    for name, values in quantities.items():
        inside = [
            rho
            for _, place in layout.slices()
            if (rho := _spearman(w[place][moving[place]], values[place][moving[place]])) is not None
        ]
        result[name] = {
            "all": _spearman(w[drawn], values[drawn]),
            "within_layers": float(np.median(inside)) if inside else None,
        }
    return result


def _spearman(one: Tensor, other: Tensor) -> float | None:
    if len(one) < 3 or bool((one == one[0]).all()) or bool((other == other[0]).all()):
        return None
    return float(stats.spearmanr(one.numpy(), other.numpy()).statistic)


def restart(
    files: list[Path], config: RunConfig, data: PreparedData, w: Mapping[str, Tensor], seeds: int, method: str
) -> dict[str, Any]:
    """Distill anew with W frozen where it was learned, beside MTT and `method`; return validation scores by seed."""
    learned = method_config(config, method)
    held = dataclasses.replace(learned.importance, kind="learned", lr=0.0)
    frozen = dataclasses.replace(learned, importance=held)
    kinds: dict[str, tuple[DistillConfig, Mapping[str, Tensor] | None]] = {
        "mtt": (method_config(config, "mtt"), None),
        method: (learned, None),
        "frozen": (frozen, w),
    }
    scores: dict[str, dict[int, float]] = {name: {} for name in kinds}
    for seed in range(config.seed, config.seed + seeds):
        for name, (settings, weights) in kinds.items():
            own = dataclasses.replace(config, seed=seed)
            score = validation_score(own, data)
            result = distill(
                DistillProblem(
                    files,
                    class_names=data.train.class_names,
                    normalisation=data.normalisation,
                    training=config.evaluate.small_set_training,
                    seed=seed,
                    real=data.training_tensors() if settings.requires_real else None,
                    expert_training=config.experts,
                    weights=weights,
                ),
                settings,
                callbacks=Callbacks(score=score),
            )
            scores[name][seed] = score(result.distilled)
            print(f"restart: seed {seed} {name} {scores[name][seed]:.3f}", file=sys.stderr, flush=True)
    return {
        "scores": {name: list(by_seed.values()) for name, by_seed in scores.items()},
        "frozen_minus_mtt": paired(scores["frozen"], scores["mtt"]),
        f"frozen_minus_{method}": paired(scores["frozen"], scores[method]),
    }


def analyse(folder: RunFolder, segments: int, fisher_images: int, seeds: int, method: str = "iadd") -> dict[str, Any]:
    """Return everything that the page shows of one run."""
    config = load_config(folder.config_file)
    file = folder.distill(method) / "distilled.safetensors"
    if not file.is_file():
        raise ConfigError(f"{folder.path}: holds no set of {method}; run it with {method} in evaluate.arms")
    distilled, data = DistilledSet.load(file), PreparedData.read(folder.ingest)
    files = sorted(folder.experts.glob("expert-*.safetensors"))
    experts = Experts(files)
    shape = experts.architecture
    network = shape.make_network(stream(0, "layout"))
    layout = ParameterLayout.of(network)
    measured, w = measure(distilled, experts, config, data, segments, fisher_images), weight_vector(distilled, layout)
    history = read_json(folder.distill(method) / "history.json")["entries"]
    return {
        "run": config.name,
        "notice": config.notice,
        "config": as_dict(config),
        "method": method,
        "distill": as_dict(method_config(config, method)),
        "data": data.digest,
        "segments": segments,
        "fisher_images": fisher_images,
        "experts": len(files),
        "outer_step": distilled.recipe.get("outer_step"),
        "layers": by_layer(layout, w, measured),
        "correlations": correlations(layout, w, measured),
        "over_time": [
            {"step": entry["step"], "effective_share": entry["effective_sample_size"], "w": entry["w"]}
            for entry in history
            if "w" in entry
        ],
        "restart": restart(files, config, data, distilled.importance, seeds, method) if seeds else None,
        "hardware": hardware(),
        "versions": versions(),
    }


def main() -> None:
    """Analyse one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="folder of a finished run")
    parser.add_argument("--name", default="covid-cxr", help="of the result (default: covid-cxr)")
    parser.add_argument("--method", default="iadd", help="whose W it is (default: iadd)")
    parser.add_argument("--segments", type=int, default=20, metavar="N", help="drawn segments (default: 20)")
    parser.add_argument("--fisher-images", type=int, default=32, metavar="N", help="real images (default: 32)")
    parser.add_argument("--restart", type=int, default=0, metavar="N", help="seeds of the restart; 0: leave it out")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the JSON file")
    options = parser.parse_args()
    raise_malloc_thresholds()
    torch.set_num_threads(1)
    try:
        folder = RunFolder.open(options.run)
        result = analyse(folder, options.segments, options.fisher_images, options.restart, options.method)
    except MedidistillError as error:
        raise SystemExit(f"benchmarks.weights_analysis: {error}") from error
    write_json(options.results / f"weights_{options.name}.json", {"name": options.name, **result})


if __name__ == "__main__":
    main()
