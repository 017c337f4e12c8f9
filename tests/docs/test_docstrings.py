"""What the documentation site shows of the library: every argument of a public name is explained, examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import medidistill
from medidistill.config.fields import Validated

PACKAGE = Path(medidistill.__file__).parent
WITH_EXAMPLES = sorted(file for file in PACKAGE.rglob("*.py") if ">>> " in file.read_text(encoding="utf-8"))


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every public function, class and method of the top level; settings are explained by the schema."""
    for name in medidistill.__all__:
        found = getattr(medidistill, name)
        if inspect.isclass(found) and not issubclass(found, Validated):
            for member, value in vars(found).items():
                method = getattr(value, "__func__", value)
                if not member.startswith("_") and inspect.isfunction(method):
                    yield f"{name}.{member}", method
        if callable(found) and not (inspect.isclass(found) and issubclass(found, Validated)):
            yield name, found


def explained(found: Callable[..., Any]) -> str:
    """Return the docstring, for a class with those of the classes that it extends."""
    bases = inspect.getmro(found) if inspect.isclass(found) else (found,)
    return "\n".join(inspect.getdoc(base) or "" for base in bases)


@pytest.mark.parametrize(("name", "found"), [pytest.param(*one, id=one[0]) for one in public_callables()])
def test_every_argument_of_a_public_name_is_in_its_docstring(name, found):
    try:
        arguments = [argument for argument in inspect.signature(found).parameters if argument not in ("self", "cls")]
    except ValueError:  # an exception that takes what every exception takes
        arguments = []
    text = explained(found)
    assert text, name
    silent = [argument for argument in arguments if not re.search(rf"\b{argument}\b", text)]
    assert silent == [], f"{name}: no word on {', '.join(silent)}"


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_examples_in_docstrings_run(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    assert any(found.examples for found in doctest.DocTestFinder().find(module))
    assert doctest.testmod(module).failed == 0
