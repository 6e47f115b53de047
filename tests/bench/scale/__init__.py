# SPDX-License-Identifier: Apache-2.0
"""A crowd of held work, who watches it go, and gauges, for `bench_scale.py`."""
