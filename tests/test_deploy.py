"""Publishing on the Hub: trees, uploads by the real client to a local server, failures, and what is fetched back."""

import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import huggingface_hub
import pytest
from huggingface_hub import ModelCard, SpaceCard, constants
from loopback_hub import Hub, connect, serving
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image

from medsegdiff import Segmenter, shipped
from medsegdiff.checkpoint import CARD, CONFIG, WEIGHTS
from medsegdiff.data.synthetic import draw
from scripts import deploy

ROOT = Path(__file__).parents[1]
V1, V2 = "skin-lesion-v1", "skin-lesion-v2"
SPACE = "me/demo"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


drawn_thumbnail = deploy.thumbnail
kept_thumbnail = cache(deploy.thumbnail)


@pytest.fixture(autouse=True)
def two_checkpoints(tmp_path, monkeypatch) -> Path:
    """Ship two checkpoints only, from a folder in which hub.json may be written."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name in (V1, V2, "domain"):
        (folder / name).symlink_to(ROOT / "checkpoints" / name)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.setattr(deploy, "thumbnail", lambda of: kept_thumbnail(of.resolve()))
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    with serving() as server:
        connect(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        server.token, server.owners = "hf_right", {"me"}
        yield server
        huggingface_hub.utils.close_session()


@pytest.fixture
def small(monkeypatch):
    """Stage three files instead of the whole Space."""

    def stage(folder: Path, name: str, kind: str, hardware: str) -> None:
        (folder / CARD).write_text(deploy.space_card(name, kind, hardware, []), encoding="utf-8")
        (folder / "image.png").write_bytes(b"\x89PNG\0")
        (folder / deploy.MARKERS[kind]).parent.mkdir(parents=True, exist_ok=True)
        (folder / deploy.MARKERS[kind]).touch()

    monkeypatch.setattr(deploy, "stage_space", stage)


def contents(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def is_binary(content: bytes) -> bool:
    try:
        return b"\0" in content or not content.decode()
    except UnicodeDecodeError:
        return True


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process that finds neither this repository nor the Hub."""
    dead = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_TOKEN")}
    return kept | dead | {"HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1"} | more


@pytest.mark.slow
def test_a_dry_run_writes_the_same_tree_twice_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(deploy, "thumbnail", drawn_thumbnail)
    folder = tmp_path / "out"
    assert deploy.main(["space", "--space", SPACE, "--dry", str(folder)]) == 0
    first = contents(folder)
    assert deploy.main(["space", "--space", SPACE, "--dry", str(folder)]) == 0
    assert contents(folder) == first
    assert {"app.py", "requirements.txt", CARD, "LICENSE.md", f"checkpoints/{V2}/{WEIGHTS}"} <= first.keys()
    strangers = ("tests/", "docs/", "benchmarks/", "scripts/", "web/", ".github/", "app/streamlit_ui/", "app/course/")
    assert [name for name in first if name.startswith(strangers) or "__pycache__" in name] == []
    assert deploy.main(["space", "--dry", str(ROOT / "docs")]) == 2
    assert "holds other files; choose an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "hardware"), [("page", "cpu-basic"), ("page", "zero-a10g"), ("course", "cpu-basic")])
def test_front_matter_and_requirements_are_what_a_space_accepts(kind, hardware):
    card = SpaceCard(deploy.space_card(SPACE, kind, hardware, []))
    space = card.data.to_dict()
    assert space["sdk"] in constants.SPACES_SDK_TYPES
    assert {space["colorFrom"], space["colorTo"]} <= COLOURS
    assert len(space["short_description"]) <= 60  # the Hub refuses longer ones
    assert space["suggested_hardware"] == hardware
    lines = deploy.requirements(kind, hardware).splitlines()
    named = {r.name: r for r in map(Requirement, (line for line in lines if not line.startswith("--")))}
    assert named["torch"].specifier.contains(deploy.TORCH)
    assert (lines[0] == f"--extra-index-url {deploy.CPU_INDEX}") == hardware.startswith("cpu")
    assert ("spaces" in named) == hardware.startswith("zero")
    if kind == "page":
        assert Version(space["sdk_version"]) in named["gradio"].specifier
        assert space["sdk_version"] == version("gradio")
    else:
        assert "gradio" not in named
        assert f"--server.port={space['app_port']}" in deploy.dockerfile()


