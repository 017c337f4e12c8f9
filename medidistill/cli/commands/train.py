"""`medidistill train`: a fresh network from the recipe of a bundle."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command, number
from medidistill.cli.private_output import beside

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    train = add_command(
        commands,
        "train",
        "train a network from a bundle",
        "Verifies a bundle, trains a fresh network by its recipe alone and writes the weights as safetensors. With "
        "--test, fresh networks are scored on a folder of labelled X-rays as well (its test split, where its labels "
        "name splits), with intervals over patients and networks. Research use, not for diagnosis.",
        "medidistill train runs/first/bundle --output network.safetensors --test xrays",
    )
    train.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `medidistill export` wrote")
    train.add_argument(
        "--output",
        type=Path,
        default=Path("network.safetensors"),
        metavar="FILE",
        help="new file for the weights (default: network.safetensors)",
    )
    train.add_argument(
        "--seed", type=number(int, 0), default=0, metavar="N", help="of weights and batches (default: 0)"
    )
    train.add_argument("--test", type=Path, metavar="DIR", help="labelled X-rays to score networks on")
    train.add_argument(
        "--networks",
        type=number(int, 1, 1000),
        default=5,
        metavar="N",
        help="fresh networks that --test scores (default: 5)",
    )
    train.add_argument(
        "--baseline",
        action="store_true",
        help="with --test: train networks on X-rays of that folder too, on its training split or half of its patients",
    )
    train.add_argument("--scores", type=Path, metavar="FILE.json", help="with --test: write the comparison as JSON too")
    train.set_defaults(handler=_train, private=beside("output"))


def _train(arguments: Namespace, stop: Any) -> None:
    from medidistill.errors import ConfigError, IngestError
    from medidistill.export import load, require_verified
    from medidistill.files import write_json
    from medidistill.pipeline import from_bundle

    if (arguments.baseline or arguments.scores) and arguments.test is None:
        raise ConfigError("--baseline and --scores: need --test; name a folder of labelled X-rays")
    progress, found = not arguments.quiet, None
    if arguments.test is not None:  # before the weights: where this fails, nothing is written
        from_bundle.check_new(arguments.output)
        require_verified(arguments.bundle)
        if arguments.scores is not None:
            from_bundle.check_new(arguments.scores, "--scores")
        if not arguments.test.exists():
            raise IngestError(f"--test {arguments.test}: no such folder; name a folder of labelled X-rays")
        bundle = load(arguments.bundle)
        found = from_bundle.score(
            {str(bundle.facts["name"]): bundle},
            arguments.test,
            networks=arguments.networks,
            seed=arguments.seed,
            progress=progress,
            baseline=arguments.baseline,
        )
    print(from_bundle.train(arguments.bundle, arguments.output, seed=arguments.seed, progress=progress))
    if found is not None:
        if arguments.scores is not None:
            write_json(arguments.scores, found.to_dict(), mode=0o600)
        print(found.to_markdown())
