"""The Dockerfile's and the manifests' own commands, where no container engine is: in name spaces of the kernel.

The build's commands run in a clean virtual environment; what is built then runs as the image would: not root, without
any capability, no network, the root file system read-only, /input read-only, /tmp in memory. Needs root, and an index
of packages for the build.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

SMALL = {
    "threads": "1",
    "ingest__image_size": "16",
    "network__width": "4",
    "network__depth": "1",
    "experts__count": "4",
    "experts__epochs": "3",
    "distill__ipc": "1",
    "distill__outer_steps": "10",
    "distill__inner_steps": "2",
    "distill__expert_epochs": "1",
    "distill__max_start": "2",
    "distill__validate_every": "5",
    "evaluate__arms": "[random, mtt, iadd]",
    "evaluate__num_networks": "2",
    "evaluate__bootstrap": "100",
    "evaluate__small__steps": "5",
    "evaluate__adaptive__steps": "5",
}
MOUNTED = ("/opt/medidistill", "/input", "/output")
# the interpreter below the environment may lie in a home that only its owner may enter
OPEN_PYTHON = f"""
        hold=$(mktemp -d) && mount --bind {sys.base_prefix} $hold
        case {sys.base_prefix} in
          /root/*) mount -t tmpfs -o mode=755 none /root && mkdir -p {sys.base_prefix}
                   mount --bind $hold {sys.base_prefix};;
        esac"""
ENVIRONMENT = {f"MEDIDISTILL_SET__{name}": value for name, value in SMALL.items()}


def dockerfile(root):
    """Return the instructions of the last and the earlier stages: (word, text) each, continuation lines joined."""
    text = (root / "pipelines" / "container" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    last = max(number for number, (word, _) in enumerate(lines) if word == "FROM")
    return lines[:last], lines[last:]


@pytest.fixture(scope="module")
def image(root, tmp_path_factory):
    """The folder that holds what the build leaves in /opt/medidistill."""
    if subprocess.run(["unshare", "--mount", "--net", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us make name spaces")
    made = [path for path in map(Path, MOUNTED) if not path.exists()]
    for path in made:
        path.mkdir()
    place = tmp_path_factory.mktemp("image")
    place.chmod(0o755)
    build, _ = dockerfile(root)
    source, built = place / "source", place / "built"
    source.mkdir()
    built.mkdir()
    if "MEDIDISTILL_IMAGE" in os.environ:  # what an earlier build left
        shutil.copytree(os.environ["MEDIDISTILL_IMAGE"], built, symlinks=True, dirs_exist_ok=True)
        build = []
    for word, rest in build:
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                if (root / name).is_dir():
                    shutil.copytree(root / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(root / name, source / target)
    commands = " && ".join(rest for word, rest in build if word == "RUN") or "true"
    mounts = f"mount --bind {built} /opt/medidistill && cd {source}"
    path = f"PATH={Path(sys.base_prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(["unshare", "--mount", "env", path, "sh", "-ec", f"{mounts} && {commands}"], check=False)
    assert done.returncode == 0
    yield place
    shutil.rmtree(place)
    for path in made:
        path.rmdir()


def contained(root, place, command, environment=()):
    """Run a command as the image would; returns what it did."""
    (place / "output").mkdir(exist_ok=True)
    (place / "output").chmod(0o777)
    script = f"""
        {OPEN_PYTHON}
        mount --bind {place}/built /opt/medidistill
        mount --bind {place}/input /input && mount -o remount,bind,ro /input
        mount --bind {place}/output /output
        mount -t tmpfs none /tmp
        mount -o remount,bind,ro /
        cd /tmp
        exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all \\
          env -i "$@"
    """
    _, run = dockerfile(root)
    own = [part.replace("$PATH", "/usr/bin:/bin") for word, rest in run if word == "ENV" for part in rest.split()]
    given = [*own, *(f"{name}={value}" for name, value in {**ENVIRONMENT, **dict(environment)}.items())]
    shell = ["unshare", "--mount", "--net", "sh", "-ec", script, "sh", *given, *command]
    return subprocess.run(shell, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def films(image):
    """Phantoms in /input, readable by everyone."""
    command = ["medidistill", "phantom", str(image / "input"), "--patients-per-class", "8", "--size", "64", "--quiet"]
    environment = {"PATH": f"{image}/built/bin:/usr/bin:/bin", "HOME": str(image)}
    # the scripts of the environment name the place that they were installed for
    done = subprocess.run([f"{image}/built/bin/python", "-m", *command], check=False, env=environment)
    assert done.returncode == 0
    return image


def test_what_the_dockerfile_starts(root, films):
    _, run = dockerfile(root)
    entry, words, health = (
        [json.loads(rest) for word, rest in run if word == name] for name in ("ENTRYPOINT", "CMD", "")
    )
    assert not health
    command = [*entry[0], *words[0]]
    done = contained(root, films, command)
    assert done.returncode == 0, done.stderr
    (probe,) = [json.loads(re.sub(r".*CMD ", "", rest)) for word, rest in run if word == "HEALTHCHECK"]
    checked = contained(root, films, probe)
    assert checked.returncode == 0
    assert re.search(r"^state +finished$", checked.stdout, re.MULTILINE)
    assert (films / "output" / "run" / "bundle" / "SHA256SUMS").is_file()
    owners = {path.stat().st_uid for path in (films / "output").rglob("*")}
    assert owners == {10001}
    # what the walls are for
    for forbidden in (
        "touch /x",
        "touch /input/x",
        "python -c 'import socket; socket.create_connection((\"9.9.9.9\", 53), 3)'",
    ):
        assert contained(root, films, ["sh", "-c", forbidden]).returncode != 0, forbidden
    shutil.rmtree(films / "output")


def test_what_the_manifests_start(root, films):
    jobs = [
        one
        for one in YAML(typ="safe").load_all((root / "pipelines/kubernetes/job.yaml").read_text())
        if one["kind"] == "Job"
    ]
    assert [job["metadata"]["labels"]["stage"] for job in jobs] == ["ingest", "experts", "rest"]
    for job in jobs:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        command = [*container.get("command", ["medidistill"]), *container["args"]]
        for index in range(job["spec"].get("completions", 1)):
            done = contained(root, films, command, {"JOB_COMPLETION_INDEX": str(index)})
            assert done.returncode == 0, (shlex.join(command), done.stderr)
    record = json.loads((films / "output" / "run" / "record.json").read_text())
    assert list(record["stages"])[-1] == "report"
    shutil.rmtree(films / "output")
