# SPDX-License-Identifier: Apache-2.0
"""The command `embellie`, and the same verbs as `kubectl embellie`."""
