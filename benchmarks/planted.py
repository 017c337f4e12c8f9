"""Values that must not come out again, and the places of a DICOM file that they are planted in."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID, ComputedRadiographyImageStorage, JPEGBaseline8Bit

__all__ = ["CHARSETS", "PLACES", "Planted", "burn_in", "holds", "plant"]

_ENCODINGS = (
    *("utf-8", "latin-1", "utf-16-le", "utf-16-be", "iso8859-5", "iso8859-6", "iso8859-7", "cp1251"),
    *("shift_jis", "euc_jp", "iso2022_jp", "gb18030", "euc_kr"),
)
CHARSETS: dict[str, tuple[str | list[str], str]] = {
    "Latin-1 diacritics": ("ISO_IR 100", "Phäntömsen^Ünïté"),
    "Cyrillic": ("ISO_IR 144", "Фантомов^Призрак"),
    "Greek": ("ISO_IR 126", "Φάντασμα^Είδωλο"),
    "Arabic": ("ISO_IR 127", "شبح^خيال"),
    "Japanese ideographs": (["", "ISO 2022 IR 87"], "Phantomata^Tarou=幻影田^太郎虚=まぼろし^たろうか"),
    "Korean": (["", "ISO 2022 IR 149"], "Hwanyeong^Gasang=환영사^가상인"),
    "Chinese, GB18030": ("GB18030", "Huanyingzi^Xuxiang=幻影子^虚像人"),
    "Chinese, UTF-8": ("ISO_IR 192", "Huanyingzi^Xuxiang=幻影子^虚像人"),
}


@dataclass(frozen=True)
class Planted:
    """One file with values at one place.

    Args:
        place: a key of `PLACES`.
        path: the file.
        values: what must be in no byte of the output.
    """

    place: str
    path: Path
    values: tuple[str, ...]


def holds(data: bytes, value: str) -> bool:
    """Return whether bytes hold a value, or a part of a name, in any of the usual encodings and either case."""
    parts = [part for group in value.split("=") for part in group.split("^")] if {"^", "="} & set(value) else [value]
    lower = data.lower()
    for part, encoding in itertools.product(parts, _ENCODINGS):
        try:
            raw = part.encode(encoding)
        except UnicodeEncodeError:
            continue
        # three bytes turn up in pixels by chance
        if len(raw) >= 4 and (raw.lower() in lower or part.upper().encode(encoding, "ignore") in data):
            return True
    return False


def _name(number: int) -> str:
    letters = "".join("bcdfghjklmnprstvwz"[(number // 18**i) % 18] + "aeiou"[(number // 5**i) % 5] for i in range(4))
    return f"Phantom{letters}"


def _number(number: int) -> str:
    return f"7{number * 7919 % 10**8:08d}3"


def _date(number: int) -> str:
    return f"{1920 + number % 70:04d}{1 + number % 12:02d}{1 + number * 7 % 28:02d}"


def _item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _nested(dataset: Dataset, value: str, depth: int) -> None:
    item = _item(ReferringPhysicianName=value, SeriesDescription=f"seen by {value}", InstitutionName=value)
    for _ in range(depth - 1):
        item = _item(AnatomicRegionModifierSequence=Sequence([item]))
    dataset.AnatomicRegionSequence = Sequence([item])


def _private(dataset: Dataset, value: str) -> None:
    block = dataset.private_block(0x0011, "PHANTOM VENDOR", create=True)
    block.add_new(0x01, "LO", value)
    block.add_new(0x02, "PN", value)
    block.add_new(0x03, "UN", value.encode())
    block.add_new(0x04, "SQ", Sequence([_item(PatientComments=value)]))


def _overlay(dataset: Dataset, value: str) -> None:
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000022, "LO", f"marks of {value}")
    dataset.add_new(0x60003000, "OW", value.encode().ljust(64, b"\0"))
    dataset.add_new(0x60004000, "LT", value)


def _unused_bits(dataset: Dataset, value: str) -> None:
    pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
    # 12 bits of 16 are stored: four bits of the text ride above each pixel
    nibbles = [half for byte in value.encode() for half in (byte >> 4, byte & 15)]
    pixels[: len(nibbles)] |= np.array(nibbles, "<u2") << 12
    dataset.PixelData = pixels.tobytes()


def _codec_comment(dataset: Dataset, value: str) -> None:
    buffer = io.BytesIO()
    grey = (np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns) >> 4).astype(np.uint8)
    Image.fromarray(grey).save(buffer, "JPEG", comment=value.encode(), quality=90)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.WindowCenter, dataset.WindowWidth = "128", "256"
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.Modality = "CR"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([buffer.getvalue()])
    dataset["PixelData"].VR = "OB"


def burn_in(dataset: Dataset, text: str, *, size: int, bottom: bool, value: int = 4095) -> None:
    """Write a text into the pixels of an uncompressed 16-bit image, at the left of its upper or lower border."""
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns).copy()
    mask = Image.new("L", (dataset.Columns, dataset.Rows))
    top = dataset.Rows - size - 6 if bottom else 3
    ImageDraw.Draw(mask).text((4, top), text, fill=255, font=ImageFont.load_default(size=size))
    pixels[np.asarray(mask) > 127] = value
    dataset.PixelData = pixels.tobytes()


def _top_level(dataset: Dataset, value: str) -> None:
    dataset.PatientName = dataset.ReferringPhysicianName = dataset.OperatorsName = value
    dataset.PatientBirthName = dataset.PatientMotherBirthName = value
    dataset.InstitutionName = dataset.InstitutionAddress = dataset.PatientAddress = f"{value} Street 1"


def _numbers(dataset: Dataset, value: str) -> None:
    dataset.PatientID = dataset.AccessionNumber = dataset.StudyID = dataset.DeviceSerialNumber = value
    dataset.OtherPatientIDsSequence = Sequence([_item(PatientID=value)])
    dataset.PatientTelephoneNumbers = value


def _dates(dataset: Dataset, value: str) -> None:
    dataset.PatientBirthDate = dataset.StudyDate = dataset.ContentDate = value
    dataset.AcquisitionDateTime = f"{value}101112.123"
    dataset.add_new(0x00189074, "DT", f"{value}1011")


def _free_text(dataset: Dataset, value: str) -> None:
    text = f"Chest PA of {value}, born in March"
    dataset.PatientComments = dataset.ImageComments = dataset.AdditionalPatientHistory = text
    dataset.StudyDescription = dataset.SeriesDescription = dataset.ProtocolName = dataset.DerivationDescription = text
    dataset.RequestedProcedureDescription = dataset.AcquisitionDeviceProcessingDescription = text
    dataset.ExposureControlModeDescription = text  # not in the table of the standard


def _known_text(dataset: Dataset, value: str) -> None:
    dataset.PatientName = value
    dataset.Manufacturer = f"Made for {value}"
    dataset.ManufacturerModelName = dataset.SoftwareVersions = dataset.RescaleType = value
    dataset.WindowCenterWidthExplanation = value


def _other_vr(dataset: Dataset, value: str) -> None:
    dataset.PatientName = value
    for tag in (0x00080008, 0x00180015, 0x00200062):
        dataset.add(DataElement(tag, "CS", value.upper()[:16]))
    dataset.add(DataElement(0x00280A02, "CS", value))


def _decimal(dataset: Dataset, value: str) -> None:
    dataset.PatientID = value
    dataset.ImagerPixelSpacing = [value, value]


def _codes(dataset: Dataset, value: str) -> None:
    private = _item(CodeValue=value[:16], CodingSchemeDesignator="99PHANTOM", CodeMeaning=value)
    public = _item(CodeValue="399348003", CodingSchemeDesignator="SCT", CodeMeaning=f"AP of {value}")
    dataset.ViewCodeSequence = Sequence([private, public])


def _unknown(dataset: Dataset, value: str) -> None:
    dataset.add(DataElement(0x00081357, "LO", value))  # even group, in no dictionary
    dataset.add(DataElement(0x00081030, "UN", value.encode()))
    dataset.add(DataElement(0x00281101, "OW", value.encode().ljust(32, b"\0")))


def _curve(dataset: Dataset, value: str) -> None:
    dataset.add_new(0x50000022, "LO", value)
    dataset.add_new(0x50003000, "OW", value.encode().ljust(32, b"\0"))


def _uids(dataset: Dataset, value: str) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.{value}.1")
    dataset.StudyInstanceUID = f"1.2.826.0.1.{value}.2"
    dataset.SeriesInstanceUID = f"1.2.840.10008.{value}"  # claims to be the standard's
    dataset.ReferencedImageSequence = Sequence([_item(ReferencedSOPInstanceUID=f"1.2.826.0.1.{value}.3")])


def _meta(dataset: Dataset, value: str) -> None:
    dataset.file_meta.SourceApplicationEntityTitle = value[:16]
    dataset.file_meta.SendingApplicationEntityTitle = value[:16]
    dataset.file_meta.ImplementationVersionName = value[:16]
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2.826.0.1.999")
    dataset.file_meta.PrivateInformation = value.encode()


def _trailing(dataset: Dataset, value: str) -> None:
    dataset.PixelData = dataset.PixelData + value.encode().ljust(40, b"\0")
    dataset.add(DataElement(0xFFFCFFFC, "OB", value.encode().ljust(40, b"\0")))


def _preamble(dataset: Dataset, value: str) -> None:
    dataset.preamble = value.encode().ljust(128, b"\0")


def _nothing(dataset: Dataset, value: str) -> None:
    pass


PLACES: dict[str, tuple[Callable[[int], str], Callable[[Dataset, str], None]]] = {
    "names and addresses, top level": (_name, _top_level),
    "numbers, top level": (_number, _numbers),
    "dates, top level": (_date, _dates),
    "free text and comments": (_name, _free_text),
    "short texts of the equipment": (_name, _known_text),
    "in a value representation that is not for text": (_name, _other_vr),
    "patient number in a decimal string": (_number, _decimal),
    "coded entries": (_name, _codes),
    "sequence, 1 deep": (_name, lambda dataset, value: _nested(dataset, value, 1)),
    "sequence, 3 deep": (_name, lambda dataset, value: _nested(dataset, value, 3)),
    "private elements": (_name, _private),
    "unknown and UN elements, bulk data": (_name, _unknown),
    "curves": (_name, _curve),
    "overlays": (_name, _overlay),
    "UIDs": (_number, _uids),
    "file meta information": (_name, _meta),
    "preamble": (_name, _preamble),
    "after the last pixel": (_name, _trailing),
    "unused bits of the pixels": (_name, _unused_bits),
    "comment of the JPEG stream": (_name, _codec_comment),
    "file and folder names": (_name, _nothing),
}


def _charset_name(dataset: Dataset, charset: str | list[str], value: str) -> None:
    dataset.SpecificCharacterSet = charset
    dataset.PatientName = dataset.ReferringPhysicianName = value
    dataset.PatientComments = dataset.SeriesDescription = dataset.Manufacturer = value.replace("^", " ")
    dataset.AnatomicRegionSequence = Sequence([_item(PatientName=value)])


def plant(dataset: Dataset, place: str, number: int, folder: Path) -> Planted:
    """Write a copy of a phantom with values planted at one place, and return what must not come out.

    Args:
        dataset: a phantom, changed in place.
        place: a key of `PLACES`, or ``PN, `` and a key of `CHARSETS`.
        number: makes the values and the UIDs those of this file alone.
        folder: where to write it.
    """
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.5.{number}.77")
    if place.startswith("PN, "):
        charset, value = CHARSETS[place.removeprefix("PN, ")]
        _charset_name(dataset, charset, value)
    else:
        make, put = PLACES[place]
        value = make(number)
        put(dataset, value)
    path = folder / f"image-{number:04d}"
    if place == "file and folder names":
        path = folder / f"{value} ward" / f"{value}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return Planted(place, path, (value,))
