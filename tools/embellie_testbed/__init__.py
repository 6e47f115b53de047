# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes control plane on one small machine, for tests, the bench and the demo.

`build` makes the binaries from pinned Go modules, `controlplane` starts and stops them, `nodes` adds simulated GPU
nodes, `exporter` and `prometheus` give those nodes the metrics that real ones have, `cluster` leaves all of it running.
"""
