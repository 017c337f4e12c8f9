"""`medidistill app`: the pages in the browser, served on this machine alone."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command, number
from medidistill.web_address import THIS_MACHINE

__all__ = ["add", "give_demo", "server_options"]

_UPLOAD = 200  # MB


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "app",
        "start runs and look at them in the browser",
        "Serves the app on this machine alone (localhost): choose X-rays, distill, compare, export, receive. A new "
        "folder of runs holds a finished demo on phantoms, so that every page has something to show. Runs are "
        "started as this same command in processes of their own, and go on when the browser or the app is closed. No "
        "usage statistics are sent. Pages read below --root and --images and nowhere else.",
        "medidistill app\n  medidistill app --root runs --images /data/xrays",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("medidistill-runs"),
        metavar="DIR",
        help="folder of runs, made where it is absent (default: medidistill-runs)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder below which X-rays may be chosen; may be repeated (default: the folder of runs alone)",
    )
    parser.add_argument(
        "--port", type=number(int, 1, 65535), default=8501, metavar="N", help="port on localhost (default: 8501)"
    )
    parser.add_argument(
        "--login",
        action="store_true",
        help="show pages only to users who signed in by OpenID Connect; needs the extra `login` and the section "
        "[auth] in .streamlit/secrets.toml, see docs/tutorial.md",
    )
    parser.add_argument(
        "--host",
        metavar="NAME",
        help="with --login: the name under which a reverse proxy on this machine serves the app to others over TLS",
    )
    parser.set_defaults(handler=_app, resume_hint="")


def server_options(port: int, host: str | None = None) -> list[str]:
    """Return what Streamlit is told on its command line, where no settings file can loosen it.

    Args:
        port: on localhost.
        host: the name that a reverse proxy answers to; None: the app answers to this machine's own names alone.
    """
    options = [
        ("server.address", "localhost"),
        ("server.port", port),
        *(("server.allowedHosts", name) for name in (*THIS_MACHINE, *([host] if host else []))),
        *([("server.corsAllowedOrigins", f"https://{host}"), ("browser.serverAddress", host)] if host else []),
        ("server.enableXsrfProtection", "true"),
        ("server.enableCORS", "true"),
        ("server.maxUploadSize", _UPLOAD),
        ("browser.gatherUsageStats", "false"),
        ("client.showErrorDetails", "none"),
    ]
    return [part for name, value in options for part in (f"--{name}", str(value))]


def give_demo(root: Path) -> None:
    """Unpack the finished demo into `root`, where nothing is yet. Raises `ResourceError` where it cannot be written."""
    import zipfile

    from medidistill.files import private_umask, publish_folder, translate_os_errors
    from medidistill.pipeline import RunFolder, app_file

    archive, demo = app_file().parent / "demo.zip", RunFolder(root / "demo")
    with translate_os_errors(root):
        if archive.is_file() and not any(root.iterdir()):
            # phantoms, but it is closed to others as every run is
            with private_umask(), zipfile.ZipFile(archive) as packed:
                packed.extractall(demo.path)
                publish_folder(demo.bundle)


def _app(arguments: Namespace, stop: Any) -> None:
    import os
    import subprocess
    import sys

    from medidistill.errors import ConfigError
    from medidistill.extras import require_extra
    from medidistill.files import translate_os_errors
    from medidistill.pipeline import app_file

    root = arguments.root.resolve()
    if root.exists() and not root.is_dir():
        raise ConfigError(f"--root {arguments.root}: is a file; name a folder")
    for folder in arguments.images:
        if not folder.is_dir():
            raise ConfigError(f"--images {folder}: no such folder")
    if arguments.host and not arguments.login:
        raise ConfigError("--host: would show patients' images to everyone in reach; it needs --login")
    if arguments.login:
        require_extra("login")
    with translate_os_errors(root):
        root.mkdir(mode=0o700, exist_ok=True)
    give_demo(root)
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(app_file()),
        *server_options(arguments.port, arguments.host),
    ]
    environment = {
        **os.environ,
        "MEDIDISTILL_RUNS": str(root),
        "MEDIDISTILL_IMAGES": os.pathsep.join(str(folder.resolve()) for folder in arguments.images),
        "MEDIDISTILL_LOGIN": "1" if arguments.login else "",
    }
    # uploads, jobs and what the app's runs leave are for its user alone
    subprocess.run(command, env=environment, umask=0o077, check=False)  # noqa: S603 (our own script)
