# SPDX-License-Identifier: Apache-2.0
"""The smallest thing that can release what is held when the operator is gone.

It stands alone: `kubernetes` and the standard library, nothing else of the house, so that no fault there stops it.
"""
