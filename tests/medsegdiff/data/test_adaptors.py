"""Published data sets, written here in miniature in their original layout."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageDraw

from medsegdiff.__main__ import main
from medsegdiff.data.adaptors import LAYOUTS, cases, detected, task_of
from medsegdiff.data.adaptors import pictures as adaptor_of_pictures
from medsegdiff.data.batches import Pool
from medsegdiff.data.dataset import describe
from medsegdiff.data.tasks import TASKS
from medsegdiff.image_ref import FILE_WINDOW

SHAPE = (4, 24, 20)  # slices, rows, columns


def photo(path: Path, size: tuple[int, int] = (20, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 120, 90)).save(path)


def mask(path: Path, *values: int, size: tuple[int, int] = (20, 16)) -> None:
    """Write stripes of grey values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    Image.fromarray(np.resize(np.repeat(np.array(values, np.uint8), 2), (height, width))).save(path)


def volume(path: Path, array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def ct(path: Path) -> None:
    volume(path, np.linspace(-1000, 1000, np.prod(SHAPE)).reshape(SHAPE).astype(np.float32))


def labelled(path: Path, *values: int) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    for i, value in enumerate(values):
        labels[1, i + 2, 3:8] = value
    volume(path, labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "train", "val"),
    [
        (
            "isic2016",
            ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth", "_Segmentation"),
            ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth", "_Segmentation"),
        ),
        (
            "isic2017",
            ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "_segmentation"),
            ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth", "_segmentation"),
        ),
        (
            "isic2018",
            ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", "_segmentation"),
            ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth", "_segmentation"),
        ),
    ],
)
def test_isic_pairs_photographs_with_masks_in_the_folder_beside(tmp_path, layout, train, val):
    for i, (images, masks, suffix) in enumerate((train, val)):
        photo(tmp_path / images / f"ISIC_000000{i}.jpg")
        mask(tmp_path / images / f"ISIC_000000{i}_superpixels.png", 3, 7)  # 2017 puts them among the photographs
        mask(tmp_path / masks / f"ISIC_000000{i}{suffix}.png", 0, 255)
    assert (detected(tmp_path), task_of(tmp_path)) == (layout, "skin-lesion")
    facts, own = describe(tmp_path).task, describe(tmp_path, given={"source": "Clinic X"}).task
    assert f"ISIC {layout[-4:]}" in facts.source
    licence = {"isic2016": "not stated", "isic2017": "CC0; weights free", "isic2018": "CC BY-NC 4.0"}[layout]
    assert facts.licence.startswith(licence)
    assert (own.source, own.licence) == ("Clinic X", "not stated")
    for i, split in enumerate(("train", "val")):
        (case,) = cases(tmp_path, split)
        (sample,) = case.samples(1)
        assert case.name == f"ISIC_000000{i}"
        assert sample.picture.pixels.shape == (16, 20, 3)
        assert np.unique(sample.labels).tolist() == [0, 1]


def test_a_photograph_too_large_is_reduced_together_with_its_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(adaptor_of_pictures, "MAX_PIXELS", 100)  # in place of ISIC's 30 million
    photo(tmp_path / "ISIC-2017_Training_Data" / "ISIC_1.jpg", (21, 16))
    mask(tmp_path / "ISIC-2017_Training_Part1_GroundTruth" / "ISIC_1_segmentation.png", 0, 255, size=(21, 16))
    (sample,) = cases(tmp_path, "train")[0].samples(1)
    assert sample.picture.pixels.shape == (8, 11, 3)
    assert sample.labels.shape == (8, 11)


