"""The environment variables that workers are given. This table is the documentation's source too."""

from __future__ import annotations

TF_CONFIG = "TF_CONFIG"
RUN = "LAUNCHER_RUN"
MARK = "LAUNCHER_MARK"
HOST = "LAUNCHER_HOST"
RANK = "LAUNCHER_RANK"
WORLD_SIZE = "LAUNCHER_WORLD_SIZE"
GENERATION = "LAUNCHER_GENERATION"
CHECKPOINT_DIR = "LAUNCHER_CHECKPOINT_DIR"
RESUME_DIR = "LAUNCHER_RESUME_DIR"
OUTPUT_DIR = "LAUNCHER_OUTPUT_DIR"
PROGRESS_FILE = "LAUNCHER_PROGRESS_FILE"
CONTROL_FD = "LAUNCHER_CONTROL_FD"
STACKS_FILE = "LAUNCHER_STACKS_FILE"
TRAIN = "LAUNCHER_TRAIN"
DATA = "LAUNCHER_DATA_"  # and the name in capitals, `-` and `.` as `_`

PROSE = {
    TF_CONFIG: "TensorFlow's cluster spec and this worker's place in it, as JSON",
    RUN: "the run's name",
    MARK: "the mark by which every process of a run on this host is found",
    HOST: "the host's name in the spec",
    RANK: "this worker's number, from 0; 0 is the chief",
    WORLD_SIZE: "how many workers there are",
    GENERATION: "which life of the cluster this is, from 1",
    CHECKPOINT_DIR: "where this worker may write checkpoints",
    RESUME_DIR: "the checkpoint to go on from; empty at a fresh start",
    OUTPUT_DIR: "what is written here is kept with the run",
    PROGRESS_FILE: "JSON lines about epoch, step and loss are appended here (the built-in trainer does)",
    CONTROL_FD: "the descriptor from which the built-in trainer reads requests to stop",
    STACKS_FILE: "where the built-in trainer writes what its threads do when it is sent SIGUSR2",
    DATA + "NAME": "where the data that the spec calls NAME are on this host",
    TRAIN: "the built-in trainer's settings, as JSON",
}
