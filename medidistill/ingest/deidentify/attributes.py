"""Which values may stay: defined terms and plausible numbers of the attributes that a CR or DX image has.

An attribute that is not listed here, or a value that is none of its terms, holds nothing that a reader of a radiograph
needs, and may hold anything about a patient: an operator's name in a code string, a birth date in an integer string.

Source: PS3.3 2026c, the modules of the CR (A.2) and DX (A.26) IODs; PS3.16 annex L for body parts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword

__all__ = [
    *("DISPLAY", "NUMBERS", "RENDERING", "TERMS"),
    *("NumberRange", "is_defined_term", "number_that_stays", "term_that_stays"),
]


@dataclass(frozen=True)
class NumberRange:
    """What a numeric attribute may hold.

    Args:
        low: smallest value, in the unit of the attribute.
        high: largest value.
        most: how many values.
    """

    low: float
    high: float
    most: int = 1


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


_YES_NO = "YES NO"
_SHAPES = "RECTANGLE ROUND HEXAGONAL"
_EDGES = "RECTANGULAR CIRCULAR POLYGONAL"
_UNITS = "OD HU US MGML Z_EFF ED EDW HU_MOD PCT"
_BODY_PARTS = """
    ABDOMEN ABDOMENPELVIS ANKLE ARM BREAST CALCANEUS CHABD CHEST CHESTABD CHESTABDOMEN CHESTABDPELVIS CLAVICLE
    COCCYX CSPINE CTSPINE ELBOW EXTREMITY FEMUR FIBULA FINGER FOOT FOREARM HAND HEAD HEADNECK HEART HIP HUMERUS IAC
    JAW KNEE LEG LSPINE LSSPINE LUNG LUNGS MANDIBLE MAXILLA MEDIASTINUM NECK NECKCHEST NOSE ORBIT PATELLA PELVIS
    RADIUS RIB RIBS SACRUM SCAPULA SHOULDER SINUS SKULL SPINE SSPINE STERNUM THIGH THORAX TIBFIB TIBIA TLSPINE TMJ
    TOE TORAX TSPINE ULNA WHOLEBODY WRIST ZYGOMA
"""
_VIEWS = """
    AP PA LL RL RLD LLD RLO LLO LAO RAO LPO RPO LAT LATERAL LLAT RLAT OBLIQUE FRONTAL AXIAL
    LEFT_LATERAL RIGHT_LATERAL L_LAT R_LAT
"""
_MODALITIES = """
    CR DX RG CT MR US PT NM MG XA RF OT SC SR SEG IO PX ES ECG PR KO DOC BMD SM XC OP DR RTDOSE RTPLAN RTSTRUCT RTIMAGE
"""
_CASSETTES = """
    18CMX24CM 8INX10IN 24CMX30CM 10INX12IN 30CMX35CM 30CMX40CM 11INX14IN 35CMX35CM 14INX14IN 35CMX43CM 14INX17IN
