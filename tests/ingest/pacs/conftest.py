"""Real peers on loopback: a storage, query and retrieve SCP made of pynetdicom, holding phantoms."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

pytest.importorskip("pynetdicom")

from pynetdicom import AE, evt
from pynetdicom.dimse_messages import C_MOVE_RSP
from pynetdicom.sop_class import (
    DigitalXRayImageStorageForPresentation,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from medidistill.tls import Tls


@pytest.fixture
def films(radiograph):
    """Three studies: DX, CR, and one whose only series is a CT by its own word."""
    found = []
    for number, modality in ((1, "DX"), (2, "CR"), (3, "CT")):
        dataset = radiograph(np.arange(16).reshape(4, 4) * number, number=number, Modality=modality)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.10{number}", f"2.25.20{number}"
        dataset.AccessionNumber, dataset.StudyDate = f"PH{number}", f"2026010{number}"
        if modality == "CR":
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        found.append(dataset)
    return found


class Archive:
    """A PACS of a few datasets; sends what it is asked to move to `destination`."""

    def __init__(self, films):
        self.films, self.destination, self.fail, self.tls = films, None, False, None
        self.filtering = True  # False: it answers with all that it holds, whatever the query
        self.counts = {}  # Number of Series Related Instances, by series
        self.final = {}  # elements of the last response to a C-MOVE that it changes

    def find(self, event):
        keys = event.identifier
        if self.fail:
            yield 0xC001, None
            return
        for film in self.films:
            first, _, last = str(keys.get("StudyDate", "") or "").partition("-")
            if self.filtering and (
                keys.get("StudyInstanceUID") not in (None, "", film.StudyInstanceUID)
                or keys.get("AccessionNumber") not in (None, "", film.AccessionNumber)
                or (first and not first <= film.StudyDate <= (last or first))
            ):
                continue
            answer = Dataset()
            answer.QueryRetrieveLevel = keys.QueryRetrieveLevel
            answer.StudyInstanceUID = film.StudyInstanceUID
            if keys.QueryRetrieveLevel == "SERIES":
                answer.SeriesInstanceUID, answer.Modality = film.SeriesInstanceUID, film.Modality
                answer.NumberOfSeriesRelatedInstances = self.counts.get(film.SeriesInstanceUID)
            else:
                answer.AccessionNumber, answer.StudyDate = film.AccessionNumber, film.StudyDate
            yield 0xFF00, answer
        yield 0x0000, None

    def move(self, event):
        if self.destination is None:
            yield None, None
            return
        chosen = [film for film in self.films if film.SeriesInstanceUID == event.identifier.SeriesInstanceUID]
        contexts = {"contexts": []}
        from pynetdicom import build_context

        contexts["contexts"] = [
            build_context(DigitalXRayImageStorageForPresentation),
            build_context(ComputedRadiographyImageStorage),
        ]
        contexts |= {"tls_args": self.tls} if self.tls else {}
        yield (*self.destination, contexts)
        yield len(chosen)
        for film in chosen:
            yield 0xFF00, film

    def sent(self, event):
        """Change the last response to a C-MOVE just before it goes out."""
        command = event.message.command_set
        if isinstance(event.message, C_MOVE_RSP) and command.Status not in (0xFF00, 0xFF01):
            command.update(self.final)


@contextlib.contextmanager
def running(films, context=None, moves=True):
    held = Archive(films)
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    if moves:
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    handlers = [(evt.EVT_C_FIND, held.find), (evt.EVT_C_MOVE, held.move), (evt.EVT_DIMSE_SENT, held.sent)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context)
    held.port = server.socket.getsockname()[1]
    try:
        yield held
    finally:
        server.shutdown()


@pytest.fixture
def archive(films):
    """The running archive, with its `port`."""
    with running(films) as held:
        yield held


@pytest.fixture
def closed_archive(films, certificates):
    """The same by TLS: it asks for a certificate of our authority, and sends by TLS."""
    tls = Tls(certificates / "ours-ca.pem", certificates / "ours.pem", certificates / "ours.key")
    with running(films, tls.server()) as held:
        held.tls = (tls.client(), "127.0.0.1")
        yield held


@pytest.fixture
def send():
    """Send datasets to a receiver by C-STORE; returns the status of each."""

    def sending(port, datasets, called="MEDIDISTILL", calling="SENDER", tls=None):
        entity = AE(ae_title=calling)
        for uid in {dataset.SOPClassUID for dataset in datasets}:
            entity.add_requested_context(uid)
        link = entity.associate("127.0.0.1", port, ae_title=called, tls_args=(tls, "127.0.0.1") if tls else None)
        if not link.is_established:
            return None
        with contextlib.ExitStack() as stack:
            stack.callback(link.release)
            return [link.send_c_store(dataset).get("Status") for dataset in datasets]

    return sending
