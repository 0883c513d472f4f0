"""A server's limits: sizes of requests, closed endpoints, public addresses, unheard runs, memory of sessions."""

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from browser_input import turn

from app.gradio_ui import remote_files
from app.gradio_ui.visitor_queue import drop_oldest

pytestmark = pytest.mark.slow

PATIENT = {"timeout": 60}


@pytest.mark.slow
def test_painted_layers_are_not_taken_into_memory_and_large_bodies_are_refused(address):
    data = {"component_id": "1", "session_hash": "x", "fn_name": "accept_blobs", "type": "layer", "index": "60000000"}
    for path in ("component_server", "component_server/"):
        answer = httpx.post(f"{address}gradio_api/{path}", data=data | {"id": "a"}, files={"file": b"\0"}, **PATIENT)
        assert answer.status_code == 404
    answer = httpx.post(f"{address}gradio_api/queue/join", content=b"[" * 3 * 2**20, **PATIENT)
    assert answer.status_code == 413
    assert "larger than 2 MB" in answer.json()["detail"]


def test_every_answer_forbids_guessing_types_and_loading_from_other_hosts(address):
    answer = httpx.get(address, **PATIENT)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_program_without_an_image_gets_a_sentence(address):
    data = [None, "tiny", 1, 1, 0, "ddim", "mean", 0.0]
    asked = httpx.post(f"{address}gradio_api/call/segment", json={"data": data}, **PATIENT).json()
    answer = httpx.get(f"{address}gradio_api/call/segment/{asked['event_id']}", **PATIENT).text
    assert "no image was given; pass a file as `picture`" in answer


def test_a_seed_out_of_range_gives_a_sentence_and_frees_the_run_button(page):
    turn(page, seed=-5)
    page.locator("#run").click()
    page.wait_for_selector("text=seed is -5; choose 0 to 2147483647")
    page.wait_for_selector("#run:not([disabled]):not([data-waiting])")


@pytest.mark.parametrize(
    ("ip", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("168.63.129.16", False),
        ("100.64.0.1", False),
        ("192.0.0.8", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("224.0.0.1", False),
        ("169.254.169.254", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(ip, public):
    assert remote_files.is_public(ip) == public


def test_a_name_with_one_inner_address_is_not_asked(tmp_path, monkeypatch):
    async def both(*_, **__):
        return [(0, 0, 0, "", ("8.8.8.8", 0)), (0, 0, 0, "", ("10.0.0.1", 0))]

    async def resolved():
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        with pytest.raises(ValueError, match="open internet"):
            await remote_files._resolve("rebinding.example")

    with ThreadPoolExecutor(1) as pool:  # in this thread the loop of an open browser may be running
        pool.submit(asyncio.run, resolved()).result()


@pytest.mark.slow
def test_a_run_whose_answers_nobody_reads_is_ended_and_a_third_in_line_is_refused(address, lesion, ended, slow_steps):
    with lesion.open("rb") as held:
        (path,) = httpx.post(f"{address}gradio_api/upload", files={"files": held}, **PATIENT).json()
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "tiny", 1, 50, 0, "ddim", "mean", 0.0]
    asked = [
        httpx.post(
            f"{address}gradio_api/call/segment", json={"data": data}, headers={"Accept-Language": "zh"}, **PATIENT
        )
        for _ in range(6)
    ]
    refused = [answer.json()["detail"] for answer in asked if answer.status_code == 429]
    assert refused
    assert all("两次运行" in sentence for sentence in refused)
    until = time.monotonic() + 60
    while not ended and time.monotonic() < until:
        time.sleep(0.1)
    assert ended[0] < 52  # of the opening, 50 steps and the end


def test_sessions_used_longest_ago_are_dropped_first():
    def state(count):
        return SimpleNamespace(state_data={1: {"a": [np.zeros(count, np.uint8)]}, 2: None})

    names = {"old": state(60), "empty": state(0), "middle": state(30), "new": state(50)}
    holder = SimpleNamespace(lock=Lock(), session_data=OrderedDict(names), time_last_used=dict.fromkeys(names))
    drop_oldest(holder, 100)
    assert list(holder.session_data) == ["empty", "middle", "new"]
    drop_oldest(holder, 10)
    assert list(holder.session_data) == ["empty", "new"]
