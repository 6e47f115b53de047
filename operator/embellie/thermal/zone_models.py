# SPDX-License-Identifier: Apache-2.0
"""How thermal zones heat, learnt for all of them at once from what they draw and how warm they get.

Each zone is a first-order room, C dT/dt = P - (T - T_ref)/R, with its neighbours' heat reaching its inlets (row-wise
form of Tang, Gupta and Varsamopoulos, IEEE TPDS 2008):

    T = F_tau(T_ref) + offset + sum_j D_ij F_tau(P_j) + bias,   D >= 0,   F_tau: first-order filter, a = exp(-dt/tau).

For a fixed tau this is linear in (offset, D), so recursive least squares runs over a bank of time constants and the
one with the smallest recent error is used. Inputs are filtered and never the measured temperature, so quantisation
and noise do not bias the gains (output error), steps may be of any length, and 0 <= a < 1 by construction.

Nothing is learnt from a sample that is not fresh, that comes around a change of regime (fans, flow, throttling) or
soon after its sensor jumped, or while the power does not move; another topology forgets the zone, drift makes it forget
faster and say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.heat import ZoneHeatModel
from embellie.thermal.conformal import AdaptiveMargins
from embellie.thermal.recursive import RecursiveFit
from embellie.thermal.settings import ZoneSettings

BANK_S = (20.0, 60.0, 120.0, 240.0, 480.0, 900.0, 1800.0, 3600.0)
"""Time constants that are tried [s]: chassis and aisles to rooms and loops."""
EPS = 0.01
"""Miss rate of the margins."""
MAX_GAP_S = 600.0
"""After a longer silence the filters begin anew."""
_FORGETTING_S = 2.0 * 86400.0
"""Memory of the gains while power moves [s]."""
_EXCITATION_S = 7200.0
_ERROR_S = 6.0 * 3600.0
_BIAS_S = 600.0
_DRIFT_S = 1800.0
_SETTLE_S = 60.0
_TRUST_SAMPLES = 120.0
_TRUST_RELATIVE_SD = 0.2
_HUBER_SIGMAS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """Temperatures and what they may be wrong by; arrays of shape (steps, zones)."""

    temperature_c: FloatArray
    margin_c: FloatArray


@dataclass(slots=True, kw_only=True, eq=False)
class _Known:
    """What is known of each zone beside its regressions; the last axis of every other array is the zone."""

    theta: FloatArray
    """Parameters as last solved, by time constant, zone and parameter."""
    heat: FloatArray
    """Filtered heat, by time constant [kW]."""
    reference: FloatArray
    """Filtered reference, by time constant [degC]."""
    error: FloatArray
    """Recent mean square error, by time constant [K2]."""
    warm_s: FloatArray
    """For how long the filters have run [s]."""
    power_mean: FloatArray
    power_var: FloatArray
    bias: FloatArray
    """How much warmer the zone has been for minutes than its model says [K]."""
    slow: FloatArray
    """The same over half an hour, which tells drift [K]."""
    drifted: np.ndarray
    settled_at_s: FloatArray
    best: np.ndarray
    """Which time constant is used."""
    at_s: float | None = None

    def adopt(self, other: "_Known", mine: int, theirs: int) -> None:
        """Take over one zone's knowledge, but for the parameters, which are solved anew."""
        for field in fields(self):
            if field.name not in ("at_s", "theta"):
                getattr(self, field.name)[..., mine] = getattr(other, field.name)[..., theirs]


