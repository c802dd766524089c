"""What results.json says about the machine."""

import subprocess
import sys

import numpy as np


def test_the_peak_memory_is_the_process_s_own_not_that_of_its_parent():
    ballast = np.ones(2**27)  # 1 GiB
    code = "from medjax.train.results import peak_memory_gb; print(peak_memory_gb())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.05 < float(child.stdout) < 0.8 < ballast.nbytes / 2**30