@pytest.mark.slow
def test_the_browser_edition_is_staged_from_its_build(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(deploy, "ROOT", tmp_path)
    stage = ["space", "--kind", "static", "--dry", str(tmp_path / "out")]
    assert deploy.main(stage) == 2
    assert "build the browser edition first: make web" in capsys.readouterr().err
    site = tmp_path / "web" / "dist"
    site.mkdir(parents=True)
    (site / "index.html").write_text("<title>MedSegDiff</title>")
    (site / "models.json").write_text(json.dumps([{"name": V2}]))
    shutil.copyfile(ROOT / "LICENSE", tmp_path / "LICENSE")
    assert deploy.main(stage) == 0
    space = SpaceCard.load(tmp_path / "out" / CARD).data.to_dict()
    assert (space["sdk"], space["app_file"]) == ("static", "index.html")
    assert space["custom_headers"]["cross-origin-opener-policy"] == "same-origin"
    assert f"`{V2}`" in (tmp_path / "out" / "LICENSE.md").read_text()


def test_one_version_of_torch_is_installed_everywhere():
    for file in ("Makefile", "docker/app.Dockerfile", "docker/course.Dockerfile", ".ci/wheel.py"):
        found = re.findall(
            r"(?<![\w-])torch==([\d.]+)|^TORCH \?= (.*)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE
        )
        assert {one for pair in found for one in pair if one} == {deploy.TORCH}, file


@pytest.mark.slow
def test_a_space_is_uploaded_with_every_binary_file_by_lfs(hub, tmp_path, capsys):
    hub.stages = ["BUILDING", "APP_STARTING", "RUNNING"]
    assert deploy.main(["space", "--space", SPACE, "--dry", str(tmp_path / "out")]) == 0
    assert deploy.main(["space", "--space", SPACE]) == 0
    assert f"{hub.url}/spaces/{SPACE} is running" in capsys.readouterr().out
    assert hub.created[f"spaces/{SPACE}"]["sdk"] == "gradio"
    files = hub.files(f"spaces/{SPACE}")
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == contents(tmp_path / "out")
    assert [name for name, content in files.items() if is_binary(content) and hub.modes[name] != "lfs"] == []
    hub.requests.clear()
    assert deploy.main(["space", "--space", SPACE]) == 0  # again: nothing is sent twice
    assert not any(request.startswith("PUT") for request in hub.requests)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"token": "hf_other"}, "the Hub did not accept the token; log in with `hf auth login`, or set HF_TOKEN"),
        ({"owners": {"somebody"}}, "the token may not write there; use a token with write permission for me"),
        ({"commits": {f"spaces/{SPACE}": {"1" * 40: {"app.py": b"another"}}}}, "exists and is no page of this project"),
        ({"refuse_uploads": True}, "run the same command again, what has arrived is not sent twice"),
        ({"stages": ["BUILDING", "BUILD_ERROR"]}, "ended as BUILD_ERROR; the log is above"),
    ],
)
def test_failures_are_a_sentence_and_exit_status_2(hub, small, capsys, change, sentence):
    for name, value in change.items():
        setattr(hub, name, value)
    assert deploy.main(["space", "--space", SPACE]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert ("".join(hub.log) in error) == ("stages" in change)
    if "commits" in change:
        assert hub.files(f"spaces/{SPACE}") == {"app.py": b"another"}


def test_a_space_left_empty_by_a_refused_upload_is_completed(hub, small):
    hub.refuse_uploads = True
    assert deploy.main(["space", "--space", SPACE]) == 2
    hub.refuse_uploads = False
    assert hub.created[f"spaces/{SPACE}"]["hardware"] == "cpu-basic"
    assert deploy.main(["space", "--space", SPACE, "--hardware", "t4-small"]) == 0
    assert "image.png" in hub.files(f"spaces/{SPACE}")
    assert hub.created[f"spaces/{SPACE}"]["hardware"] == "t4-small"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["space"], "name the Space"),
        (["space", "--space", "demo"], "write owner/name"),
        (["space", "--space", SPACE, "--kind", "course", "--hardware", "zero-a10g"], "is for Gradio Spaces only"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused_before_anything_is_sent(hub, capsys, words, sentence):
    assert deploy.main(words) == 2
    assert sentence in capsys.readouterr().err
    assert not hub.requests


@pytest.mark.slow
def test_a_published_checkpoint_comes_back_and_its_card_is_complete(hub, tmp_path, monkeypatch, capsys):
    assert deploy.main(["hub", "--owner", "me", "--checkpoint", V2]) == 0
    repository, commit = f"me/medsegdiff-{V2}", shipped.published()[V2].revision
    files = hub.commits[repository][commit]
    assert set(files) == {".gitattributes", WEIGHTS, CONFIG, CARD, deploy.THUMBNAIL}
    assert {name for name in files if hub.modes.get(name) == "lfs"} == {WEIGHTS, deploy.THUMBNAIL}
    own = Segmenter.from_pretrained(ROOT / "checkpoints" / V2)
    assert shipped.published()[V2].sha256 == own.checkpoint.digest
    assert Segmenter.from_pretrained(repository, revision=commit).checkpoint.digest == own.checkpoint.digest

    card = ModelCard(files[CARD].decode())
    assert card.data["license"] == "cc0-1.0"
    assert card.data["thumbnail"].endswith(f"{repository}/resolve/main/{deploy.THUMBNAIL}")
    assert {row.dataset_split for row in card.data.eval_results or ()} == {"val"}
    assert Image.open(io.BytesIO(files[deploy.THUMBNAIL])).size == (768, 384)
    [example] = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert f'from_pretrained("{repository}")' in example
    Image.fromarray(draw("skin-lesion", seed=3).image).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(example, CARD, "exec"), {})
    assert "'lesion'" in capsys.readouterr().out


