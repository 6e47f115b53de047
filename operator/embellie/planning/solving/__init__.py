# SPDX-License-Identifier: Apache-2.0
"""The solver: jobs x zones x slots as arrays, prices, places, and a proved bound. Knows no workload."""
