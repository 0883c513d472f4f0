"""Download and upload with the real Hub client, against a local server."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from loopback_hub import FIRST, SECOND, Hub, connect, serving
from safetensors.torch import save_file

from medsegdiff import shipped as shipping
from medsegdiff.checkpoint import CARD, CONFIG, WEIGHTS, CheckpointError, load, save
from medsegdiff.config import DiffusionConfig, Domain
from medsegdiff.hub import HubError, cached, find, push, resolve, shipped, weights_of
from medsegdiff.nn.build import build
from medsegdiff.pipeline import Segmenter
from medsegdiff.shipped import Published

NAME = "someone/lesions"


@pytest.fixture
def folder(tmp_path, v1_config) -> Path:
    """A checkpoint with its card, and files that nobody should fetch or publish."""
    save(
        tmp_path / "tiny",
        build(v1_config),
        model_config=v1_config,
        diffusion=DiffusionConfig(),
        domain=Domain(task="lesion", modality="dermoscopy", labels=("lesion",)),
        training={},
    )
    (tmp_path / "tiny" / CARD).write_text("---\nlicense: mit\n---\nA card.\n")
    (tmp_path / "tiny" / "optimizer.pt").write_bytes(b"a pickle")
    return tmp_path / "tiny"


@pytest.fixture
def hub(folder, monkeypatch) -> Iterator[Hub]:
    with serving() as server:
        connect(monkeypatch, server.url)
        server.commits[NAME] = {FIRST: {path.name: path.read_bytes() for path in folder.iterdir()}}
        yield server
        huggingface_hub.utils.close_session()


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def test_a_folder_and_a_shipped_name_need_no_hub(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert resolve("tiny") == Path("tiny")
    for name in shipped():
        assert (resolve(name) / CONFIG).is_file()


@pytest.mark.parametrize(
    ("source", "revision", "sentence"),
    [
        ("nowhere", None, "'nowhere' is no folder, no shipped checkpoint"),
        ("../up/and/away", None, "no owner/name"),
        ("..", "main", "no owner/name"),
        ("a/b@main", "main", "already names a revision"),
    ],
)
def test_an_invalid_source_is_refused(source, revision, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        resolve(source, revision)


@pytest.mark.slow
@pytest.mark.parametrize("source", [f"{NAME}@{FIRST}", f"{NAME}@main", NAME])
def test_a_repository_is_fetched_once_and_then_found_without_a_request(hub, cache, folder, source):
    fetched = resolve(source, cache=cache, endpoint=hub.url)
    assert {path.name for path in fetched.iterdir()} == {WEIGHTS, CONFIG, CARD}
    assert load(fetched).digest == load(folder).digest
    hub.requests.clear()
    assert resolve(source, cache=cache, endpoint=hub.url) == fetched
    assert resolve(NAME, source.partition("@")[2] or None, cache=cache, endpoint=hub.url) == fetched
    assert not hub.requests


def test_a_commit_in_the_cache_is_not_another_commit(hub, cache):
    hub.commits[NAME][SECOND] = hub.commits[NAME][FIRST] | {CARD: b"a better card"}
    assert resolve(NAME, cache=cache, endpoint=hub.url).name == SECOND
    assert resolve(f"{NAME}@{FIRST}", cache=cache, endpoint=hub.url).name == FIRST


def test_half_a_cache_is_completed(hub, cache):
    fetched = resolve(NAME, cache=cache, endpoint=hub.url)
    (fetched / CONFIG).unlink()
    assert load(resolve(NAME, cache=cache, endpoint=hub.url))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("someone/else", "someone/else is neither a folder here nor a repository on http://127"),
        (f"{NAME}@{SECOND}", f"{NAME} has no revision '{SECOND}'"),
        (f"{NAME}@v9", f"{NAME} has no revision 'v9'"),
    ],
)
def test_what_is_not_on_the_hub_is_named(hub, cache, source, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        resolve(source, cache=cache, endpoint=hub.url)


def test_a_repository_without_the_files_is_refused_before_anything_is_fetched(hub, cache):
    files = hub.commits[NAME][FIRST]
    for held, sentence in (
        ({CONFIG: b"{}", "pytorch_model.bin": b""}, "has no model.safetensors but pytorch_model.bin, a pickle"),
        ({WEIGHTS: files[WEIGHTS]}, "has no config.json; "),
    ):
        hub.commits[NAME] = {FIRST: held}
        with pytest.raises(CheckpointError, match=sentence):
            resolve(NAME, cache=cache, endpoint=hub.url)
    assert not any("/resolve/" in request for request in hub.requests)


def test_a_file_that_arrives_short_is_not_used(hub, cache):
    hub.cut.add(WEIGHTS)
    with pytest.raises(CheckpointError, match=rf"{NAME} could not be fetched whole \(.*{WEIGHTS}.*\); try again"):
        resolve(NAME, cache=cache, endpoint=hub.url)
    hub.cut.clear()
    assert load(resolve(NAME, cache=cache, endpoint=hub.url))


@pytest.mark.parametrize("change", ["cut short", "has the sha256"])
def test_weights_damaged_before_they_were_published_are_refused_when_loaded(hub, cache, folder, change):
    files = hub.commits[NAME][FIRST]
    if change == "cut short":
        files[WEIGHTS] = files[WEIGHTS][:-10]
    else:
        save_file({name: t + 1 for name, t in load(folder).model.state_dict().items()}, folder / WEIGHTS)
        files[WEIGHTS] = (folder / WEIGHTS).read_bytes()
    fetched = resolve(NAME, cache=cache, endpoint=hub.url)
    with pytest.raises(CheckpointError, match=change):
        load(fetched)


def test_a_refused_connection_fails_at_once(hub, cache):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(
        CheckpointError, match=r"is not on this machine and http://127.* did not answer \(ConnectError\)"
    ):
        resolve(NAME, cache=cache, endpoint=f"http://127.0.0.1:{port}")
    assert time.monotonic() - began < 10  # at once, but on a busy machine; the client's own downloads retry for 23 s


def test_a_silent_hub_times_out(hub, cache):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(CheckpointError, match="did not answer"):
            resolve(NAME, cache=cache, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.5)
        assert time.monotonic() - began < 10  # half a second, on a busy machine


def test_offline_mode_is_respected(hub, cache, monkeypatch):
    fetched = resolve(NAME, cache=cache, endpoint=hub.url)
    hub.requests.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert resolve(NAME, cache=cache, endpoint=hub.url) == fetched
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        resolve("someone/else", cache=cache, endpoint=hub.url)
    assert not hub.requests


def test_an_uploaded_checkpoint_can_be_loaded(hub, cache, folder):
    commit = push(folder, "me/mine", private=True)
    assert hub.created["me/mine"]["visibility"] == "private"
    assert set(hub.commits["me/mine"][commit.oid]) == {".gitattributes", WEIGHTS, CONFIG, CARD}  # and no pickle
    assert hub.modes == {WEIGHTS: "lfs", CONFIG: "regular", CARD: "regular"}
    fetched = load(resolve(f"me/mine@{commit.oid}", cache=cache))
    own = load(folder)
    assert fetched.digest == own.digest
    assert all(torch.equal(fetched.model.state_dict()[name], t) for name, t in own.model.state_dict().items())


def test_an_uploaded_card_loads_the_checkpoint_from_its_repository(hub, folder):
    own = 'Segmenter.from_pretrained("{0}")\npython -m medsegdiff evaluate --checkpoint {0} --data DATA\n'
    head = "---\nmodel_name: tiny\n---\n# tiny\n"
    (folder / CARD).write_text(head + own.format("tiny"))
    commit = push(folder, "me/mine")
    assert hub.commits["me/mine"][commit.oid][CARD].decode() == head + own.format("me/mine")
    assert (folder / CARD).read_text() == head + own.format("tiny")
    (folder / CARD).write_text("---\nname: [\n---\n")
    with pytest.raises(CheckpointError, match=r"YAML at the beginning of README\.md cannot be read"):
        push(folder, "me/mine")


@pytest.mark.slow
def test_a_segmenter_behaves_as_models_of_the_hub_do(hub, cache, folder, tmp_path):
    hub.token = "hf_right"
    own = Segmenter.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"refused me/mine \(401\); log in"):
        own.push_to_hub("me/mine", token="hf_wrong")
    address = own.push_to_hub("me/mine", token="hf_right", private=True, commit_message="First")
    commit = address.rpartition("/")[2]
    assert address == f"{hub.url}/me/mine/commit/{commit}"
    with pytest.raises(HubError, match="leave out local_files_only"):
        Segmenter.from_pretrained("me/mine", cache_dir=cache, local_files_only=True)
    fetched = Segmenter.from_pretrained("me/mine", revision=commit, token="hf_right", cache_dir=cache)
    assert fetched.checkpoint.digest == own.checkpoint.digest
    hub.requests.clear()
    again = Segmenter.from_pretrained("me/mine", revision=commit, cache_dir=str(cache), local_files_only=True)
    assert again.checkpoint.digest == own.checkpoint.digest
    assert not hub.requests
    Segmenter.from_pretrained("me/mine", revision=commit, cache_dir=cache, force_download=True)
    assert any(request.startswith("GET /cdn") for request in hub.requests)
    again.save_pretrained(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {WEIGHTS, CONFIG, CARD}
    assert load(tmp_path / "copy").digest == own.checkpoint.digest


@pytest.mark.slow
def test_an_upload_that_is_cut_off_once_succeeds_and_a_refused_one_leaves_no_commit(hub, folder):
    hub.resets = 1
    commit = push(folder, "me/mine").oid
    assert hub.commits["me/mine"][commit][WEIGHTS] == (folder / WEIGHTS).read_bytes()
    hub.objects.clear()
    hub.refuse_uploads = True
    with pytest.raises(
        CheckpointError, match=rf"was not uploaded whole \(Error while uploading '{WEIGHTS}'.*\); try again"
    ):
        push(folder, "me/other")
    assert set(hub.files("me/other")) == {".gitattributes"}


@pytest.fixture
def described(hub, folder, tmp_path, monkeypatch) -> Path:
    """The folder of a checkpoint whose weights are published, and only described here."""
    monkeypatch.setattr(shipping, "FOLDER", tmp_path / "checkpoints")
    here = tmp_path / "checkpoints" / "tiny"
    here.mkdir(parents=True)
    (here / CONFIG).write_bytes((folder / CONFIG).read_bytes())
    assert shipped() == []
    shipping.write_index({"tiny": Published(NAME, FIRST)})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return here


def test_weights_that_are_not_here_come_from_the_commit_they_were_published_as(hub, described, folder):
    hub.commits[NAME][SECOND] = hub.commits[NAME][FIRST] | {CARD: b"a better card"}
    assert shipped() == ["tiny"]
    assert resolve("tiny").name == FIRST
    assert Segmenter.from_pretrained("tiny").checkpoint.digest == load(folder).digest
    assert weights_of(described).name == FIRST
    hub.requests.clear()
    resolve("tiny", local_files_only=True)
    assert not hub.requests


def test_published_weights_must_have_the_digest_that_is_stated_here(hub, described):
    config = (described / CONFIG).read_text()
    (described / CONFIG).write_text(re.sub('"sha256": "[0-9a-f]+"', f'"sha256": "{"0" * 64}"', config))
    with pytest.raises(
        HubError, match=f"{NAME} has the weights .* at commit 111111111111, but tiny here has 000000000000"
    ):
        resolve("tiny")


def test_nothing_is_published_without_a_card_or_with_damage(hub, folder):
    (folder / CARD).unlink()
    with pytest.raises(CheckpointError, match=r"has no README\.md; write the model card"):
        push(folder, "me/mine", endpoint=hub.url)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="is a pickle"):
        push(folder, "me/mine", endpoint=hub.url)
    assert not hub.requests


def test_an_upload_without_a_name_or_network_is_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("mine", "me/mine@main"):
        with pytest.raises(CheckpointError, match="give owner/name"):
            push(folder, name)
    with pytest.raises(CheckpointError, match=r"me/mine was not uploaded: http://127\.0\.0\.1:9 did not answer"):
        push(folder, "me/mine", endpoint="http://127.0.0.1:9")  # the discard port, which is closed


def test_a_branch_follows_the_hub_when_asked_to_and_fetches_only_what_changed(hub, cache):
    assert resolve(NAME, cache=cache, endpoint=hub.url).name == FIRST
    hub.commits[NAME][SECOND] = hub.commits[NAME][FIRST] | {CARD: b"a better card"}
    assert resolve(NAME, cache=cache, endpoint=hub.url).name == FIRST
    hub.requests.clear()
    fetched = resolve(NAME, cache=cache, endpoint=hub.url, refresh=True)
    assert (fetched.name, (fetched / CARD).read_bytes()) == (SECOND, b"a better card")
    assert not any(request.startswith("GET /cdn") for request in hub.requests)  # the weights have the cached ETag
    hub.requests.clear()
    assert resolve(f"{NAME}@{FIRST}", cache=cache, endpoint=hub.url, refresh=True).name == FIRST
    assert not hub.requests  # a commit cannot change


def test_a_cached_branch_serves_when_the_hub_does_not_answer(hub, cache):
    fetched = resolve(NAME, cache=cache, endpoint=hub.url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        assert resolve(NAME, cache=cache, endpoint=nobody, refresh=True, seconds=0.3) == fetched
        assert time.monotonic() - began < 8


def test_what_is_too_large_is_refused_before_it_is_fetched(hub, cache):
    with pytest.raises(HubError, match=r"has \d+ MB, more than the limit of 0 MB") as refused:
        resolve(NAME, cache=cache, endpoint=hub.url, most=1000)
    assert refused.value.state == "size"
    assert not any("/resolve/" in request for request in hub.requests)
    assert resolve(NAME, cache=cache, endpoint=hub.url, most=100_000_000)


@pytest.mark.slow
def test_an_endless_download_is_abandoned(hub, cache):
    hub.slow = 4.0
    began = time.monotonic()
    with pytest.raises(HubError, match="takes longer than 0 s; the download continues") as refused:
        resolve(NAME, cache=cache, endpoint=hub.url, longest=0.2)
    assert refused.value.state == "time"
    assert time.monotonic() - began < 3.5
    hub.slow = 0.0
    time.sleep(5)  # what was left behind comes to an end before its folder is taken away
    assert load(resolve(NAME, cache=cache, endpoint=hub.url))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("held", "state"),
    [({"pytorch_model.bin": b""}, "pickle"), ({"README.md": b""}, "format"), (None, "missing")],
)
def test_every_refusal_has_its_state(hub, cache, held, state):
    hub.commits[NAME] = {FIRST: held or {}}
    with pytest.raises(HubError) as refused:
        resolve(NAME if held else "nobody/nothing", cache=cache, endpoint=hub.url)
    assert refused.value.state == state


def test_an_unreachable_hub_has_the_state_offline(cache):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(HubError) as refused:
        resolve(NAME, cache=cache, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)
    assert refused.value.state == "offline"


@pytest.mark.slow
def test_what_is_cached_is_listed_with_its_digest_and_found_by_it(hub, cache, folder):
    assert cached(cache) == ()
    hub.commits["someone/else"] = {FIRST: {CARD: b"no weights"}}
    digest = load(folder).digest
    resolve(NAME, cache=cache, endpoint=hub.url)
    (held,) = cached(cache)
    assert (held.repository, held.commit, held.branches, held.sha256) == (NAME, FIRST, ("main",), digest)
    assert held.size > (folder / WEIGHTS).stat().st_size
    assert find(digest, cache) == held.folder
    assert find("0" * 64, cache) is None
    for name in shipped():
        assert find(load(resolve(name)).digest, cache) == resolve(name)
