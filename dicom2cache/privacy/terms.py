"""The words that a de-identified cache may keep of a header: those that a standard lists.

A coded element may hold anything in practice: a name under Body Part Examined is a name. So what a
list does not have is null (of `unit`: US, unspecified).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from dicom2cache.syntaxes import SYNTAXES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODALITY = _words(  # PS3.3 C.7.3.1.1.1, retired ones too
    "ANN AR ASMT AU BDUS BI BMD CD CF CFM CP CR CS CT CTPROTOCOL DD DF DG DM DMS DOC DS DX EC ECG "
    "EEG EMG EOG EPS ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM "
    "OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE "
    "RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF ST STAIN TEXT "
    "TG US VA VF VIDD XA XAPROTOCOL XC"
)
_BODY_PART = _words(  # PS3.16 Annex L
    "ABDOMEN ABDOMENPELVIS ACJOINT ADRENAL ANKLE ANTECUBITALV ANTERIORCOMMA ANTTIBIALA ANUS AORTA "
    "AORTICARCH APPENDIX ARM ARTERY ASCAORTA AXILLA AXILLARYA AXILLARYV BACK BASILARA BILEDUCT "
    "BILIARYTRACT BLADDER BRACHIALA BRACHIALV BRAIN BREAST BROADLIGAMENT BRONCHUS BUTTOCK "
    "CALCANEUS CALF CAROTID CCA CEPHALICV CEREBELLUM CEREBHEMISPHERE CEREBRALA CERVIX CHEEK CHEST "
    "CHESTABDOMEN CHESTABDPELVIS CHOROIDPLEXUS CIRCLEOFWILLIS CLAVICLE COCCYX COLON COMMILIACA "
    "COMMILIACV CORNEA CORONARYARTERY CORONARYSINUS CSPINE CTSPINE DESCAORTA DESCCOLON DUODENUM "
    "EAC EAR ECA ELBOW ENDOARTERIAL ENDOCARDIAC ENDOESOPHAGEAL ENDOMETRIUM ENDONASAL ENDORECTAL "
    "ENDORENAL ENDOURETERIC ENDOURINARY ENDOVAGINAL ENDOVASCULAR ENDOVENOUS EPIDIDYMIS EPIGASTRIC "
    "ESOPHAGUS EXTILIACA EXTILIACV EXTREMITY EYE EYELID FACE FEMORALA FEMORALV FEMUR FETALARM "
    "FIBULA FINGER FLANK FOOT FOREARM GALLBLADDER GENICULARA GLUTEAL GROIN HAND HEAD HEADNECK "
    "HEART HEPATICA HEPATICV HIP HUMERUS ICA IAC ILEUM ILIACA ILIUM INNOMINATEA INNOMINATEV "
    "INTILIACA INTJUGULARV INTMAMMARYA IVC JAW JEJUNUM KIDNEY KNEE LARYNX LATRIUM LEG LIVER "
    "LSPINE LSSPINE LUNG LVENTRICLE MANDIBLE MASTOID MAXILLA MEDIASTINUM MESENTRICA MESENTRICV "
    "MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE OPTICCANAL ORBIT OVARY PANCREAS "
    "PAROTID PATELLA PELVIS PENIS PERINEUM PERONEALA PHANTOM PHARYNX PLACENTA POPLITEALA "
    "POPLITEALV PORTALV POSTIBIALA PROSTATE PULMONARYA PULMONARYV RADIALA RADIUS RATRIUM RECTUM "
    "RENALA RENALV RIB RVENTRICLE SACRUM SAPHENOUSV SCALP SCAPULA SCLERA SCROTUM SELLA SFA "
    "SHOULDER SIJOINT SINUS SKULL SMALLINTESTINE SPINALCORD SPINE SPLEEN SPLENICA SPLENICV SSPINE "
    "STERNUM STOMACH SUBCLAVIANA SUBCLAVIANV SUBMANDIBULAR SVC TAIL TARSAL TESTIS THIGH THUMB "
    "THYMUS THYROID TIBIA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE ULNA ULNARA UMBILICAL UMBILICALA "
    "UMBILICALV UPRURINARYTRACT URETER URETHRA URINARYTRACT UTERUS VAGINA VEIN VERTEBRALA VULVA "
    "WHOLEBODY WRIST ZYGOMA"
)
_VIEW_POSITION = _words(  # PS3.3 C.8.7.5, C.8.11.5; PS3.16 CID 4014
    "AP PA LL RL RLD LLD RLO LLO LAT OBL AXIAL AX TAN TANGENTIAL CC MLO ML LM LMO SIO ISO XCC "
    "XCCL XCCM FB RL RM LMO AT CV NP"
)
_IMAGE_TYPE = _words(  # PS3.3 C.7.6.1.1.2, C.8: values of all modules that define some
    "ORIGINAL DERIVED PRIMARY SECONDARY MIXED AXIAL LOCALIZER VOLUME RESAMPLED MPR MIP MINIP "
    "PROJECTION REFORMATTED SCOUT AVERAGE FUSED CT_SOM5 SPI SPR M M_FFE M_IR M_SE R I P PHASE "
    "MAGNITUDE REAL IMAGINARY NORM ND DIS2D DIS3D FM FS MFSPLIT FFE SE IR MOSAIC ADC TRACE TRACEW "
    "FA DIFFUSION PERFUSION ASL DWI WATER FAT IN_PHASE OUT_PHASE OTHER SUB SUBTRACTION NONE "
    "QUANTITY MONOENERGETIC VMI STATIC DYNAMIC GATED WHOLE BODY EMISSION TRANSMISSION RECON TOMO "
    "TOMOSYNTHESIS GENERATED_2D SINGLE BIPLANE THUMBNAIL LABEL OVERVIEW PRESENTATION PROCESSING "
    "RECON_TOMO SINGLE_A SINGLE_B BIPLANE_A BIPLANE_B PORTAL SIMULATOR RADIOGRAPH DRR BLANK "
    "FLUENCE MAXIMUM MINIMUM MEAN MEDIAN STD_DEVIATION T1 T2 PROTON_DENSITY VELOCITY SEGMENTATION "
    "ANGIO CINE RADIAL ENERGY_PROP_WT MAT_SPECIFIC MAT_REMOVED MAT_FRACTIONAL EFF_ATOMIC_NUM "
    "ELECTRON_DENSITY MAT_MODIFIED MAT_VALUE_BASED"
)
_UNIT = _words(  # PS3.3 C.11.1.1.2, C.8.9.1.1.3; UCUM (PS3.16 CID 7181 and about it); the program's
    "HU HU_MOD US OD MGML Z_EFF ED EDW PCT Gy relative window stored binary fractional labelmap "
    "SUVbw CNTS NONE CM2 CM2ML PROPCNTS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCPS CPS "
    "MLMINML DIMLESS mm2/s um2/s s/mm2 s ms us 1 % 1/s /s /ms mm cm um m mm/s cm/s m/s g/ml g/cm3 "
    "mg/ml mg/cm3 Bq/ml kBq/ml MBq/ml [hnsf'U] g/ml{SUVbw} g/ml{SUVlbm} cm2/ml{SUVbsa} deg rad Hz "
    "ml/min ml/min/ml ml/min/100ml ml/ml ml/100ml 1/min /min eV keV 10*-6.mm2/s 10*-3.mm2/s "
    "umol/ml kPa Pa Pa.s T mT uT ppm {ratio} {Particles} {counts} no "
    "mixed nV uV mV V uA mA Ohm kOhm mm[Hg] cm[H2O] L L/s L/min mL ml mL/s dB Cel bpm {beats}/min "
    "mV/s mm[Hg]/s"
).union({"no units", "ml/100g/min"})
_SCHEMES = ("SCT", "SRT", "DCM", "FMA", "UCUM", "MDC")
_OF_LEADS = "SCPECG:5.6.3-9-"
"""what a lead's code begins with in older files; PS3.16 has the same number as MDC 2:number"""