def test_refuge_reads_cup_disc_and_background_from_0_128_and_255(tmp_path):
    photo(tmp_path / "REFUGE-Training400" / "Training400" / "Glaucoma" / "g0001.jpg")
    photo(tmp_path / "REFUGE-Training400" / "Training400" / "Non-Glaucoma" / "n0001.jpg")
    masks = tmp_path / "Annotation-Training400" / "Annotation-Training400" / "Disc_Cup_Masks"
    mask(masks / "Glaucoma" / "g0001.bmp", 255, 128, 0)
    mask(masks / "Non-Glaucoma" / "n0001.bmp", 255, 128)
    photo(tmp_path / "REFUGE-Validation400" / "V0001.jpg")
    mask(tmp_path / "REFUGE-Validation400-GT" / "Disc_Cup_Masks" / "V0001.bmp", 255, 128, 0)
    assert (detected(tmp_path), task_of(tmp_path)) == ("refuge2", "optic-disc-cup")
    assert describe(tmp_path).task.source.startswith("REFUGE-2")
    assert describe(tmp_path).task.licence == "not stated"
    first, second = cases(tmp_path, "train")
    assert (first.name, second.name) == ("g0001", "n0001")
    (sample,) = first.samples(2)
    assert sample.labels[0, :6].tolist() == [0, 0, 1, 1, 2, 2]
    (disc,) = first.samples(1)  # the disc is rim and cup
    assert disc.labels[0, :6].tolist() == [0, 0, 1, 1, 1, 1]
    assert [case.name for case in cases(tmp_path, "val")] == ["V0001"]
    with pytest.raises(ValueError, match="holds no test pictures of the layout refuge2; expected the folders Test400"):
        cases(tmp_path, "test")


def ddti(folder: Path, number: int, svg: str | None = None) -> None:
    photo(folder / f"{number}_1.jpg", (40, 30))
    points = [{"x": x, "y": y} for x, y in ((5, 5), (20, 5), (20, 15), (5, 15))]
    drawn = svg or json.dumps([{"points": points, "annotation": {}, "regionType": "freehand"}])
    mark = f"<mark><image>1</image><svg>{drawn}</svg></mark>"
    (folder / f"{number}.xml").write_text(f"<case><number>{number}</number><age>40</age>{mark}</case>")


def test_ddti_fills_the_contours_of_its_xml(tmp_path):
    for number in (1, 2, 3, 4, 10):
        ddti(tmp_path, number)
    ddti(tmp_path, 11, svg="[]")  # never annotated
    assert (detected(tmp_path), task_of(tmp_path)) == ("ddti", "thyroid-nodule")
    assert [case.name for case in cases(tmp_path, "train")] == ["case1_1", "case2_1", "case3_1", "case4_1"]
    (held,) = cases(tmp_path, "val")
    assert held.name == "case10_1"  # the fifth by number, not by letter
    assert re.findall(TASKS["thyroid-nodule"].patient, held.name) == ["case10"]
    (sample,) = held.samples(1)
    expected = Image.new("L", (40, 30))
    ImageDraw.Draw(expected).rectangle((5, 5, 20, 15), fill=1)
    np.testing.assert_array_equal(sample.labels, np.asarray(expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folders", "name", "ending"),
    [
        ("MICCAI_BraTS2020_TrainingData/BraTS20_Training_{:03}", "BraTS20_Training_005", ".nii"),
        ("BraTS2021_{:05}", "BraTS2021_00005", ".nii.gz"),
    ],
)
def test_brats_shows_three_of_four_modalities_and_one_class_or_three(tmp_path, folders, name, ending):
    kinds = {"t1": 100.0, "t1ce": 200.0, "t2": 300.0, "flair": 400.0}
    for i in range(1, 6):
        folder = tmp_path / folders.format(i)
        for kind, level in kinds.items():
            array = np.zeros(SHAPE, np.float32)
            array[:, 4:12, 4:12] = level
            array[0, 4, 4] = level * (0.5 if kind == "flair" else 1)
            volume(folder / f"{folder.name}_{kind}{ending}", array, (1.0, 1.0, 1.0))
        labelled(folder / f"{folder.name}_seg{ending}", 1, 2, 4)
        (folder / f"{folder.name}_seg{ending}").rename(folder / f"{folder.name}_seg.tmp")
        truth = sitk.ReadImage(str(folder / f"{folder.name}_t1{ending}"))
        labels = sitk.GetImageFromArray(np.eye(24, 20, dtype=np.uint8)[None].repeat(4, 0) * np.uint8(4))
        labels.CopyInformation(truth)
        sitk.WriteImage(labels, str(folder / f"{folder.name}_seg{ending}"))
    assert (detected(tmp_path), task_of(tmp_path)) == ("brats", "brain-flair")
    assert describe(tmp_path).task.source.startswith("BraTS")
    assert len(cases(tmp_path, "train")) == 4
    (held,) = cases(tmp_path, "val")
    assert held.name == name
    assert held.is_volume
    samples = list(held.samples(3))
    assert [s.name for s in samples] == [f"{name}_slice{i:03}" for i in range(4)]
    assert samples[0].picture.pixels[4, 4].tolist() == [255, 128, 255]  # T1, FLAIR, T1 post-contrast
    assert samples[0].picture.pixels[0, 0].tolist() == [0, 0, 0]
    assert np.unique(samples[0].labels).tolist() == [0, 3]  # 4 in the file
    assert np.unique(next(held.samples(1)).labels).tolist() == [0, 1]
    (held.image.parent / f"{name}_t2{ending}").unlink()
    with pytest.raises(ValueError, match=rf"{name} has no {name}_t2.nii.gz; a case has t1, t1ce, t2, flair"):
        cases(tmp_path, "val")


@pytest.mark.slow
def test_amos_has_folders_for_its_splits_and_shows_ct_but_not_mr_in_hounsfield_units(tmp_path):
    for number, split in ((1, "Tr"), (507, "Tr"), (8, "Va")):
        image = tmp_path / "amos22" / f"images{split}" / f"amos_{number:04}.nii.gz"
        ct(image) if number < 500 else volume(image, np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE))
        labelled(tmp_path / "amos22" / f"labels{split}" / f"amos_{number:04}.nii.gz", 1, 15)
    (tmp_path / "amos22" / "dataset.json").write_text("{}")  # it has one, in no need of which it is read
    assert (detected(tmp_path), task_of(tmp_path)) == ("amos2022", "abdomen-amos")
    scan, resonance = cases(tmp_path, "train")
    rule = describe(tmp_path).task.intensity
    assert next(scan.samples(15, 2, rule)).picture.window == (-125, 275)
    own = next(resonance.samples(15)).picture.window
    assert next(resonance.samples(15, 2, rule)).picture.window == own != (-125, 275)
    assert [case.name for case in cases(tmp_path, "val")] == ["amos_0008"]
    assert {int(v) for s in scan.samples(15) for v in np.unique(s.labels)} == {0, 1, 15}
    with pytest.raises(ValueError, match=r"amos_0001.nii.gz has label 15, but there are only classes 0 to 13"):
        list(scan.samples(13))


