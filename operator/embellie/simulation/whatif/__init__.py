# SPDX-License-Identifier: Apache-2.0
"""What would have happened here: replays of a job trace and a history of carbon intensity, under any policy."""