@pytest.mark.slow
def test_a_space_describes_published_checkpoints_and_fetches_their_weights(hub, tmp_path):
    assert deploy.main(["hub", "--owner", "me", "--checkpoint", V1, V2]) == 0
    tree = tmp_path / "out"
    assert deploy.main(["space", "--dry", str(tree)]) == 0
    space, at = SpaceCard.load(tree / CARD).data.to_dict(), shipped.published()[V1]
    assert space["models"] == [f"me/medsegdiff-{V1}", f"me/medsegdiff-{V2}"]
    assert space["preload_from_hub"] == [f"{at.repository} {WEIGHTS},{CONFIG},{CARD} {at.revision}"]
    assert (tree / "checkpoints" / V2 / WEIGHTS).is_file()
    assert not (tree / "checkpoints" / V1 / WEIGHTS).exists()
    code = (
        "import app.core.session as s, medsegdiff.hub as h; session = s.Session(device='cpu'); "
        f"print(h.__file__, session.segmenter('{V1}').checkpoint.digest)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env=environment(tmp_path / "home", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    where, digest = run.stdout.split()
    assert Path(where).is_relative_to(tree)
    assert digest == json.loads((ROOT / "checkpoints" / V1 / CONFIG).read_text())["weights"]["sha256"]


@pytest.mark.parametrize(("sha256", "carried"), [(None, False), ("0" * 64, True), ("", True)])
def test_a_space_carries_weights_that_changed_since_they_were_published(tmp_path, sha256, carried):
    digest = (
        json.loads((ROOT / "checkpoints" / V1 / CONFIG).read_text())["weights"]["sha256"] if sha256 is None else sha256
    )
    shipped.write_index({V1: shipped.Published(f"me/{V1}", "1" * 40, digest)})
    if not sha256:  # as written before the digest was stored
        rows = json.loads((shipped.FOLDER / shipped.INDEX).read_text())
        rows[V1] = {key: value for key, value in rows[V1].items() if value}
        (shipped.FOLDER / shipped.INDEX).write_text(json.dumps(rows))
    both = deploy.copy_checkpoints(tmp_path / "out")
    assert both == (([V1, V2], []) if carried else ([V2], [V1]))
    assert (tmp_path / "out" / "checkpoints" / V1 / WEIGHTS).is_file() == carried


@pytest.mark.slow
def test_a_server_started_from_the_tree_serves_the_page_offline(tmp_path):
    tree = tmp_path / "out"
    assert deploy.main(["space", "--dry", str(tree)]) == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)],
        cwd=tree,
        env=environment(tmp_path / "home", HF_HUB_OFFLINE="1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        page = answer(f"http://127.0.0.1:{port}/", server)
        assert b"MedSegDiff" in page
        endpoints = json.loads(answer(f"http://127.0.0.1:{port}/gradio_api/info", server))["named_endpoints"]
        assert "/segment" in endpoints
    finally:
        server.terminate()
        server.communicate(timeout=30)


def answer(url: str, server: subprocess.Popen) -> bytes:
    for _ in range(300):
        assert server.poll() is None, server.communicate()[1]
        try:
            with urlopen(url, timeout=30) as reply:
                return reply.read()
        except URLError:
            time.sleep(0.5)
    pytest.fail(f"{url} did not answer")


@pytest.mark.slow
def test_pointer_files_are_recognised_when_the_page_starts(tmp_path):
    tree = tmp_path / "out"
    assert deploy.main(["space", "--dry", str(tree)]) == 0
    weights = tree / "checkpoints" / V2 / WEIGHTS
    weights.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 7796090\n")
    run = subprocess.run([sys.executable, "app.py"], cwd=tree, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "1 files, for example" in run.stderr
    assert "run `git lfs install && git lfs pull` in the repository" in run.stderr
    shutil.rmtree(tree)
