import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# What a shell starts in the background ignores Ctrl-C, and so would all that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
