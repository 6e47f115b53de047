# SPDX-License-Identifier: Apache-2.0
"""Trained models on disk, each with its card, loaded only if this installation wrote them."""

from embellie_forecast.registry.store import Registry, RegistryError

__all__ = ["Registry", "RegistryError"]
