//! This file answers: how does a Python test move time?

use pyo3::prelude::*;
use wsauth_runtime as runtime;

use crate::errors::bad_argument;

/// The longest step, in seconds: ten thousand years.
const LONGEST: f64 = 3.2e11;

/// A clock that moves only when told to. An engine made with it takes time from nowhere else.
#[pyclass(name = "ManualClock", module = "wsauth", frozen)]
pub(crate) struct PyManualClock(pub(crate) runtime::ManualClock);

#[pymethods]
impl PyManualClock {
    /// A clock that stands at `wall` seconds since 1970.
    #[new]
    #[pyo3(signature = (wall))]
    fn new(wall: f64) -> PyResult<PyManualClock> {
        Ok(PyManualClock(runtime::ManualClock::new(to_ms(wall)?)))
    }

    /// Lets time pass on both clocks.
    #[pyo3(signature = (seconds))]
    fn advance(&self, seconds: f64) -> PyResult<()> {
        self.0.advance_ms(to_ms(seconds)?);
        Ok(())
    }

    /// Steps the wall clock forwards or backwards, as an operator would; monotonic time stands still.
    #[pyo3(signature = (seconds))]
    fn step_wall(&self, seconds: f64) -> PyResult<()> {
        let by = i64::try_from(to_ms(seconds.abs())?).unwrap_or(i64::MAX);
        self.0.step_wall_ms(if seconds < 0.0 { by.saturating_neg() } else { by });
        Ok(())
    }

    /// Seconds since 1970.
    #[getter]
    fn wall(&self) -> f64 {
        from_ms(self.0.now().wall.0)
    }

    fn __repr__(&self) -> String {
        format!("ManualClock(wall={:.3})", self.wall())
    }
}

/// Seconds from Python, as milliseconds. Refuses what is negative, not finite or beyond ten thousand years.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie within the range")]
pub(crate) fn to_ms(seconds: f64) -> PyResult<u64> {
    if !(0.0..=LONGEST).contains(&seconds) {
        return Err(bad_argument("seconds: a finite number of at least 0 expected"));
    }
    Ok((seconds * 1000.0).round() as u64)
}

/// Milliseconds as seconds; exact to the millisecond for all times up to the year 9999.
#[expect(clippy::cast_precision_loss, reason = "53 bits hold every millisecond up to the year 9999")]
pub(crate) fn from_ms(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
