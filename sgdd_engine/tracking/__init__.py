"""What a run records while it trains: its log, which every run has, and trackers that people look at.

Importing this is quick: it loads neither torch nor the library of any tracker. `tracking.runs` summarises whole runs.
"""

from sgdd_engine.tracking.log import LOG, RunLog, read_log
from sgdd_engine.tracking.tensorboard import TensorBoard
from sgdd_engine.tracking.tracker import TRACKERS, TrackedRun, Tracker
from sgdd_engine.tracking.tracking import Tracking
from sgdd_engine.tracking.wandb import Wandb

__all__ = [
    "LOG",
    "TRACKERS",
    "RunLog",
    "TensorBoard",
    "TrackedRun",
    "Tracker",
    "Tracking",
    "Wandb",
    "read_log",
]
