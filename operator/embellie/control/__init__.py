# SPDX-License-Identifier: Apache-2.0
"""The planning loop: snapshot, forecast, plan, shield, actuate. Thin; the rooms do the work."""
