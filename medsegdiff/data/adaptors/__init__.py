"""Read published data sets in the layout they are downloaded in.

    isic2016, isic2017, isic2018    skin lesions: ..._Training_Data or _Input beside ..._GroundTruth
    refuge2                         fundus: Training400, REFUGE-Validation400 ... beside their Disc_Cup_Masks, BMP
    ddti                            thyroid: N_I.jpg beside N.xml with contours
    lidc                            lung nodules: LIDC-IDRI-NNNN/nodule-N/images beside mask-0 ... mask-3, four readers, PNG
    brats                           2020, 2021: one folder per case, NAME_{t1,t1ce,t2,flair,seg}.nii[.gz]
    amos2022                        imagesTr, labelsTr, imagesVa, labelsVa, imagesTs
    btcv                            RawData/Training/img and label
    decathlon                       dataset.json beside imagesTr and labelsTr
    plain                           images/ beside masks/, or masks_1/, masks_2/ ... of several readers (see `folders`)

Data sets without a `val` split use every fifth case by name as `val`; BTCV uses the twelve test cases of TransUNet.

References:
    ISIC (Gutman et al., 2016; Codella et al., 2018, 2019), https://challenge.isic-archive.com/data
    REFUGE (Orlando et al., 2020), https://refuge.grand-challenge.org
    DDTI (Pedraza et al., 2015), https://doi.org/10.1117/12.2073532
    LIDC-IDRI (Armato et al., 2011), https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX
    BraTS (Menze et al., 2015; Baid et al., 2021), https://arxiv.org/abs/2107.02314
    AMOS (Ji et al., 2022), https://arxiv.org/abs/2206.08023
    BTCV (Landman et al., 2015), https://doi.org/10.7303/syn3193805; its split: TransUNet, https://arxiv.org/abs/2102.04306
    Medical Segmentation Decathlon (Antonelli et al., 2022), https://arxiv.org/abs/2106.05735
"""

from collections.abc import Sequence
from pathlib import Path

from medsegdiff.data import folders
from medsegdiff.data.adaptors.layout import Layout
from medsegdiff.data.adaptors.pictures import DDTI, ISIC2016, ISIC2017, ISIC2018, LIDC, REFUGE2
from medsegdiff.data.adaptors.volumes import AMOS2022, BRATS, BTCV, DECATHLON
from medsegdiff.data.folders import Case, Unpaired
from medsegdiff.image_ref import Intensity

__all__ = ["LAYOUTS", "cases", "detected", "intensity_of", "provenance_of", "task_of", "unpaired"]

LAYOUTS: dict[str, Layout] = {
    "isic2016": ISIC2016,
    "isic2017": ISIC2017,
    "isic2018": ISIC2018,
    "refuge2": REFUGE2,
    "ddti": DDTI,
    "lidc": LIDC,
    "brats": BRATS,
    "amos2022": AMOS2022,
    "btcv": BTCV,
    "decathlon": DECATHLON,
}


def detected(folder: Path) -> str:
    """Return the layout of a folder; "plain" if it is none of the published ones."""
    return next((name for name, layout in LAYOUTS.items() if layout.recognized(folder)), "plain")


def cases(folder: Path | str, split: str = "val", layout: str = "auto") -> list[Case]:
    """List a split's cases by name; masks may be missing.

    Arguments:
        folder: the unpacked archive, or its parent folder.
        split: train, val or test.
        layout: a key of `LAYOUTS`, "plain", or "auto" to detect it.

    Raises:
        ValueError: the folder is not in this layout or the layout has no such split.
    """
    folder = Path(folder)
    name = detected(folder) if layout == "auto" else layout
    if name == "plain":
        return folders.cases(folder, split)
    if name not in LAYOUTS:
        raise ValueError(f"layout is {name!r}; choose auto, plain, {', '.join(LAYOUTS)}")
    found = sorted(LAYOUTS[name].cases(folder, split), key=lambda case: case.name)
    if not found:
        raise ValueError(f"{folder} holds no {split} pictures of the layout {name}; {LAYOUTS[name].expected(split)}")
    return found


def unpaired(folder: Path | str, split: str, layout: str, found: Sequence[Case]) -> Unpaired:
    """Return what is left over in a split of which these are the cases: images without a mask, masks without an image."""
    plain = layout == "plain" or (layout == "auto" and detected(Path(folder)) == "plain")
    return folders.unpaired(found, folders.orphans(folder, split) if plain else ())


def intensity_of(folder: Path | str, layout: str = "auto") -> Intensity | None:
    """Return how the grey values of a published data set are windowed by default; None for the file's own window."""
    name = detected(Path(folder)) if layout == "auto" else layout
    return LAYOUTS[name].intensity(Path(folder)) if name in LAYOUTS else None


def provenance_of(folder: Path | str, layout: str = "auto") -> tuple[str, str] | None:
    """Return source and licence of a published data set, "" for one that is not known; None for a plain folder."""
    name = detected(Path(folder)) if layout == "auto" else layout
    return LAYOUTS[name].provenance(Path(folder)) if name in LAYOUTS else None


def task_of(folder: Path | str, layout: str = "auto") -> str | None:
    """Return the task of a published data set; None for a plain folder or an unknown task."""
    name = detected(Path(folder)) if layout == "auto" else layout
    return LAYOUTS[name].task(Path(folder)) if name in LAYOUTS else None