def test_btcv_holds_back_the_twelve_scans_that_transunet_tests_on(tmp_path):
    training = tmp_path / "RawData" / "Training"
    for number in ("0001", "0005"):
        ct(training / "img" / f"img{number}.nii.gz")
    labelled(training / "label" / "label0001.nii.gz", 13)
    ct(tmp_path / "RawData" / "Testing" / "img" / "img0061.nii.gz")
    assert (detected(tmp_path), task_of(tmp_path)) == ("btcv", "abdomen-ct")
    assert [case.name for case in cases(tmp_path, "val")] == ["img0001"]
    assert [case.name for case in cases(tmp_path, "test")] == ["img0061"]
    (unlabelled,) = cases(tmp_path, "train")
    with pytest.raises(ValueError, match=r"img0005.nii.gz has no mask .*label0005.nii.gz; add it"):
        next(unlabelled.samples(13))


def decathlon(folder: Path, modality: dict[str, str], names: list[str]) -> None:
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    facts = {"modality": modality, "training": listed, "test": ["./imagesTs/x.nii.gz"]}
    (folder / "dataset.json").write_text(json.dumps(facts))


def test_a_decathlon_task_is_what_its_dataset_json_lists(tmp_path):
    folder = tmp_path / "Task09_Spleen"
    names = [f"spleen_{i}" for i in range(1, 6)]
    decathlon(folder, {"0": "CT"}, names)
    for name in names:
        ct(folder / "imagesTr" / f"{name}.nii.gz")
        labelled(folder / "labelsTr" / f"{name}.nii.gz", 1)
    ct(folder / "imagesTr" / "._hidden.nii.gz")  # the archives hold such; nothing lists them
    assert (detected(tmp_path), task_of(folder)) == ("decathlon", "spleen")
    assert [case.name for case in cases(folder, "train")] == names[:4]
    (held,) = cases(folder, "val")
    sample = list(held.samples(1, 2, describe(folder).task.intensity))[1]
    assert (sample.picture.window, sample.labels.sum(), sample.distance_mm) == ((-125, 275), 5, 3.0)
    with pytest.raises(ValueError, match=r"lists \./imagesTs/x.nii.gz, which is not there"):
        cases(folder, "test")