"""
_POSITIONS = "HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS AFDR AFDL PFDR PFDL SITTING"

# One attribute a row; a blank parts terms, and an underscore stands for a blank in a term of several words
_TERM_TABLE = f"""
    AnatomicalOrientationType: BIPED QUADRUPED
    AnodeTargetMaterial: TUNGSTEN MOLYBDENUM RHODIUM
    BodyPartExamined: {_BODY_PARTS}
    BurnedInAnnotation: {_YES_NO}
    CassetteOrientation: LANDSCAPE PORTRAIT
    CassetteSize: {_CASSETTES}
    CollimatorShape: {_EDGES}
    ContentQualification: PRODUCT RESEARCH SERVICE
    DetectorActiveShape: {_SHAPES}
    DetectorConditionsNominalFlag: {_YES_NO}
    DetectorConfiguration: AREA SLOT
    DetectorType: DIRECT SCINTILLATOR STORAGE FILM
    ExposureControlMode: MANUAL AUTOMATIC
    ExposureStatus: NORMAL ABORTED
    FieldOfViewHorizontalFlip: {_YES_NO}
    FieldOfViewShape: {_SHAPES}
    FilterMaterial: MOLYBDENUM ALUMINUM COPPER RHODIUM NIOBIUM EUROPIUM LEAD TIN SILVER TANTALUM NONE
    Grid: FIXED FOCUSED RECIPROCATING PARALLEL CROSSED NONE
    ImageLaterality: R L U B
    ImageType: ORIGINAL DERIVED PRIMARY SECONDARY OTHER
    Laterality: R L
    LongitudinalTemporalInformationModified: UNMODIFIED MODIFIED REMOVED
    LossyImageCompression: 00 01
    LossyImageCompressionMethod: ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_15444_15
    Modality: {_MODALITIES}
    ModalityLUTType: {_UNITS}
    PatientIdentityRemoved: {_YES_NO}
    PatientPosition: {_POSITIONS}
    PatientSex: M F O
    PhotometricInterpretation: MONOCHROME1 MONOCHROME2
    PixelIntensityRelationship: LIN LOG OTHER
    PixelSpacingCalibrationType: GEOMETRY FIDUCIAL
    PositionerType: CARM COLUMN MAMMOGRAPHIC PANORAMIC CEPHALOSTAT RIGID NONE
    PresentationIntentType: FOR_PRESENTATION FOR_PROCESSING
    PresentationLUTShape: IDENTITY INVERSE
    QualityControlImage: YES NO BOTH
    QualityControlSubject: {_YES_NO}
    RecognizableVisualFeatures: {_YES_NO}
    RectificationType: SINGLE_PHASE THREE_PHASE CONST_POTENTIAL
    RescaleType: {_UNITS}
    ShutterShape: {_EDGES}
    SmokingStatus: YES NO UNKNOWN
    SpatialLocationsPreserved: YES NO REORIENTED_ONLY
    SyntheticData: {_YES_NO}
    TableType: FIXED TILTING NONE
    TomoClass: MOTION TOMOSYNTHESIS
    TomoType: LINEAR SPIRAL POLYCYCLOIDAL CIRCULAR
    VOILUTFunction: LINEAR LINEAR_EXACT SIGMOID
    ViewPosition: {_VIEWS}
