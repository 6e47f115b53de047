# SPDX-License-Identifier: Apache-2.0
"""What work asked for: its annotations bounded by its policy, what like work took, what its tenant had."""
