# SPDX-License-Identifier: Apache-2.0
"""The ledger's side of the loop: decisions, runs and accounts, on a thread of their own."""
