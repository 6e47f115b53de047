# SPDX-License-Identifier: Apache-2.0
"""Carrying decisions out: releases, pauses, caps and taints, with their Events and WorkloadPlans."""
