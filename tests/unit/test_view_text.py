"""What workers print cannot touch the terminal, and TensorFlow's start-up takes one line of it."""

from __future__ import annotations

import io
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.view.noise import Folder, is_noise
from launcher.view.text import neutral, write

STARTUP = Path(__file__).parent / "data" / "tensorflow_2_21_startup.log"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"plain\ttext", "plain\ttext"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[2J\x1b[Hgone?", "gone?"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]0;never ended", "␛]0;never ended"),
        (b"bell\x07, null\x00", "bell␇, null␀"),
        (b"secret\rinnocent", "secret␍innocent"),
        ("C1 \x9b2J".encode(), "C1 <009b>2J"),
        ("bidi \u202eevil\u2066".encode(), "bidi <202e>evil<2066>"),
        ("zero\u200bwidth \u2028".encode(), "zero<200b>width <2028>"),
        (b"not utf-8: \xff\xfe", "not utf-8: ��"),
        ("Größe 日本 ✓".encode(), "Größe 日本 ✓"),
        (b"10%\b\b\b20%", "10%20%"),
        (b"\x7f", "␡"),
    ],
)
def test_control_characters_are_shown_or_dropped_never_obeyed(printed: bytes, shown: str) -> None:
    assert neutral(printed) == shown


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_nothing_that_a_worker_prints_reaches_the_terminal_as_a_control_character(printed: bytes) -> None:
    shown = neutral(printed)
    assert [c for c in shown if c != "\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")] == []
    assert len(shown) <= 2000


def test_a_line_without_end_is_cut_and_costs_no_time() -> None:
    start = time.process_time()
    assert neutral(b"\x1b[" * 2_000_000, width=100).endswith("…")
    assert len(neutral("é" * 10_000_000, width=100)) == 100
    assert time.process_time() - start < 2


def test_a_stream_that_cannot_show_a_character_gets_it_escaped() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    write(out, "Größe ✓\n")
    out.flush()
    assert raw.getvalue() == b"Gr\\xf6\\xdfe \\u2713\n"


def test_the_start_of_a_real_worker_is_noise_but_for_what_it_printed_itself() -> None:
    lines = STARTUP.read_text().splitlines()
    assert len(lines) > 15
    assert [line for line in lines if not is_noise(line)] == ["value 3.1871156692504883"]


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-02 03:04:05.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
        "2026-01-02 03:04:05.1: E external/local_xla/xla/stream_executor/cuda/cuda_dnn.cc:8579] Unable to register "
        "cuDNN factory: Attempting to register factory for plugin cuDNN when one has already been registered",
        "W0000 00:00:1767323050.268258    5937 computation_placer.cc:177] computation placer already registered.",
        "2026-01-02 03:04:05.1: W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT Warning: Could not find "
        "TensorRT",
        "INFO:tensorflow:Using MirroredStrategy with devices ('/job:worker/replica:0/task:0/device:CPU:0',)",
        "I0000 00:00:1767323050.546696    5937 gpu_device.cc:2020] Created device /job:worker with 76000 MB memory",
    ],
)
def test_well_known_lines_of_other_machines_are_noise(line: str) -> None:
    assert is_noise(line)


def test_what_survivors_of_a_lost_peer_print_is_noise_but_for_the_trainers_own_line() -> None:
    lines = [
        "E0000 00:00:1795536408.560303   22620 ring_alg.cc:291] Aborting RingGather with UNAVAILABLE: recvmsg:"
        "Connection reset by peer",
        "Additional GRPC error information from remote target /job:worker/replica:0/task:1 while calling "
        "/tensorflow.WorkerService/RecvBuf:",
        ':UNKNOWN:Error received from peer  {grpc_message:"recvmsg:Connection reset by peer", grpc_status:14}',
        "E0000 00:00:1795536408.560359   22620 base_collective_executor.cc:252] BaseCollectiveExecutor::StartAbort "
        "UNAVAILABLE: recvmsg:Connection reset by peer",
        "W0000 00:00:1795536408.560545   23259 local_rendezvous.cc:412] Local rendezvous is aborting with status: "
        "UNAVAILABLE: Collective ops is aborted by: recvmsg:Connection reset by peer",
        "The error could be from a previous operation. Restart your program to reset.",
        "\t [[{{function_node while_body_383}}{{node while/CollectiveGatherV2}}]] [type.googleapis.com/tensorflow."
        "DerivedStatus='']",
        "a worker of the cluster is gone: recvmsg:Connection reset by peer (heard from rank 1)",
    ]
    assert [line for line in lines if not is_noise(line)] == lines[-1:]


@pytest.mark.parametrize(
    "line",
    [
        "E0000 00:00:1767323050.5    5937 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_OUT_OF_MEMORY",
        "2026-01-02 03:04:05.1: E tensorflow/core/distributed_runtime/rpc/grpc_server_lib.cc:606] Could not start gRPC "
        "server",
        "W0000 00:00:1767323050.5 5937 bfc_allocator.cc:501] Allocator (GPU_0_bfc) ran out of memory",
        "I0102 03:04:05.678901 140735 my_script.py:12] a user's own line through absl",
        "F0000 00:00:1767323050.5 5937 anything.cc:1] fatal",
        "Traceback (most recent call last):",
        "epoch 1: loss 0.5",
        "",
    ],
)
def test_errors_and_peoples_own_lines_are_not_noise(line: str) -> None:
    assert not is_noise(line)


def test_folded_lines_are_counted_once() -> None:
    folder = Folder()
    lines = STARTUP.read_text().splitlines()
    kept = [line for line in lines if folder.keep(line)]
    assert folder.notice() == f"({len(lines) - len(kept)} lines of TensorFlow's start-up folded; --verbose shows them)"
    assert folder.notice() == ""
    folder.keep(lines[0])
    assert folder.notice() == "(1 line of TensorFlow's own folded; --verbose shows it)"
