# SPDX-License-Identifier: Apache-2.0
"""What a turn tells: the statuses of zones and policies, and the metrics."""
