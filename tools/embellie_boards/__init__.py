# SPDX-License-Identifier: Apache-2.0
"""Writes the Grafana boards that the chart ships, and the reference page of the metrics, from code.

python -m embellie_boards            write them
python -m embellie_boards --check    only say which file is out of date
"""
