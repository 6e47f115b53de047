# SPDX-License-Identifier: Apache-2.0
"""What is left of each zone while a plan is made, and the cheapest free place of many jobs at once."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.options import Compiled
from embellie.planning.solving.problem import BoolArray, IntArray

Where: TypeAlias = slice | IntArray
"""Slots: a slice of a run, or the slot numbers of work in parts."""

_SLACK = 1e-6
"""Sums of GPUs and kW are compared with this much tolerance."""


class Room:
    """Free GPUs and free limit power by zone and slot. Zones that share a group share its power or heat.

    `limit[z]` is the tighter of power and heat, in kW of the zone's IT power, so that one comparison serves both.
    """

    def __init__(self, compiled: Compiled) -> None:
        zones = compiled.problem.zones
        self.free = np.full((2, compiled.zones, compiled.slots), np.inf)
        self.gpu, self.limit = self.free
        self.gpu[:] = zones.gpus
        self._factor = zones.power_factor
        self._power = np.full((compiled.zones, compiled.slots), np.inf)
        self._heat = np.full((compiled.zones, compiled.slots), np.inf)
        for z in range(compiled.zones):
            if zones.power_group[z] >= 0:
                self._power[z] = zones.power_kw[zones.power_group[z]] / zones.power_factor[z]
            if zones.heat_group[z] >= 0:
                self._heat[z] = zones.heat_kw[zones.heat_group[z]]
        np.minimum(self._power, self._heat, out=self.limit)
        self._ramped = zones.ramp_group >= 0
        self._most_start = np.full((compiled.zones, compiled.slots), np.inf)
        self._most_start[self._ramped] = np.maximum(zones.ramp_kw[zones.ramp_group[self._ramped]], 0.0)
        self.start = self._most_start.copy()
        self._serves = compiled.serves
        self.wanted = zones.wanted_kw.copy()
        """What is still wanted; below 0 where there is more, shape (rows of wanted power, T) [kW]."""
        self.ramp_peers = _peers(zones.ramp_group)
        self.power_peers = _peers(zones.power_group)
        self.heat_peers = _peers(zones.heat_group)
        self._shared = [len(a) + len(b) > 0 for a, b in zip(self.power_peers, self.heat_peers, strict=True)]

    def copy(self) -> "Room":
        """Return a room of its own with the same content."""
        other = object.__new__(Room)
        other.__dict__.update(self.__dict__)
        other.free = self.free.copy()
        other.gpu, other.limit = other.free
        other._power, other._heat = self._power.copy(), self._heat.copy()
        other.start, other.wanted = self.start.copy(), self.wanted.copy()
        return other

    def fits(self, zone: int, where: Where, limit_where: Where, gpus: float, kw: float) -> bool:
        """Return whether these slots have room now."""
        gpu, limit = self.gpu[zone][where], self.limit[zone][limit_where]
        if gpu.min(initial=np.inf) < gpus - _SLACK or limit.min(initial=np.inf) < kw - _SLACK:
            return False
        if not self._ramped[zone]:
            return True
        first = _firsts(where)
        return bool(np.all(self.start[zone, first] >= np.minimum(kw, self._most_start[zone, first]) - _SLACK))

    def take(self, zone: int, where: Where, limit_where: Where, gpus: float, kw: float) -> None:
        """Take room; with negative numbers give it back."""
        self.gpu[zone, where] -= gpus
        self.limit[zone, limit_where] -= kw
        if self._ramped[zone]:
            first = _firsts(where)
            taken = np.sign(kw) * np.minimum(abs(kw), self._most_start[zone, first])
            for peer in (zone, *self.ramp_peers[zone]):
                self.start[peer, first] -= taken
        if not self._shared[zone]:
            return
        self._power[zone, limit_where] -= kw
        self._heat[zone, limit_where] -= kw
        for peer in self.power_peers[zone]:
            self._power[peer, limit_where] -= kw * self._factor[zone] / self._factor[peer]
        for peer in self.heat_peers[zone]:
            self._heat[peer, limit_where] -= kw
        for peer in (zone, *self.power_peers[zone], *self.heat_peers[zone]):
            self.limit[peer, limit_where] = np.minimum(self._power[peer, limit_where], self._heat[peer, limit_where])

    def serve(self, zone: int, where: Where, kw: FloatArray) -> None:
        """Draw expected power in these slots, for all who want it; with negative numbers take it back."""
        for row, share in self._serves[zone]:
            self.wanted[row, where] -= share * kw

    def blocked(self, gpus: FloatArray, kw: FloatArray) -> npt.NDArray[np.bool_]:
        """Return where jobs lack GPUs or limit power, shape (2, n, Z, T)."""
        out = np.empty((2, gpus.shape[0], *self.gpu.shape), dtype=bool)
        np.less(self.gpu[None], (gpus - _SLACK)[:, None, None], out=out[0])
        np.less(self.limit[None], (kw - _SLACK)[:, None, None], out=out[1])
        return out

    def unstartable(self, kw: FloatArray) -> npt.NDArray[np.bool_] | None:
        """Return where jobs may not start because power would rise too fast, shape (n, Z, T); None: nowhere."""
        if not self._ramped.any():
            return None
        found: npt.NDArray[np.bool_] = self.start[None] < np.minimum(kw[:, None, None], self._most_start) - _SLACK
        return found


def _firsts(where: Where) -> IntArray:
    """Return the slots in which a place starts, and starts again."""
    if isinstance(where, slice):
        return np.array([where.start], dtype=np.int64)
    return where[np.concatenate(([True], np.diff(where) > 1))] if where.size else where


def _peers(group: IntArray) -> list[list[int]]:
    return [[int(o) for o in np.flatnonzero((group == g) & (g >= 0)) if o != z] for z, g in enumerate(group)]


def open_starts(room: Room, compiled: Compiled, rows: IntArray, own: BoolArray | None = None) -> BoolArray:
    """Return where runs have room for all they need, inside their windows and zones, shape (n, Z, T).

    `own`, shape (2, n, Z, T), marks what a job itself holds of GPUs and of limit power: that is free to it.
    """
    c = compiled
    bad = room.blocked(c.gpus[rows], c.limit_kw[rows])
    if own is not None:
        bad[0][own[0]] = False
        bad[1][own[1]] = False
    counts = np.zeros((2, rows.shape[0], c.zones, c.slots + 1), dtype=np.int16)
    np.cumsum(bad, axis=3, out=counts[..., 1:])
    ok = np.ones((rows.shape[0], c.zones, c.slots), dtype=bool)
    for layer, length in ((0, c.length), (1, c.limit_length)):
        end = c.ends[length[rows]][:, None, :]
        ok &= np.take_along_axis(counts[layer], np.broadcast_to(end, ok.shape), axis=2) == counts[layer][..., :-1]
    slot = np.arange(c.slots)
    closed = room.unstartable(c.limit_kw[rows])
    if closed is not None:
        if own is not None:
            closed[..., 1:] &= ~(own[0][..., 1:] & ~own[0][..., :-1])
            closed[..., 0] &= ~own[0][..., 0]
        ok &= ~closed
    inside = (slot >= c.release[rows][:, None]) & (slot <= c.latest[rows][:, None])
    ok &= inside[:, None, :]
    ok &= c.fits[rows][:, :, None]
    return ok


def open_slots(room: Room, compiled: Compiled, rows: IntArray, own: BoolArray | None = None) -> BoolArray:
    """Return which slots pausable jobs could use, shape (n, Z, T)."""
    c = compiled
    bad = room.blocked(c.gpus[rows], c.limit_kw[rows])
    if own is not None:
        bad[0][own[0]] = False
        bad[1][own[1]] = False
    ok = ~bad.any(axis=0)
    closed = room.unstartable(c.limit_kw[rows])
    if closed is not None:
        # It could run on through such a slot, but whether it will is not known before its slots are chosen.
        ok &= ~closed if own is None else ~closed | own[0]
    slot = np.arange(c.slots)
    inside = (slot >= c.release[rows][:, None]) & (slot < c.deadline[rows][:, None])
    inside &= (c.latest[rows] >= c.release[rows])[:, None]
    ok &= inside[:, None, :]
    ok &= c.fits[rows][:, :, None]
    return ok
