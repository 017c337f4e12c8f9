"""One function a sub-command. They call the pipeline and print; nothing is computed here.

What they need is imported when they are called: torch takes seconds, and `status` must not wait for it.
"""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medidistill.cli.options import machine_settings
from medidistill.errors import ConfigError

if TYPE_CHECKING:
    from medidistill.config import PhantomConfig, RunConfig
    from medidistill.distillation import Ranks
    from medidistill.pipeline import RunFolder, Stop
    from medidistill.pipeline.sinks import Sink

__all__ = ["run_command"]

_DEMO_PATIENTS = 80  # in each class: enough for intervals that say something, seconds to draw


def run_command(arguments: Namespace) -> None:
    """Do what the parsed arguments ask for. Raises `MedidistillError`."""
    from medidistill.pipeline.stopping import Stop

    _check_ranks(arguments)
    with Stop(_advice(arguments)).listening() as stop:
        handler = getattr(arguments, "handler", None) or _COMMANDS[arguments.command]
        handler(arguments, stop)


def _check_ranks(arguments: Namespace) -> None:
    count = os.environ.get("WORLD_SIZE", "1")
    shares = arguments.command in ("experts", "distill") and getattr(arguments, "shard", None) is None
    if count != "1" and "RANK" in os.environ and not shares:
        command = arguments.command + (" --shard" if getattr(arguments, "shard", None) else "")
        raise ConfigError(
            f"{command}: started as {count} processes (WORLD_SIZE), which only experts and distill can share; "
            "start it once, without torchrun"
        )


def _advice(arguments: Namespace) -> str:
    name = arguments.command
    if name in ("run", "ingest", "demo"):
        return f"continue with: medidistill {name} --output {arguments.output} --resume"
    if name == "nightly":
        return "the next night goes on with it"
    return "continue with the same command" if name not in ("phantom", "app", "deidentify") else ""


def _record_of(arguments: Namespace) -> str:
    """Return the command for the record, without paths: they may name patients or machines."""
    parts = ["medidistill", arguments.command]
    if getattr(arguments, "config", None):
        parts.append(f"--config {Path(arguments.config).name}")
    return " ".join([*parts, "--input INPUT --output OUTPUT", *(f"--set {item}" for item in arguments.overrides)])


def _config_of(arguments: Namespace) -> RunConfig:
    from medidistill.pipeline import RunFolder, load_config

    folder = RunFolder(arguments.output)
    if arguments.resume and arguments.config is None and folder.holds_run():
        return load_config(folder.config_file, settings_of(arguments))
    return load_config(arguments.config, settings_of(arguments))


def settings_of(arguments: Namespace) -> list[str]:
    """Return the single settings that are stronger than the file: the environment's, then the options'."""
    from medidistill.pipeline import environment_settings

    return [*environment_settings(os.environ), *machine_settings(arguments), *getattr(arguments, "overrides", ())]


def _check_input(arguments: Namespace) -> None:
    from medidistill.pipeline import RunFolder

    if arguments.input is None and not (arguments.resume and RunFolder(arguments.output).holds_run()):
        raise ConfigError("--input is missing: name the folder of X-rays")


def _phantom(arguments: Namespace, stop: Stop) -> None:
    from medidistill.config import PhantomConfig

    config = PhantomConfig(
        patients_per_class=arguments.patients_per_class,
        images_per_patient=arguments.images_per_patient,
        size=arguments.size,
        monochrome1_share=arguments.monochrome1_share,
        seed=arguments.seed,
    )
    print(_make_phantoms(arguments.folder, config, arguments))


def _make_phantoms(folder: Path, config: PhantomConfig, arguments: Namespace) -> Path:
    from medidistill.ingest import generate_phantom  # MONAI takes seconds to load

    return generate_phantom(folder, config, progress=not arguments.quiet)


def _deidentify(arguments: Namespace, stop: Stop) -> None:
    from medidistill.ingest import deidentify as clean

    key = clean.load_key(arguments.key_file)
    if arguments.locate:
        print(clean.locate(arguments.input, arguments.locate, key))
        return
    if arguments.output is None:
        raise ConfigError("OUT is missing: name a new or empty folder")
    config = clean.load_recipe(arguments.recipe) if arguments.recipe else clean.DeidentifyConfig()
    result = clean.deidentify_folder(
        arguments.input, arguments.output, config, key, labels=arguments.labels, progress=not arguments.quiet
    )
    images = arguments.output / "images"
    print(f"de-identified: {len(result.written)} images of {result.patients} patients in {images}")
    print(f"quarantined: {len(result.quarantine)}, see {arguments.output / 'quarantine.csv'}")
    if result.others:
        print(f"no images: {len(result.others)} other files, neither read nor copied")
    if result.labels is not None:
        print(f"labels: {result.labels.rows} of {len(result.written)} images, see {images / 'labels.csv'}")
        if result.labels.withheld:
            print(f"labels withheld: {result.labels.withheld}, which hold an identifier of their image")
    elif (table := arguments.input / "labels.csv").is_file():
        print(f"labels: none written; to carry those of {table} over, add --labels {table}")


def _run(arguments: Namespace, stop: Stop) -> None:
    _check_input(arguments)
    if arguments.dry_run:
        from medidistill.pipeline import plan

        print(plan(_config_of(arguments), arguments.input, arguments.output, until=arguments.until))
        return
    _whole(arguments, stop, _config_of(arguments), arguments.input, arguments.output)


