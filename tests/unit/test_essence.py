"""Long messages of TensorFlow's in one line."""

from __future__ import annotations

from worker.train.essence import essence, task_of

BROKEN = """Graph execution error:

Detected at node while/CollectiveGatherV2 defined at (most recent call last):
<stack traces unavailable>
Collective ops is aborted by: recvmsg:Connection reset by peer
Additional GRPC error information from remote target /job:worker/replica:0/task:1 while calling RecvBuf:
:UNKNOWN:Error received from peer  {grpc_message:"recvmsg:Connection reset by peer", grpc_status:14}
The error could be from a previous operation. Restart your program to reset.
\t [[{{node while/CollectiveGatherV2}}]] [Op:__inference_chunk_1234]"""

OF_A_PROGRAM = """Graph execution error:

Detected at node PyFunc defined at (most recent call last):
  File "data.py", line 7, in rows
2 root error(s) found.
ValueError: row 17 is no image
\t [[{{node PyFunc}}]] [Op:__inference_chunk_99]"""


def test_a_broken_collective_is_told_by_what_broke_it_and_who() -> None:
    assert essence(BROKEN) == "recvmsg:Connection reset by peer"
    assert task_of(BROKEN) == 1


def test_an_error_within_a_graph_is_told_by_the_error_and_not_by_its_place() -> None:
    assert essence(OF_A_PROGRAM) == "ValueError: row 17 is no image"
    assert task_of(OF_A_PROGRAM) is None


def test_a_plain_message_is_its_first_line() -> None:
    assert essence("OOM when allocating tensor\nwith shape[3]") == "OOM when allocating tensor"
    assert essence("") == ""


def test_a_message_of_nothing_but_headings_is_not_lost() -> None:
    assert essence("Graph execution error:") == "Graph execution error:"
