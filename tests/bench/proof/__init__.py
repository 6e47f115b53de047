# SPDX-License-Identifier: Apache-2.0
"""Worlds with a truth that the accounting does not see, for `make bench-proof`."""
