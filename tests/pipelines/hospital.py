"""A hospital with an intake of its own, and a PACS that sends films to it on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections import Counter
from pathlib import Path

import pydicom
from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation

from medidistill.ingest.pacs.receive import Receiver
from medidistill.ingest.pacs.study_spool import StudySpool
from medidistill.pipeline.unattended.intake_folder import IntakeFolder
from medidistill.pipeline.unattended.intake_status import read_intake_status

from ..killing import finish

CONFIG = """\
name: an intake
seed: 5
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 2, batch_size: 8}
distill:
  {ipc: 1, outer_steps: 4, inner_steps: 2, expert_epochs: 1, max_start: 1, validate_every: 2, checkpoint_every: 2}
evaluate:
  {arms: [mtt], num_networks: 2, full_epochs: 1, bootstrap: 100,
   small_set_training: {steps: 2}, adaptive: {steps: 2}}
"""


class Hospital:
    """The folder of an intake, its key, labels and configuration, and a PACS that sends."""

    def __init__(self, root: Path, films) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.intake, self.films, self.log = root, root / "intake", films, root / "log"
        self.key, self.labels, self.config = root / "site.key", root / "labels.csv", root / "site.yaml"
        self.key.write_text("0123456789abcdef" * 4)
        self.key.chmod(0o600)
        self.config.write_text(CONFIG)
        self.label(films)

    def label(self, films) -> None:
        """Write the table of labels."""
        rows = [f"{film.SOPInstanceUID},{label}" for film, label in films]
        self.labels.write_text("\n".join(["sop_instance_uid,label", *rows]) + "\n")

    def listening(self, port: int = 0) -> Receiver:
        """Return a receiver in this process."""
        return Receiver(StudySpool(IntakeFolder.create(self.intake).root), port=port)

    def receive(self, films=None) -> None:
        """Send films to a receiver that ends afterwards."""
        with self.listening() as receiver, sending(receiver.port) as link:
            for film, _ in self.films if films is None else films:
                assert link.send_c_store(film).Status == 0

    def arguments(self, *more: str) -> list[str]:
        """Return the command that processes what was received."""
        begin = ["intake", "process", str(self.intake), "--key-file", str(self.key), "--labels", str(self.labels)]
        return [*begin, "--config", str(self.config), "--settle", "0", "--quiet", *more]

    def process(self, *more: str) -> tuple[int, str]:
        """Process in a child; return its exit code and what it said."""
        self.log.write_text("")
        return finish(self.arguments(*more), self.log), self.log.read_text()

    def status(self) -> dict:
        """Return how the intake stands."""
        return dataclasses.asdict(read_intake_status(self.intake))

    def batches(self) -> list[Path]:
        """Return the folders of batches."""
        return sorted(path.parent for path in (self.intake / "batches").glob("*/batch.json"))

    def received(self) -> Counter:
        """Return how often each object is anywhere among the identified images."""
        paths = [*self.intake.glob("spool/*/*.dcm"), *self.intake.glob("batches/*/identified/*/*.dcm")]
        return Counter(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths)


@contextlib.contextmanager
def sending(port: int):
    """Open an association of a PACS."""
    entity = AE(ae_title="PACS")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation)
    link = entity.associate("127.0.0.1", port, ae_title="MEDIDISTILL")
    assert link.is_established
    try:
        yield link
    finally:
        if link.is_established:
            link.release()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def is_listening(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_for(true, seconds=20.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
