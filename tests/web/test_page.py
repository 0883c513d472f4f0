"""The browser edition in Chromium: run, cancel, both languages, offline, reports both ways, files, no request while it runs."""

import base64
import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medsegdiff.data.synthetic import draw
from medsegdiff.data.tasks import intensity_of
from medsegdiff.imaging import read, read_volume
from medsegdiff.replay import agreement, decode_runs

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
MODELS = ("skin-lesion-v2", "optic-disc-cup-v2", "skin-lesion-v1", "skin-lesion-unet")
READY = 120_000  # milliseconds that a busy machine may take to load a model and compile it

sys.path.insert(0, str(WEB))

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static site with a few models, built by the command that builds the whole."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed, so the page cannot be built")
    pytest.importorskip("onnx", reason="onnx is not installed; pip install 'medsegdiff[export]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(WEB / "build.py"), "--out", str(folder), "--models", *MODELS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "npm ci failed" in done.stderr:
        pytest.skip(f"the page's packages cannot be installed: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return folder


class Served:
    """Where the site is, what was asked of it, and how to take it away."""

    def __init__(self, folder: Path) -> None:
        from build import Handler, server

        requests: list[str] = []

        class Noted(Handler):
            def send_response(self, code: int, message: str | None = None) -> None:
                requests.append(f"{self.command} {self.path}")
                super().send_response(code, message)

        self.requests = requests
        self.http = server(folder, handler=Noted)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take the server away; a second call changes nothing."""
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    """The site's address, and the requests that reached it."""
    found = Served(site)
    yield found
    found.close()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser, address, query="", routes=(), **options):
    """Open the page in a browser that has never seen it, and wait until a model is ready.

    One thread: on a busy machine the threads of a WebAssembly module wait for each other by spinning.
    """
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, locale="en-US", accept_downloads=True, **options
    )
    context.set_default_timeout(READY)
    page = context.new_page()
    page.hosts, page.complaints = set(), []
    page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
    for pattern, handler in routes:
        page.route(pattern, handler)
    page.goto(f"{address}?backend=wasm-1{query}")
    page.wait_for_selector("body[data-ready]:not([data-ready=''])")
    page.wait_for_selector("#run:enabled")
    return page


@pytest.fixture(scope="module")
def shared(browser, served):
    """One page for all tests that leave it as others need it."""
    page = opened(browser, served.address)
    page.click("#more summary")
    yield page
    page.context.close()


@pytest.fixture
def page(shared):
    """The shared page in English, on a desktop, with the first model; nothing may have been complained of since."""
    shared.complaints.clear()
    shared.set_viewport_size({"width": 1280, "height": 900})
    shared.click("[data-language=en]")
    shared.select_option("#model", MODELS[0])
    shared.wait_for_selector(f"body[data-ready='{MODELS[0]}']")
    shared.click("#examples button")
    shared.wait_for_selector("#run:enabled")
    yield shared
    assert shared.complaints == []


def choose(page, path):
    page.set_input_files("#file", path)
    page.wait_for_selector(f"#chosen:has-text('{Path(path).name}')")


def run(page, members=2, steps=2):
    page.fill("[name=members]", str(members))
    page.fill("[name=steps]", str(steps))
    page.click("#run")
    page.wait_for_selector("#result:visible")


def saved(page, selector, folder):
    page.wait_for_selector(f"{selector}[href]")
    with page.expect_download() as download:
        page.click(selector)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def phantom(folder, task="skin-lesion", name="image.png", size=256):
    path = folder / name
    Image.fromarray(draw(task, seed=5, size=size).image).save(path)
    return path


