"""Exported files: exact values, readable by other programs, without identifying attributes."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageSequence

from app.core import catalogue
from app.core.session import Session
from app.core.settings import CONTROLS, read
from app.export.files import FILES, write, write_volume
from app.i18n import words
from app.inputs.images import phantom
from app.inputs.volumes import VolumeCache, segment, take
from medsegdiff import dicom_seg
from medsegdiff.replay import Report


def settings(**chosen):
    return read([chosen.get(control.field, control.default) for control in CONTROLS])


@pytest.fixture(scope="module")
def finished(session):
    *_, end = session.run("tiny", phantom(3), settings(steps=3, members=2))
    return end


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(Session().sources))
def test_every_shipped_checkpoint_exports_its_files_for_a_phantom(name, tmp_path):
    shipped = Session(device="cpu")
    image = phantom(3, shipped.task(name))
    *_, end = shipped.run(name, image, settings(steps=1, members=2))
    report = json.loads(write(tmp_path, end, None, words("en"))["report"].read_text(encoding="utf-8"))
    (dice,) = report["run"]["dice"]
    there = [label in image.reference[0] for label in range(1, len(dice) + 1)]
    assert [value is not None for value in dice] == there  # no slice contains all thirteen organs


def test_the_animation_has_all_positions_and_pauses_at_the_end(finished, tmp_path):
    paths = write(tmp_path, finished, None, words("en"))
    assert set(paths) == set(FILES) - {"nifti", "seg"}
    with Image.open(paths["film"]) as film:
        assert film.width == 3 * film.height
        assert "comment" not in film.info
        times = [film.info["duration"] for _ in ImageSequence.Iterator(film)]
    # The anchor, three steps and the result; identical frames are merged to a longer one.
    assert sum(times) == 4 * 120 + 2000
    assert times[-1] >= 2000
    assert paths["film"].stat().st_size < 1_000_000


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_svg_figure_is_self_contained(finished, tmp_path, language):
    paths = write(tmp_path, finished, None, words(language))
    root = ET.fromstring(paths["drawing"].read_text(encoding="utf-8"))
    assert sum(node.tag.endswith("image") for node in root.iter()) == 4
    links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert words(language)("film.disagreement") in "".join(root.itertext())
    with Image.open(paths["figure"]) as figure:
        assert figure.width > 4 * 300
        assert not figure.info


def test_the_settings_in_the_report_reproduce_the_mask(session, finished, tmp_path):
    paths = write(tmp_path, finished, None, words("en"))
    report = Report.read(paths["report"])
    image = phantom(3)
    report.require_source(image.picture.ref.sha256)
    again = session.segmenter("tiny")(image.picture, report.settings)
    report.require_mask(again.sidecar()["mask"]["sha256"])
    with Image.open(paths["mask"]) as mask:
        np.testing.assert_array_equal(np.asarray(mask), again.labels)


def test_a_task_with_a_path_in_its_name_leads_to_no_other_folder(finished, tmp_path, monkeypatch):
    import gradio as gr

    from app.gradio_ui.files import Files

    assert phantom(3).stem("../../x") == "x-3"
    assert replace(phantom(3), name="../../x.png").stem("skin-lesion") == "x"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    recording = replace(finished.recording, facts=finished.recording.facts | {"task": "../../x"})
    archive, buttons = gr.DownloadButton(), {name: gr.DownloadButton() for name in FILES}
    shown = Files(gr.Row(), archive, buttons, VolumeCache())
    offers = shown.offered(replace(finished, recording=recording), phantom(3), words("en"))
    path = Path(offers[archive]["value"])
    assert (path.name, path.is_relative_to(tmp_path)) == ("x-3.zip", True)
    with ZipFile(path) as zipped:
        assert sorted(zipped.namelist())[-1] == "x-3-run.json"


def nifti(path: Path) -> Path:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(14, 12, 10)).astype(np.float32))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-4.0, 5.0, 6.0))
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(image, str(path), True)
    return path


@pytest.mark.slow
def test_masks_have_the_voxel_grid_of_the_input(session, tmp_path):
    volume_cache, path = VolumeCache(), nifti(tmp_path / "a.nii.gz")
    before = sitk.ReadImage(str(path))
    image = take(str(path), volume_cache, catalogue.card(catalogue.shipped()["hippocampus-v2"]))
    *_, finished = session.run("tiny", image, settings(steps=2, members=2))
    one = write(tmp_path, finished, volume_cache.get(image.slice_view.key), words("en"))
    *_, result = segment(
        session, "tiny", volume_cache.get(image.slice_view.key), image.slice_view, settings(steps=2, members=2)
    )
    (tmp_path / "all").mkdir()
    every = write_volume(tmp_path / "all", result, volume_cache.get(image.slice_view.key))
    slice_mask, volume_mask = (sitk.ReadImage(str(paths["nifti"])) for paths in (one, every))
    for mask in (slice_mask, volume_mask):
        assert mask.GetSize() == before.GetSize()
        np.testing.assert_allclose(mask.GetOrigin(), before.GetOrigin(), atol=1e-5)
        np.testing.assert_allclose(mask.GetDirection(), before.GetDirection(), atol=1e-5)
    # RAS counts x from the left, the sagittal slices are counted from the right.
    x = 9 - image.slice_view.index
    filled = sitk.GetArrayFromImage(slice_mask)
    np.testing.assert_array_equal(filled[:, :, x], sitk.GetArrayFromImage(volume_mask)[:, :, x])
    assert filled.sum() == finished.result.labels.sum()
    assert json.loads(every["report"].read_text())["mask"]["sha256"]


def test_every_shipped_class_has_a_code_of_its_own_in_a_dicom_seg():
    pytest.importorskip("highdicom")
    labels = {label for folder in catalogue.shipped().values() for label in catalogue.card(folder).labels}
    found = {label: dicom_seg._segment(1, label, "0" * 64) for label in labels}
    codes = {k: (s.segmented_property_category.value, s.segmented_property_type.value) for k, s in found.items()}
    assert [label for label, (category, kind) in codes.items() if category == kind] == []
    assert codes["polyp"] == ("49755003", "68496003")  # morphologically abnormal structure, polyp of colon
    assert codes["right lung"] == codes["left lung"] == ("91723000", "39607008")  # anatomical structure, lung


# Whether SimpleITK returns the position of a slice depends on files read before, so both cases are tested.
PLACE = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.5]}


@pytest.mark.slow
@pytest.mark.parametrize("place", [{}, PLACE, PLACE | {"SliceThickness": None}, PLACE | {"SliceThickness": 3}])
def test_a_dicom_seg_refers_to_its_input_without_patient_data(session, tmp_path, place):
    highdicom = pytest.importorskip("highdicom")
    path = tmp_path / "scan.dcm"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(30 * 40, dtype=np.uint16).reshape(1, 30, 40)), str(path))
    import pydicom

    before = pydicom.dcmread(path)
    before.PatientName, before.PatientID = "DOE^JANE", "WARD-NINE"
    for keyword in (*PLACE, "SliceThickness", "SpacingBetweenSlices"):
        before.pop(keyword, None)
    before.update(place)
    before.save_as(path)
    volume_cache = VolumeCache()
    image = take(str(path), volume_cache, None)
    *_, finished = session.run("tiny", image, settings(steps=2, members=2))
    paths = write(tmp_path, finished, volume_cache.get(image.slice_view.key), words("en"))
    seg = highdicom.seg.segread(paths["seg"])
    source = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    assert source == before.SOPInstanceUID
    np.testing.assert_array_equal(seg.pixel_array.reshape(30, 40), finished.result.labels)
    for file in paths.values():
        assert b"DOE^JANE" not in file.read_bytes()
        assert b"WARD-NINE" not in file.read_bytes()
