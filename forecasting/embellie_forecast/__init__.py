# SPDX-License-Identifier: Apache-2.0
"""Embellie's forecaster: when will the grid be clean? It needs no foreign API and knows nothing of Kubernetes."""
