"""Assumptions made and attributes ignored when reading a file: listed with the image, so that nothing is silent.

The list is closed: a notice never holds a value of a header, which could be a patient's.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Notice"]


class Notice(StrEnum):
    """One assumption; the value is the sentence that the tables of an ingest show."""

    # the file
    NO_PREAMBLE = "no DICOM preamble: read as a data set by its first elements"
    NO_TRANSFER_SYNTAX = "(0002,0010) Transfer Syntax UID is missing: taken from the encoding of the data set"
    OTHER_VR_ENCODING = "explicit or implicit VR, contrary to (0002,0010) Transfer Syntax UID: read as encoded"
    # stored values
    HIGH_BIT_ASSUMED = "(0028,0102) High Bit is missing: Bits Stored - 1 is assumed"
    UNUSED_BITS = "bits outside (0028,0101) Bits Stored were set: cleared"
    LOSSY_OVERSHOOT = "lossy compression exceeded the range of (0028,0101) Bits Stored: clipped"
    UNSIGNED_CODESTREAM = "unsigned JPEG 2000 samples: read as signed, as (0028,0103) Pixel Representation requires"
    # modality transformation
    NO_INTERCEPT = "(0028,1053) Rescale Slope without (0028,1052) Rescale Intercept: intercept 0 is assumed"
    NO_SLOPE = "(0028,1052) Rescale Intercept without (0028,1053) Rescale Slope: slope 1 is assumed"
    MODALITY_LUT_FIRST = "(0028,3000) Modality LUT Sequence and rescale: the LUT is used"
    # look-up tables
    SEVERAL_VOI_LUTS = "several items in (0028,3010) VOI LUT Sequence: the first is used"
    LUT_FIRST_VALUE = (
        "first value mapped of (0028,3002) LUT Descriptor fits its input with the other sign only: so read"
    )
    LUT_NARROW = "(0028,3006) LUT Data use fewer bits than (0028,3002) LUT Descriptor states: scaled by the bits in use"
    LUT_WIDE = "(0028,3006) LUT Data use more bits than (0028,3002) LUT Descriptor states: scaled by the bits in use"
    LUT_PACKED = "(0028,3006) LUT Data hold one byte per entry, (0028,3002) LUT Descriptor states more: read as bytes"
    # window
    SEVERAL_WINDOWS = "several windows in (0028,1050), (0028,1051): the first is used"
    EMPTY_WINDOW = (
        "an empty value in (0028,1050) Window Center or (0028,1051) Window Width: the first whole pair is used"
    )
    HALF_WINDOW = "(0028,1050) Window Center without (0028,1051) Window Width, or the reverse: shown without a window"
    # presentation
    INVERSE_BUT_MONOCHROME2 = "(2050,0020) Presentation LUT Shape INVERSE contradicts MONOCHROME2: shown as MONOCHROME2"
    IDENTITY_BUT_MONOCHROME1 = (
        "(2050,0020) Presentation LUT Shape IDENTITY contradicts MONOCHROME1: shown as MONOCHROME1"
    )
    PRESENTATION_LUT = "a Presentation LUT other than IDENTITY or INVERSE is not applied"
    # orientation
    TURNED = "(0020,0020) Patient Orientation says that the picture lies turned or mirrored: turned upright"
    ORIENTATION_NOT_APPLIED = "(0020,0020) Patient Orientation is not that of an upright picture: not applied"
    # padding
    PADDING_OUT_OF_RANGE = "(0028,0120) Pixel Padding Value lies outside the range of the stored values: not applied"
    PADDING_LIMIT_OUT_OF_RANGE = (
        "(0028,0121) Pixel Padding Range Limit lies outside the range of the stored values: not applied"
    )
    PADDING_LIMIT_ALONE = "(0028,0121) Pixel Padding Range Limit without (0028,0120) Pixel Padding Value: not applied"
    # PNG and JPEG
    GAMMA = "PNG with a gamma (gAMA) other than that of sRGB: not applied"
    COLOUR_PROFILE = "picture with a colour profile (ICC): not applied"
    COLOUR = "picture in colour: luminance is used"
    CMYK = "picture in CMYK: converted without a colour profile"
    TRANSPARENT = "picture with transparent pixels: laid over black"
    NARROW_16_BITS = "16-bit picture whose values use 14 bits or fewer: not stretched"