LISTED: dict[str, frozenset[str]] = {
    "sex": _words("M F O"),
    "modality": _MODALITY,
    "body_part": _BODY_PART,
    "laterality": _words("L R U B"),
    "view_position": _VIEW_POSITION,
    "presentation_intent": frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    "dose_type": _words("PHYSICAL EFFECTIVE ERROR"),
    "photometric": _words(  # PS3.3 C.7.6.3.1.2, retired ones too
        "MONOCHROME1 MONOCHROME2 RGB HSV ARGB CMYK YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 "
        "YBR_PARTIAL_420 YBR_ICT YBR_RCT XYB"
    ).union({"PALETTE COLOR"}),
    "transfer_syntax": frozenset(SYNTAXES),
    "unit": _UNIT,
    "asl_label": _words("LABEL CONTROL M_ZERO_SCAN"),
    "originality": _words("ORIGINAL DERIVED"),
    "roi_type": _words(  # PS3.3 C.8.8.8.1
        "EXTERNAL PTV CTV GTV TREATED_VOLUME IRRAD_VOLUME OAR BOLUS AVOIDANCE ORGAN MARKER "
        "REGISTRATION ISOCENTER CONTRAST_AGENT CAVITY BRACHY_CHANNEL BRACHY_ACCESSORY "
        "BRACHY_SRC_APP BRACHY_CHNL_SHLD SUPPORT FIXATION DOSE_REGION CONTROL DOSE_MEASUREMENT "
        "DEVICE"
    ),
    "roi_algorithm": _words("AUTOMATIC SEMIAUTOMATIC MANUAL"),
}
"""by column, the whole values"""

