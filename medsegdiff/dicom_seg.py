"""Write a mask as a DICOM Segmentation (SEG) that refers to the DICOM image it belongs to, with highdicom.

Identifiers, geometry and frame of reference are copied from the image; the patient's data only on request. highdicom is
imported when a segmentation is written; the demo's requirements include it.

References:
    DICOM PS3.3 A.51 (Segmentation), https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.51.html
    highdicom, https://doi.org/10.1007/s10278-022-00683-y
"""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from medsegdiff.atomic import replacing
from medsegdiff.config import Domain
from medsegdiff.reader import VISITOR, Limits, dicom_header

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_source", "write_seg"]

# SNOMED CT keywords in pydicom's dictionary, for classes whose name is not the keyword itself.
_TYPES = {
    "FLAIR abnormality": "Lesion",
    "disc": "OpticNerveHead",
    "disc rim": "OpticNerveHead",
    "cup": "OpticNerveHead",
    "anterior": "Hippocampus",
    "posterior": "Hippocampus",
    "right kidney": "Kidney",
    "left kidney": "Kidney",
    "inferior vena cava": "InferiorVenaCava",
    "portal and splenic vein": "PortalVein",
    "right adrenal": "AdrenalGland",
    "left adrenal": "AdrenalGland",
    "right lung": "Lung",
    "left lung": "Lung",
    "polyp": "PolypOfColon",
}
_ABNORMAL = ("Lesion", "Nodule", "PolypOfColon")
_WHO = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName")
_KEPT = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
)


def read_source(path: str | PathLike[str], *, names: bool = False, limits: Limits = VISITOR) -> "Dataset":
    """Read the attributes of a DICOM header that a segmentation repeats; with `names`, the patient's data too.

    Raises:
        ValueError: pydicom cannot read the header.
    """
    wanted = (*_KEPT, *(_WHO if names else ()))
    header = dicom_header(Path(path), wanted, limits=limits)
    try:
        from pydicom import Dataset

        source = Dataset.from_json(header)
    except Exception as error:  # pydicom's own errors share no base
        raise ValueError("this DICOM header cannot be read by pydicom; export it again") from error
    source.SpecificCharacterSet = "ISO_IR 192"  # the text is decoded; highdicom does not accept every set of characters
    for keyword in _WHO:
        if keyword not in source:
            setattr(source, keyword, "")
    for keyword in ("StudyDate", "StudyTime", "StudyID"):
        if keyword not in source:
            setattr(source, keyword, "")
    if not source.get("SliceThickness"):  # optional in an image, but viewers need it in a segmentation
        source.SliceThickness = source.get("SpacingBetweenSlices") or 1.0  # as ITK does
    _share_groups(source)
    return source


def _share_groups(source: "Dataset") -> None:
    """Move functional groups that are equal in all frames to the shared ones, where highdicom looks for them."""
    from pydicom import Dataset

    frames = source.get("PerFrameFunctionalGroupsSequence") or []
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        groups = [frame.get(keyword) for frame in frames]
        if not groups or groups[0] is None or any(group != groups[0] for group in groups):
            continue
        if not source.get("SharedFunctionalGroupsSequence"):
            source.SharedFunctionalGroupsSequence = [Dataset()]
        setattr(source.SharedFunctionalGroupsSequence[0], keyword, groups[0])
        for frame in frames:
            delattr(frame, keyword)


def write_seg(
    path: str | PathLike[str],
    labels: UInt8[np.ndarray, "f h w"],
    source: "Dataset | list[Dataset]",
    domain: Domain,
    digest: str,
) -> None:
    """Write labels as DICOM SEG, one segment for each class.

    Arguments:
        path: of the new file.
        labels: one map for each frame of the source, 0 background, 1..K.
        source: what `read_source` returned for the file, or for each file of the series.
        domain: whose labels name the segments.
        digest: sha256 of the weights, which names the algorithm's version.

    Raises:
        ValueError: highdicom is not installed, or the source has no geometry that a segmentation could refer to.
    """
    try:
        from highdicom import UID
        from highdicom.seg import Segmentation, SegmentationTypeValues
    except ImportError as error:
        raise ValueError("DICOM SEG needs highdicom; install it with pip install highdicom") from error
    try:
        segmentation = Segmentation(
            source_images=source if isinstance(source, list) else [source],
            pixel_array=labels,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_segment(i, name, digest) for i, name in enumerate(domain.labels, 1)],
            series_instance_uid=UID(),
            series_number=1000,
            sop_instance_uid=UID(),
            instance_number=1,
            manufacturer="medsegdiff",
            manufacturer_model_name=domain.task,
            software_versions=digest[:16],
            device_serial_number=digest[:16],
            content_label="SEGMENTATION",
            content_description="Research and teaching only",
            omit_empty_frames=False,
        )
    except Exception as error:  # highdicom validates the source with many kinds of errors
        raise ValueError(f"this picture cannot carry a DICOM SEG ({error}); take the mask as PNG or NIfTI") from error
    with replacing(path) as draft:
        segmentation.save_as(draft)


def _segment(number: int, name: str, digest: str) -> Any:  # highdicom is imported late
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    keyword = _TYPES.get(name, name.title().replace(" ", ""))
    known = hasattr(codes.SCT, keyword)
    abnormal = keyword in _ABNORMAL
    category = codes.SCT.MorphologicallyAbnormalStructure if abnormal else codes.SCT.AnatomicalStructure
    return SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=category,
        segmented_property_type=getattr(codes.SCT, keyword) if known else category,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name="MedSegDiff", version=digest[:16], family=codes.DCM.ArtificialIntelligence
        ),
        tracking_uid=None,
    )
