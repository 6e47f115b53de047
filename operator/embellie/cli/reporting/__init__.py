# SPDX-License-Identifier: Apache-2.0
"""Reports out of a ledger: read, add up, replay, refuse, and write."""