def _demo(arguments: Namespace, stop: Stop) -> None:
    from medidistill.config import PhantomConfig
    from medidistill.files import private_umask
    from medidistill.pipeline import load_config

    arguments.config = "demo"
    phantoms, output = arguments.output / "phantoms", arguments.output / "run"
    config = load_config("demo", settings_of(arguments))
    with private_umask():  # nobody's images, but a folder as a run on patients' would make it
        if not (phantoms / "labels.csv").is_file():
            _make_phantoms(phantoms, PhantomConfig(patients_per_class=_DEMO_PATIENTS, seed=config.seed), arguments)
        _whole(arguments, stop, config, phantoms, output)


def _whole(arguments: Namespace, stop: Stop, config: RunConfig, source: Path | None, output: Path) -> None:
    from medidistill.pipeline import RunFolder, run

    comparison = run(
        config,
        source,
        output,
        resume=arguments.resume,
        force=arguments.force,
        from_stage=getattr(arguments, "from_stage", None),
        until=getattr(arguments, "until", None),
        progress=not arguments.quiet,
        stop=stop,
        command=_record_of(arguments),
        sinks=_sinks(arguments),
    )
    if comparison is None:
        print(f"finished until {arguments.until}; continue with: medidistill run --output {output} --resume")
        return
    if config.notice:
        print(f"{config.notice}\n")
    print(comparison.to_markdown())
    _print_verdict(RunFolder(output))
    done = RunFolder(output)
    print(f"\nbundle: {done.bundle}\nsummary: {done.summary}\nreport: {done.report}")


def _print_verdict(folder: RunFolder) -> None:
    from medidistill.files import read_json
    from medidistill.pipeline.status import verdict_lines

    lines = verdict_lines(read_json(folder.verdict)) if folder.verdict.is_file() else []
    if lines:
        print("\n" + "\n".join(["verdict:", *lines]))


def _sinks(arguments: Namespace) -> tuple[Sink, ...]:
    from medidistill.pipeline import make_sinks

    names = ("prometheus", "tensorboard", "mlflow")
    return make_sinks(**{name: getattr(arguments, name, None) for name in names}, name=arguments.command)


def _ingest(arguments: Namespace, stop: Stop) -> None:
    from medidistill.pipeline import RunFolder, working
    from medidistill.pipeline.stages.ingest import ingest, source_of

    _check_input(arguments)
    config = _config_of(arguments)
    again = {"resume": arguments.resume, "force": arguments.force}
    folder = RunFolder.create(arguments.output, config, **again, source=arguments.input)
    source_of(folder, arguments.input)
    with working(folder, stop=stop, progress=not arguments.quiet, command=_record_of(arguments)) as work:
        ingest(work, arguments.input)
        facts = work.record.stages["ingest"]
        for split, counts in facts["images"].items():
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            print(f"{split}: {sum(counts.values())} images of {facts['patients'][split]} patients ({listed})")
        print(f"quarantined: {facts['quarantined']}")
        for note in facts.get("notes", ()):
            print(f"note: {note}")


def _stage(arguments: Namespace, stop: Stop) -> None:
    from medidistill.distillation import join_ranks
    from medidistill.pipeline import RunFolder, train_shard

    if getattr(arguments, "shard", None) is not None:
        folder = RunFolder.open(arguments.output, option="--output")
        settings = machine_settings(arguments)
        train_shard(folder, _shard(arguments.shard), stop=stop, progress=not arguments.quiet, settings=settings)
        return
    ranks = join_ranks()
    with ranks.propagate_errors():
        _work(arguments, stop, ranks)


def _work(arguments: Namespace, stop: Stop, ranks: Ranks) -> None:
    from medidistill.pipeline import RunFolder, methods, working
    from medidistill.pipeline.stages.distill import distill
    from medidistill.pipeline.stages.evaluate import evaluate
    from medidistill.pipeline.stages.experts import experts
    from medidistill.pipeline.stages.report import report

    folder, command = RunFolder.open(arguments.output, option="--output"), f"medidistill {arguments.command}"
    with working(
        folder,
        stop=stop,
        progress=not arguments.quiet,
        command=command,
        ranks=ranks,
        settings=machine_settings(arguments),
    ) as work:
        if arguments.command == "experts":
            experts(work)
            _print_first(ranks, folder.experts)
        elif arguments.command == "distill":
            for method in (arguments.method,) if arguments.method else methods(work.config):
                distill(work, method)
                _print_first(ranks, folder.distill(method))
        elif arguments.command == "evaluate":
            print(evaluate(work).to_markdown())
            _print_verdict(folder)
        else:
            print(report(work))


def _print_first(ranks: Ranks, path: Path) -> None:
    if ranks.writes:
        print(path)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise ConfigError(f"--shard {text}: must be I/N with 0 <= I < N, for example 0/4")
    return int(found[1]), int(found[2])


_COMMANDS: dict[str, Callable[[Namespace, Stop], None]] = {
    "phantom": _phantom,
    "deidentify": _deidentify,
    "demo": _demo,
    "run": _run,
    "ingest": _ingest,
    "experts": _stage,
    "distill": _stage,
    "evaluate": _stage,
    "report": _stage,
}
