# SPDX-License-Identifier: Apache-2.0
"""Where readings come from: one adapter per source behind one protocol, and one tidy frame that comes out of all."""
