# SPDX-License-Identifier: Apache-2.0
"""What shall be done: verdicts on waiting work, pauses of running work, and what is said of them. Pure."""
