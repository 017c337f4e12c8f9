"""What the command line accepts, and the help that teaches it."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import medidistill
from medidistill.cli import (
    app,
    audit,
    config,
    export,
    intake,
    log,
    merge,
    nightly,
    pipelines,
    pull,
    push,
    receive,
    status,
    support,
    train,
    verify,
)
from medidistill.cli import clean as clean_run
from medidistill.cli.options import (
    add_again,
    add_command,
    add_config,
    add_machine,
    add_output,
    add_release_check,
    add_settings,
)
from medidistill.config import METHODS, PhantomConfig
from medidistill.errors import ConfigError, did_you_mean
from medidistill.pipeline.stages import STAGES

__all__ = ["make_parser"]

# sub-commands with a module of their own: `add(commands)` describes one and names what runs it as
# `set_defaults(handler=...)`, a function (arguments, stop) that imports what it needs when it is called
_MODULES: tuple[ModuleType, ...] = (
    app,
    audit,
    receive,
    pull,
    clean_run,
    config,
    export,
    pipelines,
    status,
    support,
    verify,
    train,
    merge,
    push,
    log,
    nightly,
    intake,
)

_EXIT_CODES = """\
exit codes: 0 done; 2 wrong setting or argument; 3 input missing or inconsistent; 4 refused by the
privacy gate; 5 disk, memory or permission; 6 too many files quarantined; 7 the optimisation diverged;
130, 143 stopped, resumable."""


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as every other error of medidistill does."""

    def error(self, message: str) -> NoReturn:
        """Print the message, its remedy, and end with the exit code of a wrong argument."""
        found = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        guess = did_you_mean(found[1], re.findall(r"[\w-]+", found[2])) if found else ""
        print(f"medidistill: error: {message}{guess}; see `{self.prog} --help`", file=sys.stderr)
        sys.exit(ConfigError.exit_code)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `medidistill`; `arguments.command` names the sub-command."""
    parser = _Parser(
        prog="medidistill",
        description=textwrap.fill(
            "Distil chest X-rays into a few synthetic images, and measure what they are worth. "
            "Research use, not for diagnosis.",
            96,
        ),
        allow_abbrev=False,
        epilog="example, no data needed:\n  medidistill demo\n\n" + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"medidistill {medidistill.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    demo = add_command(
        commands,
        "demo",
        "the whole job on phantom X-rays, a few minutes",
        "Makes phantom chest X-rays as DICOM studies of patients who do not exist, and does the whole job on them with "
        "the ready-made configuration `demo`: experts, two distillations, the comparison, bundle and report. Needs no "
        "network and no data.",
        "medidistill demo --output demo-output",
    )
    demo.add_argument("--output", type=Path, default=Path("demo-output"), metavar="DIR", help="default: demo-output")
    add_again(demo)
    add_settings(demo)
    add_machine(demo)
    add_release_check(demo)

    phantom = add_command(
        commands,
        "phantom",
        "make phantom chest X-rays",
        "Writes phantom chest X-rays as DICOM studies with a labels.csv: three classes (normal, lobar pneumonia, "
        "bilateral peripheral opacities), several patients with several images, names that are plainly synthetic.",
        "medidistill phantom phantoms --patients-per-class 40",
    )
    phantom.add_argument("folder", type=Path, metavar="OUT", help="new folder for the studies")
    defaults = PhantomConfig()
    for name in ("patients_per_class", "images_per_patient", "size", "monochrome1_share", "seed"):
        default = getattr(defaults, name)
        text = PhantomConfig.__dataclass_fields__[name].metadata["help"]
        phantom.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar="X" if isinstance(default, float) else "N",
            help=f"{text} (default: {default})",
        )

    clean = add_command(
        commands,
        "deidentify",
        "de-identify a folder of DICOM chest X-rays",
        "Removes or replaces what identifies a patient (PS3.15 basic profile, dates moved by an offset a patient), "
        "reads each result again to check it, and lists in OUT/quarantine.csv what must not leave, by keyed names. "
        "The key comes from --key-file or MEDIDISTILL_DEIDENTIFY_KEY; whoever has it can recompute the pseudonyms.",
        "(umask 077; openssl rand -hex 32 > site.key)\n"
        "  medidistill deidentify xrays clean --key-file site.key --recipe site.yaml",
    )
    clean.add_argument("input", type=Path, metavar="IN", help="folder of DICOM files")
    clean.add_argument("output", type=Path, metavar="OUT", nargs="?", help="new or empty folder")
    clean.add_argument("--key-file", type=Path, metavar="FILE", help="the secret key, readable by its owner alone")
    clean.add_argument("--recipe", type=Path, metavar="FILE", help="YAML with the options and elements of this site")
    clean.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="labels by path, SOP Instance UID or accession number: OUT/images/labels.csv gets them by the new paths",
    )
    clean.add_argument("--locate", metavar="NAME", help="print the input file that a name in quarantine.csv stands for")

    run = add_command(
        commands,
        "run",
        "all stages from one configuration",
        "Reads X-rays, trains experts, distils, compares with real images of the same number, and writes a bundle and "
        "a report. Every stage keeps what it finished: after a stop, `--resume` goes on.",
        "medidistill run --config quick --input xrays --output runs/first --set distill.ipc=10\n"
        "  medidistill run --output runs/first --resume",
    )
    add_config(run)
    run.add_argument("--input", type=Path, metavar="DIR", help="folder of X-rays; not needed with --resume")
    add_output(run)
    add_again(run)
    add_settings(run)
    add_machine(run)
    add_release_check(run)
    stage = f"{', '.join(tuple(STAGES)[:-1])} or {tuple(STAGES)[-1]}"
    run.add_argument("--from", dest="from_stage", metavar="STAGE", help=f"with --resume: do anew from {stage}")
    run.add_argument("--until", metavar="STAGE", help=f"end after this stage: {stage}")
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing: say what would be done, and about how long, how much disk and memory it takes",
    )
    run.add_argument("--tensorboard", type=Path, metavar="DIR", help="curves for TensorBoard (needs the extra track)")
    run.add_argument("--prometheus", type=Path, metavar="FILE.prom", help="metrics for a node exporter")
    run.add_argument("--mlflow", metavar="URI", help="figures for an MLflow server (needs mlflow-skinny)")

    ingest = add_command(
        commands,
        "ingest",
        "read, split and prepare X-rays",
        "Reads a folder of DICOM, PNG or JPEG files with a CSV of labels (or a sub-folder for each class), splits by "
        "patient, and starts a run folder. Files that cannot be used are quarantined with their reason in "
        "ingest/quarantine.csv. The folder ingest/ holds patients' pixels: mode 0700, never part of a bundle.",
        "medidistill ingest --input xrays --output runs/first --config quick",
    )
    ingest.add_argument("--input", type=Path, metavar="DIR", help="folder of X-rays; not needed with --resume")
    add_output(ingest)
    add_config(ingest)
    add_again(ingest)
    add_settings(ingest)

    experts = add_command(
        commands,
        "experts",
        "train the experts on the real images",
        "Trains networks on the training split and keeps one snapshot an epoch: the trajectories that distillation "
        "matches. Finished experts are kept when it is run again.",
        "medidistill experts --output runs/first",
    )
    add_output(experts)
    add_machine(experts)
    experts.add_argument(
        "--shard",
        metavar="I/N",
        help="train every N-th expert from number I, beside other processes on the same folder",
    )
    distill = add_command(
        commands,
        "distill",
        "learn the synthetic images",
        "Learns a few synthetic images whose training follows the experts. `iadd` weights the network's parameters by "
        "importance; `mtt` is the same with all weights one; the other methods are listed in docs/methods.md. Goes on "
        "from its checkpoint when it is run again.",
        "medidistill distill --output runs/first --method iadd",
    )
    add_output(distill)
    add_machine(distill)
    distill.add_argument(
        "--method",
        choices=tuple(METHODS),
        metavar="NAME",
        help=f"one of {', '.join(METHODS)} (default: those that run.yaml compares)",
    )
    for name, title, text in (
        (
            "evaluate",
            "compare what the sets are worth",
            "Trains fresh networks on every arm of the comparison, makes each choice on validation, scores the test "
            "split once and notes that in record.json. Finished cells are kept when it is run again.",
        ),
        (
            "report",
            "write the report",
            "Writes report.html: one page with the table, its intervals, the distilled images and the curves.",
        ),
    ):
        stage_parser = add_command(commands, name, title, text, f"medidistill {name} --output runs/first")
        add_output(stage_parser)
        if name == "evaluate":
            add_machine(stage_parser)

    for module in _MODULES:
        module.add(commands)
    return parser
