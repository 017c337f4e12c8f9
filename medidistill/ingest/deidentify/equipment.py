"""Names of manufacturers and models, and the form of a version: the values that equipment texts may have.

Service staff write wards, rooms and names into these elements. What is written is the list's own spelling of a name
that the value holds; the rest of the value goes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from pydicom.datadict import tag_for_keyword

from medidistill.ingest.deidentify.spelling import words

__all__ = ["EQUIPMENT", "equipment_that_stays"]

_MANUFACTURERS = """
    Acteon; Agfa; Agfa HealthCare; Agfa-Gevaert; Angell Technology; Apelem; Arcoma; Canon Inc.; Canon Medical
    Systems; Carestream Health; Carestream; Cuattro; Del Medical; DK Medical Systems; DRGEM; DRTECH; Eastman Kodak;
    EcoRay; EOS imaging; Examion; FUJI PHOTO FILM; FUJIFILM; FUJIFILM Corporation; GE Healthcare; GE MEDICAL
    SYSTEMS; General Electric; General Medical Merate; Hitachi Medical Corporation; Hologic; iCRco; Imaging Dynamics
    Company; Imaging Dynamics; iRay Technology; Italray; JPI Healthcare; Kodak; Konica Minolta; Konica; Landwind;
    Listem; Lodox; Lumisys; medidistill; Mindray; MinXray; Neusoft Medical Systems; Oehm und Rehbein; Orex Computed
    Radiography; PerkinElmer; Perlove Medical; Philips; Philips Healthcare; Philips Medical Systems; Planmeca;
    Planmed; Primax; Quantum Medical Imaging; Rayence; Samsung Electronics; Sedecal; Shimadzu; SHIMADZU CORPORATION;
    Siemens; Siemens Healthcare; Siemens Healthineers; SIEMENS Medical Solutions; Sirona; Source-Ray; Stephanix;
    Swissray; Toshiba; TOSHIBA_MEC; TOSHIBA Medical Systems; Trixell; United Imaging Healthcare; Varian Medical
    Systems; Vieworks; Villa Sistemi Medicali; Viztek; Wandong; Ziehm Imaging
"""
_MODELS = """
    AccE; ADC Compact; ADC Solo; ADC_5146; ADC_51xx; AeroDR; AeroDR X30; AXIOM Aristos; AXIOM Iconos; AXIOM Luminos;
    AXIOM Multix; AXIOM Vertix; Brivo XR285; Brivo XR385; Brivo XR575; BuckyDiagnost; CALNEO; Capsula X; Capsula XL;
    CombiDiagnost; Compano; CR 10-X; CR 12-X; CR 15-X; CR 25.0; CR 30-X; CR 35-X; CR 75.0; CR 85-X; CR 500; CR 825;
    CR 850; CR 900; CR 950; CR 975; CXDI; CXDI-50G; CXDI-55C; CXDI-55G; CXDI-70C; CXDI-401C; CXDI-701C; CXDI-702C;
    CXDI-710C; CXDI-810C; Definium 5000; Definium 6000; Definium 8000; Definium AMX; Definium Tempo; Definium;
    DigitalDiagnost; DigitalDiagnost C90; Digital Diagnost; DirectView CR 975; DirectView DR 7500; Discovery XR650;
    Discovery XR656; DR 100e; DR 100s; DR 400; DR 600; DR 7500; DR 9500; DRX-1; DRX-Ascend; DRX-Compass;
    DRX-Evolution; DRX-Evolution Plus; DRX-Mobile; DRX-Revolution; DRX-Rise; DRX-Transportable; DuraDiagnost; DX-D
    100; DX-D 300; DX-D 400; DX-D 500; DX-D 600; DX-G; DX-M; DX-S; EasyDiagnost; Eleva Workspot; ELITE CR; Essenta
    DR; Essenta RC; FCR 5000; FCR 9000; FCR Capsula; FCR Profect; FCR Prima; FCR XG-1; FDR AcSelerate; FDR AQRO; FDR
    Cross; FDR D-EVO; FDR D-EVO II; FDR Go; FDR Go PLUS; FDR nano; FDR Smart X; FDX Visionary; Flashpad; Fluorospot
    Compact; Fluorospot Compact FD; GC70; GC80; GC85A; GF50; GM60A; GM85; GU60A; IDC 1600; iDR; KDR; Luminos;
    Luminos dRF Max; MobileDaRt; MobileDaRt Evolution; MobileDaRt Evolution MX8; MobileDiagnost wDR; Mobilett;
    Mobilett Elara Max; Mobilett Mira; Mobilett XP; Multix; Multix Fusion; Multix Impact; Multix Select DR; MUX-200;
    NX; Opera; Optima XR200amx; Optima XR220amx; Optima XR240amx; Optima XR640; Optima XR646; phantom generator; POC
    140; POC 360; Precision 500D; ProGrade; Pronto; RadPRO; RADREX; RADspeed; RADspeed Pro; REGIUS 110; REGIUS 150;
    REGIUS 170; REGIUS 190; REGIUS 210; REGIUS 370; Revolution XQ/i; Revolution XR/d; SONIALVISION; SONIALVISION G4;
    Thorax FD; ThoraVision; Thunder Platform; Ultimax; uDR 266i; uDR 370i; uDR 596i; uDR 770i; uDR 780i; Vertix;
    Vita CR; Wireless DR; XGEO GC80; XGEO GM60A; XGEO GU60; XR-200; XR 220; Ysio; Ysio Max; Ysio X.pree
"""
# V2, VE10, VB22H, 3.1, V5.10.004: one to three numbers. Four may be an address, longer ones a serial number or a date
_VERSION = re.compile(r"(V[A-Z]\d{2}[A-Z]?|[Vv]\d{1,3}(\.\d{1,3}){0,2}|\d{1,2}\.\d{1,3}(\.\d{1,3})?)")


def _listed(text: str) -> dict[tuple[str, ...], str]:
    return {tuple(words(name)): name.strip() for name in text.split(";")}


_NAMES = {
    tag_for_keyword("Manufacturer"): _listed(_MANUFACTURERS),
    tag_for_keyword("ManufacturerModelName"): _listed(_MODELS),
}
_SOFTWARE = tag_for_keyword("SoftwareVersions")
EQUIPMENT = frozenset({*_NAMES, _SOFTWARE})


@functools.cache
def _longest(tag: int) -> int:
    return max(map(len, _NAMES[tag]))


def equipment_that_stays(tag: int, text: str, identifying: Iterable[str] = ()) -> str:
    """Return what stays of a manufacturer, a model name or a software version, or an empty text.

    Args:
        tag: one of `EQUIPMENT`.
        text: the value.
        identifying: folded words of the file that may identify a person: a name of the list that holds one goes too.
    """
    avoid = set(identifying)
    if tag == _SOFTWARE:
        kept = [one for one in text.split() if _VERSION.fullmatch(one) and not avoid.intersection(words(one))]
        return kept[0] if kept else ""
    parts = words(text)
    for length in range(min(_longest(tag), len(parts)), 0, -1):
        for start in range(len(parts) - length + 1):
            found = tuple(parts[start : start + length])
            if (name := _NAMES[tag].get(found)) and not avoid.intersection(found):
                return name
    return ""
