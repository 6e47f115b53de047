# SPDX-License-Identifier: Apache-2.0
"""The nouns that the rooms hand each other: frozen dataclasses, no I/O, no wall clock."""
