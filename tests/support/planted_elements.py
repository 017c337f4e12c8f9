"""The places of a DICOM file that values are planted in, one function each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from tests.support.planted_pixels import PIXEL_PLACES

__all__ = ["PLACES", "SHORT_NAME", "SHORT_NUMBER", "burn_in", "make_item", "put_raw"]

Put = Callable[[Dataset, str], None]

SHORT_NAME, SHORT_NUMBER = "Zyqx", "4713"


def _letters(number: int) -> str:
    return "".join("bcdfghjklmnprstvwz"[(number // 18**i) % 18] + "aeiou"[(number // 5**i) % 5] for i in range(4))


def _name(number: int) -> str:
    return f"Phantom{_letters(number)}"


def _stranger(number: int) -> str:
    """Return a name that shares no word with the header of a phantom, so that no search for those can find it."""
    return f"Umbra{_letters(number)}"


def _number(number: int) -> str:
    return f"7{number * 7919 % 10**8:08d}3"


def _phone(number: int) -> str:
    return f"0{795550000 + number * 37 % 10000}"


def _date(number: int) -> str:
    return f"{1920 + number % 70:04d}{1 + number % 12:02d}{1 + number * 7 % 28:02d}"


def make_item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _nested(dataset: Dataset, value: str, depth: int) -> None:
    item = make_item(ReferringPhysicianName=value, SeriesDescription=f"seen by {value}", InstitutionName=value)
    for _ in range(depth - 1):
        item = make_item(AnatomicRegionModifierSequence=Sequence([item]))
    dataset.AnatomicRegionSequence = Sequence([item])


def _private(dataset: Dataset, value: str) -> None:
    block = dataset.private_block(0x0011, "PHANTOM VENDOR", create=True)
    block.add_new(0x01, "LO", value)
    block.add_new(0x02, "PN", value)
    block.add_new(0x03, "UN", value.encode())
    block.add_new(0x04, "SQ", Sequence([make_item(PatientComments=value)]))


def _overlay(dataset: Dataset, value: str) -> None:
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000022, "LO", f"marks of {value}")
    dataset.add_new(0x60003000, "OW", value.encode().ljust(64, b"\0"))
    dataset.add_new(0x60004000, "LT", value)


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
    dataset.OtherPatientIDsSequence = Sequence([make_item(PatientID=value)])
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


def _unknown_text(dataset: Dataset, value: str) -> None:
    """Names that no element of persons holds: of whoever serviced the device."""
    dataset.Manufacturer = f"Siemens for Dr. {value}"
    dataset.ManufacturerModelName = f"DRX-1 room 7 {value}"
    dataset.SoftwareVersions = ["V2.1", f"user {value}"]


def _explanations(dataset: Dataset, value: str) -> None:
    dataset.WindowCenter, dataset.WindowWidth = [2048, 1800], [4096, 2500]
    dataset.WindowCenterWidthExplanation = [f"DR {value}", "BONE"]
    lut = make_item(LUTExplanation=f"PRESET {value} 2", ModalityLUTType="OD")
    lut.add_new(0x00283002, "US", [4096, 0, 12])
    lut.add_new(0x00283006, "OW", np.arange(4096).astype("<u2").tobytes())
    dataset.VOILUTSequence = Sequence([lut])


def _code_strings(dataset: Dataset, value: str) -> None:
    text = value.upper()[:16]
    for tag in (0x00189004, 0x00080008, 0x00185101, 0x00200060, 0x00181508, 0x00080068):
        dataset.add(DataElement(tag, "CS", text))
    dataset.add(DataElement(0x00180015, "CS", f"CHEST {text}"))
    dataset.PatientOrientation = ["L", text]


def _other_vr(dataset: Dataset, value: str) -> None:
    dataset.PatientName = value
    for tag in (0x00080008, 0x00180015, 0x00200062):
        dataset.add(DataElement(tag, "CS", value.upper()[:16]))
    dataset.add(DataElement(0x00280A02, "CS", value))


def put_raw(dataset: Dataset, tag: int, vr: str, raw: bytes) -> None:
    raw += b" " * (len(raw) % 2)
    dataset[Tag(tag)] = RawDataElement(Tag(tag), vr, len(raw), raw, 0, False, True)


def _wrong_vr(dataset: Dataset, value: str) -> None:
    for tag, vr in ((0x00180060, "DS"), (0x00181150, "IS"), (0x00080020, "DA"), (0x00080030, "TM"), (0x00101010, "AS")):
        put_raw(dataset, tag, vr, value.encode())
    put_raw(dataset, 0x00281080, "US", value.encode())  # retired, and no text
    put_raw(dataset, 0x00181405, "IS", b"12.5 " + value.encode())


def _dates_in_numbers(dataset: Dataset, value: str) -> None:
    dataset.PatientBirthDate = value
    for tag in (0x00183100, 0x00181405, 0x00200013, 0x00181152):
        dataset.add_new(tag, "IS", value)
    dataset.add_new(0x00181411, "DS", f"{value}.0")
    dataset.add_new(0x00189073, "FD", float(value))
    dataset.add_new(0x00186018, "UL", int(value))


def _phones_in_numbers(dataset: Dataset, value: str) -> None:
    dataset.PatientTelephoneNumbers = f"+41 {value[1:3]} {value[3:6]} {value[6:8]} {value[8:]}"
    dataset.add_new(0x00181411, "DS", value)
    dataset.add_new(0x00181152, "IS", value)
    dataset.SoftwareVersions = f"call {value[:3]}.{value[3:6]}.{value[6:]}"


def _short(dataset: Dataset, value: str) -> None:
    """A surname of four letters and a number of four digits, where longer ones would be found."""
    dataset.PatientName, dataset.PatientID = f"{value}^Eva", SHORT_NUMBER
    dataset.InstanceNumber = dataset.SeriesNumber = dataset.ExposureIndex = SHORT_NUMBER
    dataset.Manufacturer, dataset.SoftwareVersions = f"Siemens {value}", f"V2.1 {SHORT_NUMBER}"
    dataset.SeriesDescription = f"chest {value} {SHORT_NUMBER}"
    dataset.BodyPartExamined = f"CHEST {value.upper()}"


def _five_parts(dataset: Dataset, value: str) -> None:
    dataset.PatientName = f"{value}^Ada{value}^Eve{value}^Prof {value}^MdB"
    dataset.SeriesDescription = f"chest of Ada{value} Eve{value}"
    dataset.Manufacturer = f"Siemens Prof {value}"


def _decimal(dataset: Dataset, value: str) -> None:
    dataset.PatientID = value
    dataset.ImagerPixelSpacing = [value, value]


def _codes(dataset: Dataset, value: str) -> None:
    private = make_item(CodeValue=value[:16], CodingSchemeDesignator="99PHANTOM", CodeMeaning=value)
    public = make_item(CodeValue="399348003", CodingSchemeDesignator="SCT", CodeMeaning=f"AP of {value}")
    dataset.ViewCodeSequence = Sequence([private, public])


def _unknown(dataset: Dataset, value: str) -> None:
    dataset.add(DataElement(0x00081357, "LO", value))  # even group, in no dictionary
    dataset.add(DataElement(0x00081030, "UN", value.encode()))
    dataset.add(DataElement(0x00281101, "OW", value.encode().ljust(32, b"\0")))


def _curve(dataset: Dataset, value: str) -> None:
    dataset.add_new(0x50000022, "LO", value)
    dataset.add_new(0x50003000, "OW", value.encode().ljust(32, b"\0"))


def _structure(dataset: Dataset, value: str) -> None:
    """Elements that earlier editions had, private elements without a creator, and two of one."""
    dataset.add_new(0x00080010, "SH", value)  # Recognition Code, retired
    dataset.add_new(0x00184000, "LT", value)  # Acquisition Comments, retired
    dataset.add_new(0x00204000, "LT", value)
    dataset.add_new(0x00290010, "LO", "PHANTOM 1")
    dataset.add_new(0x00290011, "LO", "PHANTOM 1")
    dataset.add_new(0x00291001, "UN", value.encode())
    dataset.add_new(0x00291101, "LO", value)
    dataset.add_new(0x00311001, "LO", value)


def _uids(dataset: Dataset, value: str) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.{value}.1")
    dataset.StudyInstanceUID = f"1.2.826.0.1.{value}.2"
    dataset.SeriesInstanceUID = f"1.2.840.10008.{value}"  # claims to be the standard's
    dataset.ReferencedImageSequence = Sequence([make_item(ReferencedSOPInstanceUID=f"1.2.826.0.1.{value}.3")])


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


PLACES: dict[str, tuple[Callable[[int], str], Put]] = {
    "names and addresses, top level": (_name, _top_level),
    "names of five parts": (_name, _five_parts),
    "numbers, top level": (_number, _numbers),
    "dates, top level": (_date, _dates),
    "free text and comments": (_name, _free_text),
    "short texts of the equipment": (_name, _known_text),
    "short texts of the equipment, a name that stands nowhere else": (_stranger, _unknown_text),
    "explanations of windows and look-up tables, likewise": (_stranger, _explanations),
    "code strings, likewise": (_stranger, _code_strings),
    "surname of 4 letters, number of 4 digits": (lambda _: SHORT_NAME, _short),
    "in a value representation that is not for text": (_name, _other_vr),
    "text in numbers, dates and times": (_name, _wrong_vr),
    "patient number in a decimal string": (_number, _decimal),
    "birth date in numbers": (_date, _dates_in_numbers),
    "telephone number in numbers": (_phone, _phones_in_numbers),
    "coded entries": (_name, _codes),
    "sequence, 1 deep": (_name, lambda dataset, value: _nested(dataset, value, 1)),
    "sequence, 3 deep": (_name, lambda dataset, value: _nested(dataset, value, 3)),
    "private elements": (_name, _private),
    "retired elements, private ones without a creator": (_name, _structure),
    "unknown and UN elements, bulk data": (_name, _unknown),
    "curves": (_name, _curve),
    "overlays": (_name, _overlay),
    "UIDs": (_number, _uids),
    "file meta information": (_name, _meta),
    "preamble": (_name, _preamble),
    "after the last pixel": (_name, _trailing),
    **{place: (_stranger, put) for place, put in PIXEL_PLACES.items()},
    "file and folder names": (_name, _nothing),
}