@pytest.mark.parametrize("layout", ["decathlon", "btcv"])
def test_the_window_that_the_checkpoint_records_is_that_of_its_training_images(tmp_path, layout):
    if layout == "decathlon":
        folder, images, labels, name = tmp_path / "Task09_Spleen", "imagesTr/spleen_1", "labelsTr/spleen_1", "spleen"
        decathlon(folder, {"0": "CT"}, ["spleen_1"])
    else:
        folder, images, labels, name = tmp_path, "Training/img/img0005", "Training/label/label0005", "abdomen-ct"
    ct(folder / f"{images}.nii.gz")
    labelled(folder / f"{labels}.nii.gz", 1)
    (case,) = cases(folder, "train")
    for given, window in (
        ({"window": [-1000, 400]}, (-1000, 400)),
        ({"window": [-1000, 400], "labels": ["organ"]}, (-1000, 400)),
        ({"labels": ["organ"]}, (-125, 275)),
        ({}, (-125, 275)),
    ):
        data = describe(folder, given=given)
        assert (data.name, data.task.intensity.window) == (folder.name if "labels" in given else name, window)
        shown = {sample.picture.window for sample in case.samples(1, 2, data.task.intensity)}
        assert all(window[0] <= low < high <= window[1] for low, high in shown)  # BTCV's is narrowed to each slice
        assert (min(low for low, _ in shown), max(high for _, high in shown)) == window
    (sample, *_) = case.samples(1, 2, FILE_WINDOW)  # as with --file-window
    assert sample.picture.window[0] < -900