"""
_UNDERSCORED = "LINEAR_EXACT REORIENTED_ONLY HU_MOD Z_EFF ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_15444_15"


def _terms() -> dict[int, frozenset[str]]:
    found: dict[int, frozenset[str]] = {}
    keyword = ""
    rows: dict[str, list[str]] = {}
    underscored = set(_UNDERSCORED.split())
    for word in _TERM_TABLE.split():
        if word.endswith(":"):
            keyword = word[:-1]
            rows[keyword] = []
        else:
            rows[keyword].append(word if word in underscored else word.replace("_", " "))
    for keyword, words in rows.items():
        found[_tag(keyword)] = frozenset(words)
    return found


TERMS: dict[int, frozenset[str]] = _terms()
_ORIENTATION = _tag("PatientOrientation")
_BODY_PART = _tag("BodyPartExamined")
# rows and columns run along at most one direction of each axis (PS3.3 C.7.6.1.1.1)
_DIRECTIONS = re.compile(r"(?=[APRLHF]{1,3}$)(?!.*A.*P|.*P.*A|.*R.*L|.*L.*R|.*H.*F|.*F.*H|.*(.).*\1)")

_NUMBER_TABLE: dict[str, NumberRange] = {
    # the image itself
    **dict.fromkeys(("Rows", "Columns"), NumberRange(1, 65535)),
    "SamplesPerPixel": NumberRange(1, 4),
    "NumberOfFrames": NumberRange(0, 9999),  # 0 is written as 1: there is a frame
    **dict.fromkeys(("BitsAllocated", "BitsStored"), NumberRange(1, 64)),
    "HighBit": NumberRange(0, 63),
    **dict.fromkeys(("PixelRepresentation", "PlanarConfiguration"), NumberRange(0, 1)),
    "PixelIntensityRelationshipSign": NumberRange(-1, 1),
    **dict.fromkeys(
        (
            *("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries"),
            *("LargestPixelValueInSeries", "PixelPaddingValue", "PixelPaddingRangeLimit", "ShutterPresentationValue"),
        ),
        NumberRange(-32768, 65535),
    ),
    "LUTDescriptor": NumberRange(-32768, 65535, 3),
    "PixelAspectRatio": NumberRange(1, 99999, 2),
    **dict.fromkeys(("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"), NumberRange(0, 100, 2)),
    # display
    **dict.fromkeys(("WindowCenter", "WindowWidth"), NumberRange(-9_999_999, 9_999_999, 32)),
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept"), NumberRange(-9_999_999, 9_999_999)),
    "LossyImageCompressionRatio": NumberRange(0, 9999, 8),
    # order
    **dict.fromkeys(
        ("InstanceNumber", "SeriesNumber", "AcquisitionNumber", "ImagesInAcquisition"), NumberRange(0, 99999)
    ),
    # exposure
    "KVP": NumberRange(0, 999),
    **dict.fromkeys(("ExposureTime", "Exposure", "XRayTubeCurrent"), NumberRange(0, 99999)),
    **dict.fromkeys(("ExposureTimeInuS", "ExposureInuAs", "XRayTubeCurrentInuA"), NumberRange(0, 9_999_999)),
    "ExposureInmAs": NumberRange(0, 99999),
    **dict.fromkeys(
        ("ExposureIndex", "TargetExposureIndex", "Sensitivity", "RelativeXRayExposure"), NumberRange(0, 99999)
    ),
    "DeviationIndex": NumberRange(-999, 999),
    # no two letters fit into a US of less than 16,705
    **dict.fromkeys(("EntranceDose", "ExposuresOnPlate"), NumberRange(0, 9999)),
    "ExposedArea": NumberRange(0, 999, 2),
    "EntranceDoseInmGy": NumberRange(0, 9999),
    "ImageAndFluoroscopyAreaDoseProduct": NumberRange(0, 9_999_999),
    **dict.fromkeys(("HalfValueLayer", "XRayOutput"), NumberRange(0, 9999)),
    "FocalSpots": NumberRange(0, 99, 4),
    "GeneratorPower": NumberRange(0, 9999),
    "PhototimerSetting": NumberRange(-99, 999),
    # geometry
    **dict.fromkeys(("DistanceSourceToDetector", "DistanceSourceToPatient"), NumberRange(0, 99999)),
    "DistanceSourceToEntrance": NumberRange(0, 99999),
    "EstimatedRadiographicMagnificationFactor": NumberRange(0, 99),
    **dict.fromkeys(
        (
            *("PositionerPrimaryAngle", "PositionerSecondaryAngle", "ColumnAngulation", "DetectorPrimaryAngle"),
            *("DetectorSecondaryAngle", "TableAngle", "TomoAngle", "FieldOfViewRotation"),
        ),
        NumberRange(-360, 360),
    ),
    **dict.fromkeys(("TomoLayerHeight", "TomoTime", "BodyPartThickness", "CompressionForce"), NumberRange(0, 99999)),
    "NumberOfTomosynthesisSourceImages": NumberRange(0, 999),
    # detector, grid, filter
    **dict.fromkeys(
        ("DetectorElementPhysicalSize", "DetectorElementSpacing", "DetectorBinning"), NumberRange(0, 100, 2)
    ),
    **dict.fromkeys(("DetectorActiveDimensions", "FieldOfViewDimensions"), NumberRange(0, 99999, 2)),
    **dict.fromkeys(("DetectorActiveOrigin", "FieldOfViewOrigin"), NumberRange(-99999, 99999, 2)),
    "DetectorTemperature": NumberRange(-99, 199),
    "SpatialResolution": NumberRange(0, 9999),
    "GridAspectRatio": NumberRange(0, 9999, 2),
    **dict.fromkeys(("GridPitch", "GridPeriod", "GridThickness"), NumberRange(0, 99999)),
    "GridFocalDistance": NumberRange(0, 99999),
    **dict.fromkeys(("FilterThicknessMinimum", "FilterThicknessMaximum"), NumberRange(0, 999, 4)),
    **dict.fromkeys(("FilterBeamPathLengthMinimum", "FilterBeamPathLengthMaximum"), NumberRange(0, 999, 4)),
    # shutter and collimator
    **{
        f"{device}{edge}": NumberRange(-99999, 99999)
        for device in ("Shutter", "Collimator")
        for edge in ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")
    },
    **dict.fromkeys(("CenterOfCircularShutter", "CenterOfCircularCollimator"), NumberRange(-99999, 99999, 2)),
    **dict.fromkeys(("RadiusOfCircularShutter", "RadiusOfCircularCollimator"), NumberRange(0, 99999)),
    **dict.fromkeys(
        ("VerticesOfThePolygonalShutter", "VerticesOfThePolygonalCollimator"), NumberRange(-99999, 99999, 64)
    ),
    # patient characteristics, where the site asks for them
    "PatientSize": NumberRange(0, 3),
    "PatientWeight": NumberRange(0, 500),
    "PregnancyStatus": NumberRange(1, 4),
}
NUMBERS: dict[int, NumberRange] = {_tag(keyword): one for keyword, one in _NUMBER_TABLE.items()}

# What decides how the pixels are seen or measured: a file in which such a value cannot stay is refused, not changed;
# a short number of the patient that happens to be the same is no reason
RENDERING: frozenset[int] = frozenset(
    _tag(name)
    for name in (
        *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit"),
        *("PixelRepresentation", "PlanarConfiguration", "SmallestImagePixelValue", "LargestImagePixelValue"),
        *("SmallestPixelValueInSeries", "LargestPixelValueInSeries", "PixelPaddingValue", "PixelPaddingRangeLimit"),
        *("LUTDescriptor", "PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "WindowCenter", "WindowWidth"),
        *("RescaleSlope", "RescaleIntercept", "PixelIntensityRelationshipSign"),
        *("PhotometricInterpretation", "PresentationLUTShape", "VOILUTFunction", "ModalityLUTType"),
    )
)
# The same with what holds such values, and the direction of the rows: none is left out for its value representation
DISPLAY: frozenset[int] = RENDERING | frozenset(
    map(_tag, ("ModalityLUTSequence", "VOILUTSequence", "LUTData", "PresentationLUTSequence", "PatientOrientation"))
)
_LONGEST = 24  # a DS has 16 at most; programs that print every digit of a double write more
_INTEGER = re.compile(r"[+-]?\d{1,10}")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


def is_defined_term(tag: int, text: str) -> bool:
    """Return whether a text is one of the defined terms of an attribute."""
    if tag == _ORIENTATION:
        return _DIRECTIONS.match(text) is not None
    return text in TERMS.get(tag, frozenset())


def term_that_stays(tag: int, text: str) -> str:
    """Return what stays of a value with defined terms: the term, or an empty text.

    Of a body part given in several words, the word that is a defined term stays.
    """
    text = text.strip().upper()
    if is_defined_term(tag, text):
        return text
    if tag == _BODY_PART:
        return next((word for word in re.split(r"[\W_]+", text) if word in TERMS[tag]), "")
    return ""


def number_that_stays(tag: int, vr: str, text: str) -> str:
    """Return a number as it stays, or an empty text: none of the VR's form, out of range, or not of a listed attribute.

    A sign or zeros in front, which carry no value but may be part of a telephone number, go.
    """
    allowed, text = NUMBERS.get(tag), text.strip(" \0")
    form = _INTEGER if vr == "IS" else _DECIMAL
    if allowed is None or len(text) > _LONGEST or form.fullmatch(text) is None:
        return ""
    value = float(text)
    if not math.isfinite(value) or not allowed.low <= value <= allowed.high:
        return ""
    bare = text.removeprefix("+")
    sign = "-" if bare.startswith("-") else ""
    bare = bare.removeprefix("-").lstrip("0")
    return sign + (bare if bare[:1].isdigit() else f"0{bare}")
