"""Facts about each task: labels, modality, source and licence of the data, augmentation.

Training copies them into the checkpoint, where the page and the model card find them.
"""

from dataclasses import dataclass

from medsegdiff.config import Domain
from medsegdiff.image_ref import FILE_WINDOW, Intensity

__all__ = ["TASKS", "Task", "axis_of", "cases_of", "intensity_of", "patients_of", "provenance_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A segmentation task on one kind of image."""

    modality: str
    labels: tuple[str, ...]  # classes 1..K
    image: str = "image"  # what one of its images is called
    codes: tuple[str, ...] = ()  # modalities of its images in DICOM headers (0008,0060)
    source: str
    licence: str
    other: str = ""  # source of the split `other`, which is only measured
    mirror: tuple[int, ...] = (0, 1)  # allowed flips: 0 vertical, 1 horizontal; with both, also any rotation
    tint: bool = True  # colour channels are augmented independently
    axis: int = 2  # across which volumes are sliced: 0 sagittal, 1 coronal, 2 axial
    intensity: Intensity = FILE_WINDOW  # how grey values of more than 8 bits are windowed
    channels: tuple[str, ...] = ()  # what red, green and blue are, if not colours
    case: str = ""  # pattern of the subject in the names of slices; Dice is then per subject
    patient: str = (
        ""  # pattern of the patient in the names of images; intervals are over patients, and splits by patient
    )
    may_be_absent: bool = False  # some readers mark nothing (`Domain.may_be_absent`)
    bend: float = 0.9  # share of training images that are rotated by any angle, scaled and sheared
    empty: float = 0.2  # volumes: share of slices without any label among the training slices


_CT = Intensity(window=(-125.0, 275.0))  # HU, as is common for BTCV
_BRAIN = ("T1", "FLAIR", "T1 post-contrast")

TASKS: dict[str, Task] = {
    "skin-lesion": Task(
        modality="dermoscopy, RGB",
        labels=("lesion",),
        image="dermoscopy image",
        codes=("XC", "DMS", "GM"),
        source="ISIC 2017 Part 1 training set (Codella et al., 2018, arXiv 1710.05006), squeezed to a square",
        licence="CC0; weights free",
        other="the test part of ISIC 2017, cropped to its centre",
    ),
    "optic-disc-cup": Task(
        modality="fundus crop around the disc, RGB",
        labels=("disc rim", "cup"),
        image="optic disc crop of a fundus photograph",
        codes=("OP",),
        source="Drishti-GS1 (Sivaswamy et al., 2014; IIIT Hyderabad and Aravind Eye Hospital)",
        licence="research use with citation; no formal licence",
    ),
    "optic-disc": Task(
        modality="fundus, RGB, padded to a square",
        labels=("disc",),
        image="fundus photograph",
        codes=("OP",),
        source="PALM / iChallenge-PM (Fu et al., 2019), pathological myopia",
        licence="CC BY 4.0 as believed: attribute",
    ),
    "brain-flair": Task(
        modality="brain MRI: R = T1, G = FLAIR, B = T1 post-contrast",
        labels=("FLAIR abnormality",),
        image="brain MRI slice with T1, FLAIR and contrast as colours",
        codes=("MR",),
        source="LGG segmentation data set (Buda et al., 2019) from TCGA-LGG",
        licence="CC BY-NC-SA 4.0: weights non-commercial, attribute, share alike",
        channels=_BRAIN,
        mirror=(1,),
        tint=False,
        patient=r"^(TCGA_[A-Z0-9]+_[A-Z0-9]+)",
    ),
    "breast-ultrasound": Task(
        modality="B-mode ultrasound, grey, padded to a square",
        labels=("lesion",),
        image="breast ultrasound image",
        codes=("US",),
        source="BUSI (Al-Dhabyani et al., 2020)",
        licence="mirrors say CC0 or CC BY 4.0: attribute",
        mirror=(1,),
        tint=False,
    ),
    "thyroid-nodule": Task(
        modality="B-mode ultrasound, grey, nodule-centred crop",
        labels=("nodule",),
        image="thyroid ultrasound image",
        codes=("US",),
        source="DDTI (Pedraza et al., 2015)",
        licence="open access, no formal licence: research use",
        mirror=(1,),
        tint=False,
        patient=r"^(case\d+)",
    ),
    "hippocampus": Task(
        modality="T1 MRI volume, about 1 mm, cropped around the hippocampus",
        labels=("anterior", "posterior"),
        image="T1 MRI crop around the hippocampus",
        codes=("MR",),
        source="Medical Segmentation Decathlon Task04 (Antonelli et al., 2022; Vanderbilt University Medical Center)",
        licence="CC BY-SA 4.0: attribute, share alike",
        mirror=(),
        tint=False,
        intensity=Intensity(percentiles=(0.5, 99.5)),
        axis=0,
    ),
    "abdomen-ct": Task(
        modality="abdominal CT slice, about -125..275 HU, radiological view",
        labels=(
            "spleen",
            "right kidney",
            "left kidney",
            "gallbladder",
            "esophagus",
            "liver",
            "stomach",
            "aorta",
            "inferior vena cava",
            "portal and splenic vein",
            "pancreas",
            "right adrenal",
            "left adrenal",
        ),
        image="abdominal CT slice",
        codes=("CT",),
        source="BTCV (Synapse multi-organ, Landman et al., MICCAI 2015)",
        licence="Synapse terms: research use with citation",
        mirror=(),
        tint=False,
        intensity=Intensity(window=(-125.0, 275.0), per_slice=True, stretch=True),
        case=r"(case\d+)",
        patient=r"(case\d+)",
    ),
    "abdomen-mr": Task(
        modality="abdominal MR slice, T2-SPIR",
        labels=("liver", "right kidney", "left kidney", "spleen"),
        image="abdominal MRI slice",
        codes=("MR",),
        source="CHAOS (Kavur et al., 2021)",
        licence="CC BY-SA 4.0 as believed: attribute, share alike",
        mirror=(),
        tint=False,
        intensity=Intensity(percentiles=(0.0, 99.8)),
        case=r"(chaos\d+)",
        patient=r"(chaos\d+)",
    ),
    "lung-nodule": Task(
        modality="chest CT, 128 x 128 crop around a nodule, stretched to its own range of grey",
        labels=("nodule",),
        image="chest CT crop around a nodule",
        codes=("CT",),
        source="LIDC-IDRI (Armato et al., 2011, doi 10.7937/K9/TCIA.2015.LO9QL9SX), four readers, crops of the PNG layout",
        licence="CC BY 3.0: attribute",
        intensity=Intensity(percentiles=(0.0, 100.0), per_slice=True),
        tint=False,
        patient=r"^(.+?)_n\d+",
        may_be_absent=True,
        bend=0.3,  # targets of a few pixels: interpolation changes their borders, quarter turns do not
    ),
    "polyp": Task(
        modality="colonoscopy, RGB",
        labels=("polyp",),
        image="colonoscopy image",
        codes=("ES", "XC"),
        source="Kvasir-SEG (Jha et al., 2020), squeezed to a square",
        licence="research and education; weights non-commercial",
        other="CVC-ClinicDB (Bernal et al., 2015), another hospital and endoscope",
        patient=r"^(C_seq\d+)_",  # sequences of CVC-ClinicDB; Kvasir-SEG names no patients
    ),
    "chest-xray": Task(
        modality="chest radiograph, grey",
        labels=("right lung", "left lung", "heart"),
        image="chest radiograph",
        codes=("CR", "DX", "RG"),
        source="JSRT (Shiraishi et al., 2000) with SCR masks (van Ginneken et al., 2006)",
        licence="research use; no redistribution of the images",
        mirror=(),
        tint=False,
    ),
}

# Published data sets (see `adaptors`) without a shipped checkpoint or synthetic images.

_SCANS = {
    "brain-tumour": ("brain MRI: R = T1, G = FLAIR, B = T1 post-contrast", "necrotic core, oedema, enhancing tumour"),
    "abdomen-amos": (
        "abdominal CT and MR",
        "spleen, right kidney, left kidney, gallbladder, esophagus, liver, stomach, aorta, inferior vena cava, pancreas, "
        "right adrenal, left adrenal, duodenum, bladder, prostate or uterus",
    ),
    "brain-tumour-decathlon": (
        "brain MRI: FLAIR, T1, T1 post-contrast",
        "oedema, non-enhancing tumour, enhancing tumour",
    ),
    "heart": ("cardiac MRI", "left atrium"),
    "liver-tumour": ("abdominal CT", "liver, tumour"),
    "prostate": ("prostate MRI: T2, ADC", "peripheral zone, transition zone"),
    "lung-tumour": ("chest CT", "tumour"),
    "pancreas-tumour": ("abdominal CT", "pancreas, tumour"),
    "hepatic-vessel": ("abdominal CT", "vessel, tumour"),
    "spleen": ("abdominal CT", "spleen"),
    "colon-tumour": ("abdominal CT", "tumour"),
}
_SOURCES = {
    "brain-tumour": (
        "BraTS (Menze et al., 2015; Baid et al., 2021)",
        "terms of the challenge: research use with citation",
    ),
    "abdomen-amos": ("AMOS 2022 (Ji et al., 2022)", "CC BY 4.0: attribute"),
}
_DECATHLON = ("Medical Segmentation Decathlon (Antonelli et al., 2022)", "CC BY-SA 4.0: attribute, share alike")

for _name, (_modality, _labels) in _SCANS.items():
    _source, _licence = _SOURCES.get(_name, _DECATHLON)
    TASKS[_name] = Task(
        modality=_modality,
        labels=tuple(_labels.split(", ")),
        source=_source,
        licence=_licence,
        mirror=(),
        tint=False,
        intensity=_CT if "CT" in _modality else FILE_WINDOW,
        channels=_BRAIN if _name == "brain-tumour" else (),
    )


def axis_of(domain: Domain | str) -> int:
    """Return the axis across which volumes are sliced for a checkpoint or a task; axial where neither states it."""
    if isinstance(domain, Domain):
        return domain.axis if domain.axis is not None else axis_of(domain.task)
    return TASKS[domain].axis if domain in TASKS else 2


def intensity_of(domain: Domain | str) -> Intensity:
    """Return how grey values are windowed for a checkpoint or a task; by the file's own window where neither states it."""
    if isinstance(domain, Domain):
        return domain.intensity or intensity_of(domain.task)
    return TASKS[domain].intensity if domain in TASKS else FILE_WINDOW


def provenance_of(task: str) -> tuple[str, str]:
    """Return source and licence of a task's data."""
    return TASKS[task].source, TASKS[task].licence


def patients_of(task: str) -> str:
    """Return the pattern of the patient in an image's name; empty if every image counts as one patient."""
    return TASKS[task].patient if task in TASKS else ""


def cases_of(task: str) -> str:
    """Return the pattern of the subject in a slice's name; empty for tasks without subjects and unknown tasks."""
    return TASKS[task].case if task in TASKS else ""