def segment(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "medsegdiff", "segment", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_shows_every_step_and_asks_nothing_of_any_server(page, served, tmp_path):
    assert "research and teaching only" in page.inner_text(".notice")
    assert "Nothing is uploaded" in page.inner_text(".privacy")
    choose(page, phantom(tmp_path, size=200))
    before = len(served.requests)
    run(page, members=3, steps=4)
    assert page.get_attribute("#line", "max") == "5"  # the anchor, four steps, the result
    assert page.inner_text("#step") == "Result"
    page.evaluate(
        "document.querySelector('#line').value = 2; document.querySelector('#line').dispatchEvent(new Event('input'))"
    )
    assert page.inner_text("#step") == "Step 2 of 4, t = 749"
    views = [page.eval_on_selector(f"#view-{name}", SPREAD) for name in ("image", "anchor", "noisy", "clean")]
    assert min(views) > 10  # grey levels of standard deviation: none of them is blank
    assert page.locator("#members canvas").count() == 3
    assert page.locator("#traces canvas").count() == 5  # the anchor's gate, and four NBP surfaces
    mask = np.asarray(Image.open(saved(page, "#save-mask", tmp_path)))
    report = json.loads(saved(page, "#save-report", tmp_path).read_text())
    assert mask.shape == (200, 200)
    assert np.array_equal(decode_runs(report["mask"]["runs"], (200, 200)), mask)
    assert report["areas"]["lesion"]["pixels"] == np.count_nonzero(mask)
    # The browser itself looks for a new service worker after loading.
    assert set(served.requests[before:]) <= {"GET /sw.js"}
    assert {request.split()[0] for request in served.requests} == {"GET"}
    assert page.hosts == {served.address.split("/")[2]}


SPREAD = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const grey = Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
    const mean = grey.reduce((a, b) => a + b, 0) / grey.length;
    return Math.sqrt(grey.reduce((a, b) => a + (b - mean) ** 2, 0) / grey.length);
}"""


def test_a_run_can_be_cancelled_and_begun_again(page):
    page.fill("[name=members]", "4")
    page.fill("[name=steps]", "50")
    page.click("#run")
    page.wait_for_selector("#status:has-text(' of 50')")  # of any step: a fast processor has left the first one already
    page.click("#cancel")
    page.wait_for_selector("#run:enabled")
    assert "Cancelled" in page.inner_text("#status")
    assert page.is_hidden("#result")
    assert 1 <= int(page.get_attribute("#line", "max")) < 50
    run(page)


def test_a_run_keeps_its_slice_and_waits_for_an_open_one(page, tmp_path):
    path = tmp_path / "volume.nii.gz"
    sitk.WriteImage(
        sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 9, (40, 32, 24)).astype(np.float32)), path
    )
    choose(page, path)
    assert page.evaluate(MOVED.format(3))  # Run waits until the slice has been read
    page.wait_for_selector("#run:enabled")
    page.fill("[name=members]", "2")
    page.fill("[name=steps]", "8")
    page.click("#run")
    page.wait_for_selector("#status:has-text(' of 8')")
    inputs = ("slice", "axis", "low", "high", "file", "report-file", "model")
    assert [name for name in inputs if page.is_enabled(f"#{name}")] == []
    page.evaluate(MOVED.format(5))  # even where the event comes through
    page.wait_for_selector("#result:visible")
    report = json.loads(saved(page, "#save-report", tmp_path).read_text())
    assert report["picture"]["index"] == 3
    assert page.inner_text("#slice-label") == "Slice 4 of 40"
    assert [name for name in inputs if page.is_disabled(f"#{name}")] == []


MOVED = """(() => {{
    const slice = document.querySelector("#slice");
    slice.value = {};
    slice.dispatchEvent(new Event("input"));
    return document.querySelector("#run").disabled;
}})()"""


def test_both_languages_say_everything(page):
    page.click("[data-language=zh]")
    assert "仅供科研与教学" in page.inner_text(".notice")
    assert "<" not in page.inner_text(".notice") + page.inner_text(".privacy")
    assert "图像不会上传" in page.inner_text(".privacy")
    run(page)
    chinese = page.inner_text("body")
    assert "分歧" in chinese
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.click("[data-language=en]")
    english = page.inner_text("body").replace("中文", "")
    assert "<" not in page.inner_text(".notice")
    assert "Disagreement" in english
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english)
    assert "web." not in english + chinese  # no key without a sentence
    assert "settings." not in english + chinese


def test_another_task_opens_its_own_example(page):
    page.select_option("#model", MODELS[1])
    page.wait_for_selector(f"body[data-ready='{MODELS[1]}']")
    page.wait_for_selector("#run:enabled")
    assert "optic disc and cup" in page.inner_text("#chosen")
    run(page)
    assert "Dice" in page.inner_text("#areas")
    page.select_option("#model", MODELS[2])  # of another task again
    page.wait_for_selector(f"body[data-ready='{MODELS[2]}']")
    assert "skin lesion" in page.inner_text("#chosen")


def test_a_model_that_cannot_be_loaded_leaves_the_last_one_chosen(browser, served, tmp_path):
    def sagittal(route):
        entries = json.loads((route.fetch()).text())
        route.fulfill(json=[{**entry, "axis": 0 if entry["name"] == MODELS[1] else 2} for entry in entries])

    routes = [("**/models.json", sagittal), (f"**/models/{MODELS[1]}/*", lambda route: route.abort())]
    page = opened(browser, served.address, "&lang=zh", routes, service_workers="block")
    path = tmp_path / "volume.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((40, 32, 24), np.float32)), path)
    choose(page, path)
    page.select_option("#model", MODELS[1])
    page.wait_for_selector("#error:has-text('请检查网络')")
    assert page.input_value("#model") == MODELS[0]
    page.wait_for_selector("#run:enabled")
    page.unroute(routes[1][0])
    page.select_option("#model", MODELS[1])
    page.wait_for_selector(f"body[data-ready='{MODELS[1]}']")
    assert page.is_hidden("#error")
    assert (page.input_value("#axis"), page.get_attribute("#slice", "max")) == ("0", "23")  # its own plane
    page.context.close()


@pytest.mark.parametrize("late", ["model", "example"])
def test_a_first_model_that_cannot_be_loaded_is_loaded_again_on_request(browser, served, late):
    """The sentence and the button stay when the example opens after the model has failed."""
    context = browser.new_context(locale="en-US", service_workers="block")
    context.set_default_timeout(READY)
    page = context.new_page()
    held = []  # requests of what is to come last

    def hold(route: "sync_api.Route") -> None:
        held.append(route)

    page.route(f"**/models/{MODELS[0]}/*", hold if late == "model" else lambda route: route.abort())
    if late == "example":
        page.route("**/examples/*.png", hold)
    page.goto(f"{served.address}?backend=wasm-1")
    if late == "model":
        page.wait_for_selector("#chosen:has-text('Synthetic example')")
    else:
        page.wait_for_selector("#again:visible")
    for route in held:
        route.abort() if late == "model" else route.continue_()
    page.wait_for_selector("#chosen:has-text('Synthetic example')")
    page.wait_for_selector("#error:has-text('check the connection')")
    assert page.inner_text("#status") == ""
    page.unroute("**/examples/*.png")
    page.unroute(f"**/models/{MODELS[0]}/*")
    page.click("#again:has-text('Try again')")
    page.wait_for_selector(f"body[data-ready='{MODELS[0]}']")
    page.wait_for_selector("#run:enabled")
    assert page.is_hidden("#error")
    assert page.is_hidden("#again")
    page.route("**/models.json", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#error:has-text('reload the page')")
    context.close()


def test_a_class_without_reference_has_no_dice_and_an_enlarged_image_says_so(browser, served):
    blank = io.BytesIO()
    Image.fromarray(np.zeros((256, 256), np.uint8)).save(blank, "PNG")

    def half(route):
        facts = json.loads(route.fetch().text())
        route.fulfill(json={**facts, "domain": {**facts["domain"], "field": 0.5}})

    routes = [
        ("**/examples/*-mask.png", lambda route: route.fulfill(body=blank.getvalue())),
        ("**/model.json", half),
    ]
    page = opened(browser, served.address, "", routes, service_workers="block")
    run(page)
    assert page.inner_text("#areas tr:nth-child(2) td:nth-child(2)") == "–"
    assert page.inner_text("#image-title").startswith("Middle of the image, enlarged")
    page.context.close()


def test_after_the_first_visit_it_works_without_a_server(browser, site):
    served = Served(site)
    page = opened(browser, served.address, "&lang=zh")
    assert "仅供科研与教学" in page.inner_text(".notice")
    page.click("[data-language=en]")
    page.wait_for_selector("#offline:has-text('Works offline')")
    served.close()
    page.reload()
    page.wait_for_selector("body[data-ready='skin-lesion-v2']")
    page.wait_for_selector("#run:enabled")
    run(page)
    assert page.evaluate("crossOriginIsolated")  # the service worker gives the headers that threads need
    assert page.complaints == []
    page.context.close()


def test_a_report_from_the_browser_replays_on_the_command_line(page, tmp_path):
    image = phantom(tmp_path)
    choose(page, image)
    page.fill("[name=seed]", "4294967301")
    page.select_option("[name=sampler]", "dpm-solver++")
    page.fill("[name=anchor_weight]", "0.25")
    run(page, members=3, steps=4)
    report = saved(page, "#save-report", tmp_path)
    told = segment(image, "--replay", report, "--out", tmp_path / "out", "--device", "cpu")
    assert "the same mask" in told
    ours = np.asarray(Image.open(tmp_path / "out" / "image_mask.png"))
    theirs = decode_runs(json.loads(report.read_text())["mask"]["runs"], (256, 256))
    assert agreement(ours, theirs) >= 0.999


@pytest.mark.parametrize("model", [MODELS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS[1:])])
def test_a_report_from_the_command_line_replays_in_the_browser(page, tmp_path, model):
    image = phantom(tmp_path, "optic-disc-cup" if model.startswith("optic") else "skin-lesion")
    settings = ["--members", "3", "--steps", "3", "--eta", "0.3", "--seed", "7", "--device", "cpu"]
    segment(image, "--checkpoint", model, "--out", tmp_path, *settings)
    page.set_input_files("#report-file", tmp_path / "image.json")
    page.wait_for_selector(f"body[data-ready='{model}']")
    page.wait_for_selector("#report-note:has-text('Report loaded')")
    page.click("#run")  # on the example
    page.wait_for_selector("#error:has-text('not the image of the report')")
    choose(page, image)
    page.click("#run")
    page.wait_for_selector("#verdict:visible")
    assert page.inner_text("#verdict").startswith("The report is confirmed")


def test_a_report_and_its_settings_can_be_left(page, tmp_path):
    run(page)
    facts = json.loads(saved(page, "#save-report", tmp_path).read_text())
    path = tmp_path / "report.json"

    def load(**settings):
        path.write_text(json.dumps({**facts, "settings": {**facts["settings"], **settings}}))
        page.set_input_files("#report-file", path)
        page.wait_for_selector("#report-note:has-text('Report loaded')")
        page.wait_for_selector("#run:enabled")

    load()
    page.click("#run")
    page.wait_for_selector("#verdict:visible")
    page.click("#examples button:nth-child(2)")  # the replay is over
    page.wait_for_selector("#result", state="hidden")
    page.click("#run")
    page.wait_for_selector("#result:visible")
    load()
    page.click("#run")
    page.wait_for_selector("#error:has-text('discard the report')")
    page.click("#report-leave")
    assert page.is_hidden("#error")
    assert page.is_hidden("#report-leave")
    load(members=16, anchor_weight=0.33)
    page.select_option("#model", MODELS[3])  # has neither members nor an anchor
    page.wait_for_selector(f"body[data-ready='{MODELS[3]}']")
    page.click("#run")
    page.wait_for_selector("#result:visible")
    assert page.inner_text("#anchor-title") == "Predicted mask"
    page.select_option("#model", MODELS[0])
    page.wait_for_selector(f"body[data-ready='{MODELS[0]}']")
    assert [page.input_value(f"[name={name}]") for name in ("members", "anchor_weight")] == ["5", ""]


def test_a_refused_setting_is_shown_even_if_folded(page):
    page.fill("[name=anchor_weight]", "0.33")
    page.click("#more summary")
    run(page)
    page.eval_on_selector("[name=anchor_weight]", "field => (field.value = 3)")
    page.click("#run")
    assert page.get_attribute("#more", "open") is not None
    assert page.evaluate("document.activeElement.name") == "anchor_weight"
    page.fill("[name=anchor_weight]", "")


def test_a_report_that_the_page_cannot_repeat_is_refused(page, tmp_path):
    path = tmp_path / "report.json"
    known = {"settings": {"seed": 0}, "checkpoint": {"sha256": "0"}, "mask": {"sha256": "0"}, "picture": {}}
    for facts, sentence in (
        ("nonsense", "This is no report"),
        ({**known, "settings": {"sampler": "ddpm"}}, "the DDPM sampler"),
        ({**known, "settings": {"switches": {"nbp": False}}}, "changes components"),
        ({**known, "dtype": "bfloat16"}, "not computed in float32"),
        (known, "not on this page"),
    ):
        path.write_text(facts if isinstance(facts, str) else json.dumps(facts))
        page.set_input_files("#report-file", path)
        page.wait_for_selector(f"#error:has-text('{sentence}')")


def test_a_report_is_replayed_at_its_own_resolution_and_temperature(page, tmp_path):
    image = phantom(tmp_path)
    choose(page, image)
    run(page)
    facts = json.loads(saved(page, "#save-report", tmp_path).read_text())
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({**facts, "settings": {**facts["settings"], "size": 128}}))
    page.set_input_files("#report-file", path)
    page.wait_for_selector("#report-note:has-text('Report loaded')")
    page.click("#run")
    page.wait_for_selector("#error:has-text('another network resolution')")
    path.write_text(json.dumps({**facts, "temperature": facts["temperature"] + 1}))
    page.set_input_files("#report-file", path)
    page.wait_for_selector("#error", state="hidden")
    page.click("#run")
    page.wait_for_selector("#verdict:visible")
    replayed = json.loads(saved(page, "#save-report", tmp_path).read_text())
    assert replayed["temperature"] == facts["temperature"] + 1


OPEN = """async ([data, axis, rule]) => {
    const { Engine } = await import("/engine.js");
    globalThis.engine ??= new Engine();
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const { picture } = await engine.open(bytes, axis, rule);
    const digest = await crypto.subtle.digest("SHA-256", picture.pixels);
    const sha256 = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return [picture.height, picture.width, picture.index, picture.window, sha256, picture.spacing];
}"""


def in_browser(page, path, axis=2, rule=None):
    data = base64.b64encode(path.read_bytes()).decode()
    return page.evaluate(OPEN, [data, axis, None if rule is None else asdict(rule)])


def same_picture(page, path, axis=2, rule=None):
    """The browser reads the very pixels that the package reads."""
    height, width, index, window, sha256, spacing = in_browser(page, path, axis, rule)
    picture = read(path, axis=axis, window=rule)
    assert (height, width, index) == (picture.height, picture.width, picture.slice_index)
    assert window == (None if picture.window is None else pytest.approx(picture.window))
    assert sha256 == picture.ref.sha256
    assert (spacing is None) == (picture.spacing_mm is None)
    if spacing:
        assert spacing == pytest.approx(picture.spacing_mm, rel=1e-5)


def test_flat_pictures_are_read_alike(page, tmp_path):
    rng = np.random.default_rng(0)
    smooth = np.asarray(
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((90, 60), Image.Resampling.BICUBIC)
    )
    path = tmp_path / "image"
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = (smooth[..., 0].astype(np.uint16) * 200) + 1000
    clear = np.dstack([smooth, np.full(smooth.shape[:2], 255, np.uint8)])
    for image, kind, options in (
        (Image.fromarray(smooth), "PNG", {}),
        (Image.fromarray(smooth), "JPEG", {"quality": 90}),
        (Image.fromarray(smooth), "JPEG", {"quality": 75, "exif": exif}),
        (Image.fromarray(smooth[..., 0]), "JPEG", {}),
        (Image.fromarray(smooth[..., 0]), "PNG", {}),
        (Image.fromarray(deep), "PNG", {}),
        (Image.fromarray(clear), "PNG", {}),
        (Image.fromarray(smooth).convert("P"), "PNG", {}),
    ):
        image.save(path, kind, **options)
        same_picture(page, path)


@pytest.mark.parametrize(
    "direction",
    [
        (1, 0, 0, 0, 1, 0, 0, 0, 1),
        (-1, 0, 0, 0, -1, 0, 0, 0, 1),
        (0, 0, 1, 1, 0, 0, 0, -1, 0),
        (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1),
    ],
)
def test_nifti_volumes_are_read_alike(page, tmp_path, direction):
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(0, 500, (12, 10, 14)).astype(np.int16))
    image.SetDirection(direction)
    image.SetSpacing((1.5, 0.7, 2.0))
    image.SetOrigin((3, -20, 7))
    path = tmp_path / "volume.nii.gz"
    sitk.WriteImage(image, path)
    for axis in (0, 1, 2):
        same_picture(page, path, axis)
        same_picture(page, path, axis, intensity_of("abdomen-ct"))
    assert read_volume(path).follows(intensity_of("abdomen-ct"))


def test_dicom_images_are_read_alike(page, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

    rng = np.random.default_rng(0)

    def written(pixels, compress=False, **facts):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.Modality = "CT"
        data.Rows, data.Columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[-3:-1]
        data.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
        data.PhotometricInterpretation = "RGB" if data.SamplesPerPixel == 3 else "MONOCHROME2"
        if data.SamplesPerPixel == 3:
            data.PlanarConfiguration = 0
        data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.PixelData = pixels.tobytes()
        for name, value in facts.items():
            setattr(data, name, value)
        if compress:
            data.compress(RLELossless)
        path = tmp_path / "image.dcm"
        data.save_as(path, enforce_file_format=True)
        return path

    grey = rng.integers(-1000, 2000, (20, 24)).astype(np.int16)
    byte = rng.integers(0, 256, (20, 24)).astype(np.uint8)
    scaled = {"RescaleSlope": "2", "RescaleIntercept": "-24", "PixelSpacing": ["0.5", "0.75"]}
    window = {"WindowCenter": "40", "WindowWidth": "400"}
    for pixels, compress, facts in (
        (grey, False, {}),
        (grey, False, {**scaled, **window}),
        (grey, True, {**scaled, **window}),
        ((grey + 1000).astype(np.uint16), False, {"PhotometricInterpretation": "MONOCHROME1", **window}),
        (byte, False, {}),
        (rng.integers(0, 256, (20, 24, 3)).astype(np.uint8), False, {}),
        (rng.integers(0, 256, (4, 20, 24)).astype(np.uint8), False, {"NumberOfFrames": "4"}),
    ):
        same_picture(page, written(pixels, compress, **facts))


def test_files_that_are_no_image_are_refused_in_one_sentence(page, tmp_path):
    png = io.BytesIO()
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(png, "PNG")
    tiny = io.BytesIO()
    Image.fromarray(np.zeros((4, 40), np.uint8)).save(tiny, "PNG")
    path = tmp_path / "file"
    for content, sentence in (
        (b"", "The file is empty"),
        (b"hello", "no image that can be read"),
        (b"II*\0" + b"\0" * 20, "TIFF"),
        (png.getvalue()[:60], "damaged"),
        (b"\0" * 128 + b"DICM" + b"\0" * 40, "DICOM file holds no image"),
        (b"\x1f\x8b" + b"\0" * 40, "damaged"),
        (tiny.getvalue(), "too small"),
    ):
        path.write_bytes(content)
        page.set_input_files("#file", path)
        page.wait_for_selector(f"#error:has-text('{sentence}')")
    assert page.is_disabled("#run") or page.inner_text("#chosen")  # what was open before may still be run


def test_the_page_can_be_read_and_worked_by_everybody(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    run(page)
    for size in ((1440, 900), (390, 844)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        found = axe.run(page).response["violations"]
        assert [(entry["id"], [node["html"] for node in entry["nodes"]]) for entry in found] == []