FUNCTIONS = _words("LINEAR LINEAR_EXACT SIGMOID")
"""VOI LUT Function (0028,1056)"""


def image_type(said: str) -> str:
    """The values of Image Type that are listed, the others empty, each at its place."""
    return "\\".join(word if word in _IMAGE_TYPE else "" for word in said.split("\\"))


def is_sop_class(uid: str) -> bool:
    """True for what PS3.6 registers as a SOP class."""
    from pydicom.uid import UID_dictionary

    return uid in UID_dictionary and UID_dictionary[uid][1] == "SOP Class"


LEADS = _words(
    "I II III aVR aVL aVF -aVR V V1 V2 V3 V4 V5 V6 V7 V8 V9 V3R V4R V5R V6R V7R V8R V9R X Y Z"
)
"""labels of an electrocardiogram's channels"""


def codes(said: str) -> str | None:
    """Those of several codes with blanks between that PS3.16 names."""
    return " ".join(code for code in said.split(" ") if is_code(code)) or None


def is_code(said: str) -> bool:
    """True for SCHEME:CODE that PS3.16 names."""
    if said.startswith(_OF_LEADS):
        said = f"MDC:2:{said.removeprefix(_OF_LEADS)}"
    scheme, _, code = said.partition(":")
    return (scheme, code) in _codes()


@cache
def _codes() -> frozenset[tuple[str, str]]:
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr._snomed_dict import mapping

    found = {
        (scheme, code)
        for scheme in _SCHEMES
        for codes in concepts.get(scheme, {}).values()
        for code in codes
    }
    # The older form of a code of SNOMED stands in older files.
    return frozenset(found | {("SRT", code) for code in mapping.get("SRT", {})})


def keeper(column: str) -> Callable[[str], str | None]:
    """What of a text a de-identified cache keeps in a column whose class is `listed`."""
    if column == "image_type":
        return image_type
    if column == "sop_class_uid":
        return lambda uid: uid if is_sop_class(uid) else None
    other = "US" if column == "unit" else None
    return lambda said: said if said in LISTED[column] else other
