# SPDX-License-Identifier: Apache-2.0
"""Embellie: decides when, where and at what power GPU training work runs."""

__version__ = "0.1.0"