class ZoneModels:
    """The models of all zones; arrays have the order of `names`, NaN where nothing is known."""

    def __init__(self, settings: Sequence[ZoneSettings]) -> None:
        self.names = tuple(z.name for z in settings)
        self._index = {name: i for i, name in enumerate(self.names)}
        n, bank = len(self.names), len(BANK_S)
        most = max((len(z.neighbours) for z in settings), default=0)
        self._neighbour = np.full((n, most), -1)
        for i, zone in enumerate(settings):
            known = [self._index[name] for name in zone.neighbours if name in self._index and name != zone.name]
            self._neighbour[i, : len(known)] = known
        self._tau = np.array(BANK_S)
        self._settings = tuple(settings)
        prior = np.zeros((n, 2 + most))
        prior[:, 1] = [z.cooling.rise_k_per_kw for z in settings]
        scale_kw = np.array([max(1.0, z.cooling.capacity_kw or z.base_power_kw or 10.0) for z in settings])
        weight = np.empty((n, 2 + most))
        # A prior counts as few samples; neighbours need more evidence than the zone's own heat (ridge).
        weight[:, 0], weight[:, 1], weight[:, 2:] = 0.5, (0.02 * scale_kw**2), (0.2 * scale_kw**2)[:, None]
        lower = np.zeros((n, 2 + most))
        lower[:, 0] = -20.0
        self.fit = RecursiveFit((bank, n), prior, weight, lower)
        self._prior_tau = np.array([z.cooling.tau_s for z in settings])
        self._floor_kw = 0.02 * scale_kw
        self.scores = AdaptiveMargins(n, EPS, floor=np.array([z.limits.margin_k for z in settings]))
        self._regime: np.ndarray | None = None
        self._errors: FloatArray | None = None
        """Standard errors of the parameters as last solved."""
        self._moments = 0
        self.known = _Known(
            theta=self.fit.solve(),
            heat=np.full((bank, n), np.nan),
            reference=np.full((bank, n), np.nan),
            error=np.full((bank, n), np.nan),
            warm_s=np.zeros(n),
            power_mean=np.full(n, np.nan),
            power_var=np.zeros(n),
            bias=np.zeros(n),
            slow=np.zeros(n),
            drifted=np.zeros(n, dtype=bool),
            settled_at_s=np.full(n, -np.inf),
            best=np.argmin(np.abs(np.log(self._tau[:, None] / self._prior_tau)), axis=0),
        )

    @property
    def settings(self) -> tuple[ZoneSettings, ...]:
        """What the zones were set up with."""
        return self._settings

    def observe(
        self,
        now_s: float,
        temperature_c: FloatArray,
        reference_c: FloatArray,
        heat_kw: FloatArray,
        fresh: np.ndarray,
        regime: np.ndarray | None = None,
        jumped: np.ndarray | None = None,
    ) -> None:
        """Take what all zones show now.

        Args:
            now_s: The time of the readings [s].
            temperature_c: What is limited: inlet or coolant [degC].
            reference_c: What the cooling supplies; the expected one where it is not measured [degC].
            heat_kw: Heat that each zone makes [kW].
            fresh: Where the temperature may be believed.
            regime: A number for each zone that changes when fans, flow or throttling do.
            jumped: Where a sensor jumped a while ago and may jump back: how much warmer the zone is than its model says
                counts there, and nothing else is learnt.
        """
        dt = 0.0 if self.known.at_s is None else now_s - self.known.at_s
        if dt < 0 or (self.known.at_s is not None and dt == 0):
            return
        fresh = fresh & np.isfinite(temperature_c) & np.isfinite(reference_c) & np.isfinite(heat_kw)
        self._filter(dt, reference_c, heat_kw)
        self.known.at_s = now_s
        self._excite(dt, heat_kw)
        if regime is not None:
            self._change_regime(now_s, regime)
        x = self._regressors()
        y = temperature_c - self.known.reference
        error = y - np.einsum("bni,bni->bn", x, self.known.theta)
        learn = fresh & (self.known.warm_s >= 2.0 * self._prior_tau) & (now_s - self.known.settled_at_s >= _SETTLE_S)
        sound = learn if jumped is None else learn & ~jumped
        self._judge(dt, error, learn, sound)
        excited = np.sqrt(self.known.power_var) > np.maximum(
            self._floor_kw, 0.02 * _known_or_zero(self.known.power_mean)
        )
        ready = sound[None] & excited[None] & (self.known.warm_s[None] >= np.minimum(2.0 * self._tau[:, None], 5400.0))
        sigma = np.sqrt(np.maximum(self.known.error, 0.05**2))
        huber = np.minimum(1.0, _HUBER_SIGMAS * sigma / np.maximum(np.abs(error), 1e-9))
        # Until something is learnt, nothing is an outlier.
        weight = np.where(
            ready, np.where(self.fit.weight > _TRUST_SAMPLES, np.where(np.isfinite(huber), huber, 1.0), 1.0), 0.0
        )
        self.fit.forget(np.where(weight > 0, np.exp(-dt / _FORGETTING_S), 1.0))
        self.fit.update(_known_or_zero(x), _known_or_zero(y), weight)
        self._moments += 1
        if self._moments % 16 == 0 or (self._moments < 400 and self._moments % 4 == 0):
            self.known.theta = self.fit.solve()
            self._errors = None
            self._choose()

    def predict(self, heat_kw: FloatArray, reference_c: FloatArray, step_s: float) -> Prediction:
        """Return the temperatures ahead for profiles of heat [kW] and reference [degC], both (steps, zones)."""
        rows = np.arange(len(self.names))
        heat, reference = self.known.heat[self.known.best, rows], self.known.reference[self.known.best, rows]
        heat = np.where(np.isfinite(heat), heat, heat_kw[0])
        reference = np.where(np.isfinite(reference), reference, reference_c[0])
        theta = self.known.theta[self.known.best, rows]
        keep = np.exp(-step_s / self._tau[self.known.best])
        found = np.empty_like(heat_kw)
        # A neighbour's heat is filtered with the zone's own time constant, as it was learnt.
        known = self._neighbour >= 0
        near = np.where(known, self.known.heat[self.known.best[:, None], np.maximum(self._neighbour, 0)], 0.0)
        near = _known_or_zero(near)
        for k in range(len(heat_kw)):
            heat = keep * heat + (1.0 - keep) * heat_kw[k]
            reference = keep * reference + (1.0 - keep) * reference_c[k]
            arriving = np.where(known, heat_kw[k][np.maximum(self._neighbour, 0)], 0.0)
            near = keep[:, None] * near + (1.0 - keep)[:, None] * arriving
            found[k] = reference + theta[:, 0] + theta[:, 1] * heat + (theta[:, 2:] * near).sum(axis=1)
        # A zone that is warmer than its model stays so until it shows otherwise; a cooler one earns nothing.
        found = found + np.maximum(self.known.bias, 0.0)
        return Prediction(temperature_c=found, margin_c=np.broadcast_to(self.margins(), found.shape))

    def margins(self) -> FloatArray:
        """Return what predictions may be wrong by, by zone [K]; half as much again while a zone drifts."""
        found: FloatArray = self.scores.margins() * np.where(self.known.drifted, 1.5, 1.0)
        return found

    def heat_models(self) -> Mapping[str, ZoneHeatModel]:
        """Return the models with their confidence."""
        rows = np.arange(len(self.names))
        theta = self.known.theta[self.known.best, rows]
        # Residuals follow each other slowly: of all samples only one for each two time constants is new.
        step_s = 15.0
        redundancy = np.sqrt(np.maximum(1.0, 2.0 * self._tau[self.known.best] / step_s))
        if self._errors is None:
            self._errors = self.fit.standard_errors(self.known.theta)
        errors = self._errors[self.known.best, rows] * redundancy[:, None]
        weight = self.fit.weight[self.known.best, rows]
        margins = self.margins()
        models = {}
        for i, name in enumerate(self.names):
            own, sd = float(theta[i, 1]), float(errors[i, 1])
            sure = weight[i] >= _TRUST_SAMPLES * redundancy[i] and sd <= _TRUST_RELATIVE_SD * max(own, 1e-9)
            neighbours = {
                self.names[j]: float(theta[i, 2 + k] + 2.0 * errors[i, 2 + k])
                for k, j in enumerate(self._neighbour[i])
                if j >= 0 and theta[i, 2 + k] > 2.0 * errors[i, 2 + k]
            }
            models[name] = ZoneHeatModel(
                own_k_per_kw=own,
                own_sd_k_per_kw=sd,
                neighbours_k_per_kw=neighbours if sure else {},
                offset_k=float(theta[i, 0]),
                bias_k=float(self.known.bias[i]),
                tau_s=float(self._tau[self.known.best[i]]),
                margin_k=float(margins[i]),
                trusted=bool(sure and not self.known.drifted[i]),
                drifted=bool(self.known.drifted[i]),
                samples=float(weight[i]),
            )
        return models

    def transplant(self, old: "ZoneModels") -> None:
        """Take over what another set learnt about zones that are still the same (settings changed elsewhere)."""
        before = {name: j for j, name in enumerate(old.names)}
        for name, i in self._index.items():
            j = before.get(name)
            if j is None or not old.settings[j].learns_like(self._settings[i]) or old.fit.width != self.fit.width:
                continue
            if any(neighbour not in before for neighbour in self._settings[i].neighbours):
                continue
            self.fit.adopt(old.fit, i, j)
            self.known.adopt(old.known, i, j)
            self.scores.adopt(old.scores, i, j)
        self.known.theta = self.fit.solve()
        self.known.at_s = old.known.at_s
        self._errors = None

    def _filter(self, dt: float, reference_c: FloatArray, heat_kw: FloatArray) -> None:
        keep = np.exp(-dt / self._tau)[:, None]
        anew = ~np.isfinite(self.known.heat) | (dt > MAX_GAP_S)
        heat = np.where(np.isfinite(heat_kw), heat_kw, self.known.heat)
        reference = np.where(np.isfinite(reference_c), reference_c, self.known.reference)
        self.known.heat = np.where(anew, heat, keep * self.known.heat + (1.0 - keep) * heat)
        self.known.reference = np.where(anew, reference, keep * self.known.reference + (1.0 - keep) * reference)
        restarted = anew.any(axis=0)
        self.known.warm_s = np.where(restarted, 0.0, self.known.warm_s + dt)

    def _excite(self, dt: float, heat_kw: FloatArray) -> None:
        share = 1.0 - np.exp(-dt / _EXCITATION_S)
        heat = np.where(np.isfinite(heat_kw), heat_kw, self.known.power_mean)
        self.known.power_mean = np.where(np.isfinite(self.known.power_mean), self.known.power_mean, heat)
        away = _known_or_zero(heat - self.known.power_mean)
        self.known.power_mean = self.known.power_mean + share * away
        self.known.power_var = (1.0 - share) * (self.known.power_var + share * away**2)

    def _change_regime(self, now_s: float, regime: np.ndarray) -> None:
        if self._regime is not None:
            changed = regime != self._regime
            if changed.any():
                self.known.settled_at_s[changed] = now_s
                self.fit.forget(np.where(np.broadcast_to(changed, self.known.error.shape), 0.3, 1.0))
        self._regime = regime.copy()

    def _regressors(self) -> FloatArray:
        bank, n = self.known.heat.shape
        x = np.empty((bank, n, 2 + self._neighbour.shape[1]))
        x[..., 0] = 1.0
        x[..., 1] = self.known.heat
        near = self.known.heat[:, np.maximum(self._neighbour, 0)]
        x[..., 2:] = np.where(self._neighbour >= 0, near, 0.0)
        return x

    def _judge(self, dt: float, error: FloatArray, fresh: np.ndarray, sound: np.ndarray) -> None:
        """Follow the bias; score the prediction made before this sample was learnt, and watch for drift."""
        rows = np.arange(len(self.names))
        mine = error[self.known.best, rows]
        felt, seen = fresh & np.isfinite(mine), sound & np.isfinite(mine)
        self.scores.observe(mine - np.maximum(self.known.bias, 0.0), seen)
        square = np.where(np.isfinite(error), error**2, 0.0)
        share = 1.0 - np.exp(-dt / _ERROR_S)
        started = np.isfinite(self.known.error)
        moved = np.where(started, (1.0 - share) * self.known.error + share * square, square)
        self.known.error = np.where(sound[None], moved, self.known.error)
        self.known.bias = np.where(
            felt, self.known.bias + (1.0 - np.exp(-dt / _BIAS_S)) * (mine - self.known.bias), self.known.bias
        )
        self.known.slow = np.where(
            seen, self.known.slow + (1.0 - np.exp(-dt / _DRIFT_S)) * (mine - self.known.slow), self.known.slow
        )
        learnt = self.fit.weight[self.known.best, rows] > 2.0 * _TRUST_SAMPLES
        threshold = np.maximum(1.0, 0.7 * self.scores.margins())
        away = seen & learnt & (np.abs(self.known.slow) > threshold)
        begins = away & ~self.known.drifted
        if begins.any():
            # What it learnt of the old room must not outvote the new one.
            self.fit.forget(np.where(np.broadcast_to(begins, error.shape), 0.02, 1.0))
        self.known.drifted = np.where(
            seen, away | (self.known.drifted & (np.abs(self.known.slow) > 0.5 * threshold)), self.known.drifted
        )

    def _choose(self) -> None:
        """Use the time constant with the least recent error; a clear gain is asked for before it changes."""
        rows = np.arange(len(self.names))
        known = np.isfinite(self.known.error) & (self.fit.weight >= _TRUST_SAMPLES / 4.0)
        error = np.where(known, self.known.error, np.inf)
        found = np.argmin(error, axis=0)
        better = error[found, rows] < 0.95 * error[self.known.best, rows]
        self.known.best = np.where(better & np.isfinite(error[found, rows]), found, self.known.best)


def _known_or_zero(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, 0.0)
