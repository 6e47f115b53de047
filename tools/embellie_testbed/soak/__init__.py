# SPDX-License-Identifier: Apache-2.0
"""Random users and random trouble on a real control plane, and a judge that believes the API server's audit log alone.

    python -m embellie_testbed.soak --seed 7 --minutes 3        (`make soak SEEDS=3 MINUTES=3`)

`users`, `agents` and `weather` act as people and programs do; `trouble` breaks things and writes down what it broke,
and for how long; `judge` reads the audit log afterwards and holds every promise against it. What the product says about
itself is never asked, but where a promise is that it says something.
"""
