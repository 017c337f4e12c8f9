"""The sub-commands in the order of the help. This is the one list of them.

A new sub-command is a module here of the name that is typed, with a function `add(commands)`, and a line below. `add`
describes it (`medidistill.cli.options.add_command`) and says by `set_defaults`:

| name | meaning | without it |
|---|---|---|
| `handler` | function (arguments, stop) that does the work; it imports what it needs when it is called | required |
| `private` | a `Private` of `medidistill.cli.private_output`, for what reads patients' data | it reads none |
| `resume_hint` | text, or function (arguments) -> text: how a stopped command is continued | with the same command |
| `shares_ranks` | whether several processes of torchrun may share it | they may not |
"""

__all__ = ["COMMANDS"]

COMMANDS = (
    "demo",
    "phantom",
    "deidentify",
    "run",
    "ingest",
    "experts",
    "distill",
    "evaluate",
    "report",
    "app",
    "audit",
    "receive",
    "pull",
    "clean",
    "config",
    "export",
    "pipelines",
    "status",
    "support",
    "verify",
    "sign",
    "train",
    "merge",
    "push",
    "log",
    "nightly",
    "intake",
)
