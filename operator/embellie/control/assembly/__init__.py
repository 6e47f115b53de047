# SPDX-License-Identifier: Apache-2.0
"""What a turn knows: what is read of zones, sensors, nodes and pods, assembled into its Snapshot."""
