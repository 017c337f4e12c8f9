"""The parts of medidistill that need packages beyond torch, NumPy and safetensors, and the error where one is missing.

An extra of pyproject.toml installs the packages of a part: ``pip install 'medidistill[ingest]'``. A package of
medidistill whose modules need an extra calls `require_extra` before anything else is imported, so that what is missing
is said in one sentence instead of by an import error from the depths.
"""

from __future__ import annotations

import importlib.util

from medidistill.errors import MissingExtraError

__all__ = ["EXTRAS", "require_extra"]

# extra -> what needs it, and the modules that must be there -> the distribution, where that has another name
EXTRAS: dict[str, tuple[str, dict[str, str]]] = {
    "ingest": (
        "reading X-rays",
        {
            "pydicom": "",
            "monai": "",
            "PIL": "pillow",
            "scipy": "",
            "pandas": "",
            "openpyxl": "",
            "ruamel": "ruamel.yaml",
            "anyascii": "",
            "dicomanonymizer": "dicom-anonymizer",
            "psutil": "",
            "tqdm": "",
        },
    ),
    "networks": ("a network other than the ConvNet", {"monai": "", "torchvision": ""}),
    "evaluate": ("comparing training sets", {"scipy": "", "sklearn": "scikit-learn", "cattrs": ""}),
    "privacy": ("measuring privacy", {"scipy": "", "sklearn": "scikit-learn", "cattrs": ""}),
    "export": (
        "writing a bundle or checking one",
        {
            "pydicom": "",
            "highdicom": "",
            "PIL": "pillow",
            "jsonschema": "",
            "matplotlib": "",
            "scipy": "",
            "cattrs": "",
        },
    ),
    "report": ("writing a report", {"matplotlib": "", "jinja2": "", "scipy": "", "cattrs": ""}),
    "run": ("a run", {"pandas": "", "psutil": "", "pydantic": "", "ruamel": "ruamel.yaml", "tqdm": ""}),
    "dp": ("differential privacy", {"dp_accounting": "dp-accounting", "opacus": ""}),
    "login": ("--login", {"authlib": "Authlib"}),
    "pacs": ("exchange with a PACS", {"pynetdicom": "", "dicomweb_client": "dicomweb-client", "requests": ""}),
    "sign": ("a signature", {"cryptography": ""}),
    "track": ("--tensorboard", {"tensorboard": ""}),
}


def require_extra(extra: str, what: str = "", *modules: str) -> None:
    """Check that the packages of an extra are installed; nothing is imported.

    Args:
        extra: a key of `EXTRAS`.
        what: what needs them, as the message begins; empty: what `EXTRAS` says.
        modules: the modules that count; none named: all of the extra.

    Raises:
        MissingExtraError: a package is missing; the message names it and the extra.
    """
    purpose, known = EXTRAS[extra]
    missing = [name for name in modules or known if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(extra, what or purpose, [known[name] or name for name in missing], missing[0])
