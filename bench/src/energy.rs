//! What an answer costs in energy: measured where the kernel tells, else estimated.
//!
//! A measurement is of the whole processor, with the load's core and everything else, and so is an
//! upper bound. An estimate is made from the processor time of the tracker and its receive path alone.

use std::sync::OnceLock;

use tracker::statistics::energy::{Energy, Meter, Method, WATTS_PER_CORE};

fn read() -> Energy {
    static METER: OnceLock<Meter> = OnceLock::new();
    METER.get_or_init(Meter::open).read(0)
}

/// Joules of the whole processor so far, if they are measured.
pub fn measured() -> Option<f64> {
    let Energy { method, joules, .. } = read();
    method.is_measured().then_some(joules)
}

/// How energy is known on this machine.
pub fn method() -> Method {
    read().method
}

/// Joules between two moments, by a measurement or else by the processor time in nanoseconds that was
/// used.
pub fn joules(measured: Option<f64>, processor_time: u64) -> f64 {
    measured.unwrap_or(processor_time as f64 * 1e-9 * WATTS_PER_CORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_is_estimated() {
        for (measured, time, expected) in [
            (Some(3.0), 5_000_000_000, 3.0),
            (Some(0.0), 1, 0.0),
            (None, 0, 0.0),
            (None, 2_000_000_000, 2.0 * WATTS_PER_CORE),
        ] {
            assert!((joules(measured, time) - expected).abs() < 1e-9, "{measured:?} {time}");
        }
        assert_eq!(measured().is_some(), method().is_measured());
    }
}
