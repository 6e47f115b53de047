# SPDX-License-Identifier: Apache-2.0
"""Property tests try the same examples on every machine; `make fuzz` looks for new ones."""

import os

from hypothesis import settings

settings.register_profile("reproducible", derandomize=True)
settings.register_profile("fuzz", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))
