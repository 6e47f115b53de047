# SPDX-License-Identifier: Apache-2.0
"""Property tests try the same examples on every machine; `make fuzz` looks for new ones."""

import os

from hypothesis import HealthCheck, settings

# No deadline: a busy machine is no finding.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("reproducible", PATIENT, derandomize=True)
settings.register_profile("fuzz", PATIENT, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))