def test_a_decathlon_volume_of_several_channels_is_shown_in_colour(tmp_path):
    folder = tmp_path / "Task01_BrainTumour"
    decathlon(folder, {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, ["BRATS_001"])
    parts = []
    for level in (1.0, 2.0, 3.0, 4.0):
        array = np.full(SHAPE, level, np.float32)
        array[0, 0, 0] = level / 2
        parts.append(sitk.GetImageFromArray(array))
    sitk.WriteImage(sitk.JoinSeries(parts), str(folder / "imagesTr" / "BRATS_001.nii.gz"))
    labelled(folder / "labelsTr" / "BRATS_001.nii.gz", 1, 2, 3)
    truth = sitk.ReadImage(str(folder / "labelsTr" / "BRATS_001.nii.gz"))
    truth.SetSpacing((1.0, 1.0, 1.0))
    sitk.WriteImage(truth, str(folder / "labelsTr" / "BRATS_001.nii.gz"))
    (case,) = cases(folder, "train")
    samples = list(case.samples(3))
    assert {tuple(pixel) for pixel in samples[1].picture.pixels.reshape(-1, 3)} == {(255, 255, 255)}
    corners = [s.picture.pixels[y, x].tolist() for s in samples for y in (0, -1) for x in (0, -1)]
    assert corners.count([128, 128, 128]) == 1  # the one voxel at half of every channel's level
    assert {int(v) for s in samples for v in np.unique(s.labels)} == {0, 1, 2, 3}


def test_what_does_not_fit_is_one_sentence_that_names_the_file(tmp_path):
    images, masks = tmp_path / "ISIC-2017_Training_Data", tmp_path / "ISIC-2017_Training_Part1_GroundTruth"
    for name in ("a", "b", "c", "d"):
        photo(images / f"{name}.jpg")
    mask(masks / "a_segmentation.png", 0, 255, size=(10, 16))
    mask(masks / "b_segmentation.png", 0, 37)
    (masks / "c_segmentation.png").write_bytes(b"no picture")
    found = cases(tmp_path, "train")
    for case, words in zip(
        found,
        (
            r"a_segmentation.png is 10 x 16, its picture 20 x 16; make them one",
            r"b_segmentation.png has the grey value 37; the masks of this set have 0, 255",
            r"c_segmentation.png cannot be read as PNG, JPEG, BMP or TIFF",
            r"d.jpg has no mask .*d_segmentation.png; add it",
        ),
        strict=True,
    ):
        with pytest.raises(ValueError, match=words):
            list(case.samples(1))


@pytest.mark.parametrize("svg", ['[{"points": [{"x": 5', '[{"points": [{"x": 5}]}]', '[{"points": 7}]'])
def test_a_damaged_contour_is_told_by_its_file(tmp_path, svg):
    ddti(tmp_path, 197, svg)
    with pytest.raises(ValueError, match=r"197.xml holds a contour that is cut short or no JSON"):
        cases(tmp_path, "train")


def test_a_contour_outside_its_picture_is_refused(tmp_path):
    ddti(tmp_path, 1, json.dumps([{"points": [{"x": 1, "y": 1}, {"x": 90, "y": 1}, {"x": 9, "y": 9}]}]))
    with pytest.raises(ValueError, match=r"1.xml draws a contour outside 1_1.jpg"):
        list(cases(tmp_path, "train")[0].samples(1))


def test_a_layout_may_be_named_and_a_plain_folder_stays_plain(tmp_path):
    photo(tmp_path / "val" / "images" / "one.png")
    mask(tmp_path / "val" / "masks" / "one.png", 0, 1)
    assert (detected(tmp_path), task_of(tmp_path)) == ("plain", None)
    assert [case.name for case in cases(tmp_path)] == ["one"]
    for name in LAYOUTS:
        with pytest.raises(ValueError, match=f"holds no val pictures of the layout {name}"):
            cases(tmp_path, layout=name)
    with pytest.raises(ValueError, match="layout is 'isic2025'; choose auto, plain, isic2016"):
        cases(tmp_path, layout="isic2025")


@pytest.mark.slow
def test_training_takes_a_published_folder_as_it_is(tmp_path, capsys):
    data = tmp_path / "Task09_Spleen"
    names = [f"spleen_{i}" for i in range(1, 6)]
    decathlon(data, {"0": "CT"}, names)
    for name in names:
        ct(data / "imagesTr" / f"{name}.nii.gz")
        labelled(data / "labelsTr" / f"{name}.nii.gz", 1)
    words = ["--preset", "v2-tiny", "--size", "64", "--batch", "2", "--iterations", "1", "--workers", "0"]
    assert main(["train", *words, "--data", str(data), "--out", str(tmp_path / "run")]) == 0
    score = ["evaluate", "--checkpoint", str(tmp_path / "run" / "checkpoint"), "--data", str(data)]
    assert main([*score, "--members", "1", "--steps", "1", "--device", "cpu"]) == 0
    assert "| spleen |" in capsys.readouterr().out
    pool = Pool.of(cases(data, "train"), 1, 32, task="spleen")
    assert len(pool.pictures) == 4  # of each volume the slice with a label; of the others none fit a fifth


def test_lidc_crops_come_with_every_readers_mask_and_are_split_by_patient(tmp_path):
    for patient in range(5):
        nodule = tmp_path / "LIDC-IDRI-slices" / f"LIDC-IDRI-{patient:04}" / "nodule-0"
        for number in (2, 10):
            photo(nodule / "images" / f"slice-{number}.png")
            for reader in range(4):
                mask(nodule / f"mask-{reader}" / f"slice-{number}.png", *((0, 255) if reader else (0,)))
    assert (detected(tmp_path), task_of(tmp_path)) == ("lidc", "lung-nodule")
    train, val = cases(tmp_path, "train"), cases(tmp_path, "val")
    assert [case.name for case in val] == ["LIDC-IDRI-0004_n00_s02", "LIDC-IDRI-0004_n00_s10"]
    assert len(train) == 8
    (sample,) = val[0].samples(1)
    assert sample.readers is not None
    assert sample.readers.any((1, 2)).tolist() == [False, True, True, True]
    pool = Pool.of(train, 1, 16, task="lung-nodule")
    rest, aside = pool.set_aside(2, r"^(.+?)_n\d+")
    assert (len(rest.names), len({name[:14] for name in aside.names}), len(aside.names)) == (6, 1, 2)
    assert pool.readers is not None
    assert pool.readers.shape == (8, 4, 16, 16)
    next((tmp_path / "LIDC-IDRI-slices").glob("LIDC-IDRI-0000/nodule-0/mask-3/slice-2.png")).unlink()
    with pytest.raises(ValueError, match=r"none in mask-3; add it"):
        list(cases(tmp_path, "train")[0].samples(1))
