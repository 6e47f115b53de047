# SPDX-License-Identifier: Apache-2.0
"""The demo: two zones on two real grids, two days of real training jobs, one real control plane, one picture.

`scenario` says what happens, `run` brings the machinery up and takes it down, `feeder` submits, `observer` writes down
what really happened, `view` shows it, and `summary` sets it beside the same arrivals run first come first served.
"""
