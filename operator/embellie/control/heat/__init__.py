# SPDX-License-Identifier: Apache-2.0
"""Heat over the turns: power and PUE as learnt, Prometheus' memory, and the controller that they feed."""
