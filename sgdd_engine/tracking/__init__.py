"""What a run records while it trains: its log, which every run has, and trackers that people look at.

Importing this loads neither torch nor the library of any tracker.
"""

from sgdd_engine.tracking.log import LOG, RunLog, read_log
from sgdd_engine.tracking.runs import RunSummary, different_settings, find_run, list_runs, summarize
from sgdd_engine.tracking.tensorboard import TensorBoard
from sgdd_engine.tracking.tracker import TRACKERS, TrackedRun, Tracker
from sgdd_engine.tracking.tracking import Tracking
from sgdd_engine.tracking.wandb import Wandb

__all__ = [
    "LOG",
    "TRACKERS",
    "RunLog",
    "RunSummary",
    "TensorBoard",
    "TrackedRun",
    "Tracker",
    "Tracking",
    "Wandb",
    "different_settings",
    "find_run",
    "list_runs",
    "read_log",
    "summarize",
]
