"""What holds for every test: no model hub, no paid endpoint, the same examples on every machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

# Benchmarks are scripts that find each other in their own folder.
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

# Libraries read these when they are imported, which test modules do later than this file.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tests run side by side, and for what is this small threads that wait for each other take most of the time.
os.environ["OMP_NUM_THREADS"] = "1"
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
    os.environ.pop(name, None)

# No deadline: a busy machine is not a bug. Derandomized: a test passes or fails the same way everywhere.
settings.register_profile("interalign", deadline=None, derandomize=True)
settings.load_profile("interalign")
