use super::*;
use std::sync::atomic::{AtomicU32, Ordering};
use tracker_tests::temporary::Directory;

/// A machine with these files.
struct Machine(Directory);

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let machine = Self(Directory::new(&format!("energy-{}", NUMBER.fetch_add(1, Ordering::Relaxed))));
        for (name, text) in files {
            machine.write(name, text);
        }
        machine
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
        fs::write(path, text).expect("writable");
    }

    /// A meter; `meanwhile` happens before counters are looked at again.
    fn meter(&self, meanwhile: impl Fn()) -> Meter {
        Meter::of([&self.0.0, Path::new("/nowhere"), &self.0.path("stat")], meanwhile)
    }
}

const STAT: &str = "cpu  100 0 100 5000 7 10 90 3 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
const PACKAGE: [(&str, &str); 3] = [
    ("intel-rapl:0/name", "package-0\n"),
    ("intel-rapl:0/max_energy_range_uj", "1000000\n"),
    ("intel-rapl:0/energy_uj", "5\n"),
];

#[test]
fn without_a_counter_energy_is_estimated_from_the_time_that_processors_were_busy() {
    // (what there is, and why that is no measurement)
    let rows: [(&str, &[(&str, &str)]); 4] = [
        ("nothing", &[]),
        ("a counter that stands still", &PACKAGE),
        ("no package", &[PACKAGE[1], PACKAGE[2], ("intel-rapl:0/name", "dram\n")]),
        ("no number", &[PACKAGE[0], PACKAGE[1], ("intel-rapl:0/energy_uj", "much\n")]),
    ];
    for (name, files) in rows {
        let machine = Machine::new(files);
        machine.write("stat", STAT);
        let meter = machine.meter(|| ());
        assert_eq!(meter.read(0), Energy { method: Method::Estimate, joules: 0.0, per_announce: None }, "{name}");
        // 100 + 50 + 50 ticks more, of which idle ones count nothing.
        machine.write("stat", "cpu  200 0 100 9000 7 60 140 3 0 0\n");
        let energy = meter.read(0);
        assert!((energy.joules - 2.0 * WATTS_PER_CORE).abs() < 1e-9, "{name}: {energy:?}");
    }
    let nothing = Machine::new(&[]).meter(|| ()).read(5);
    assert_eq!((nothing.method, nothing.joules), (Method::Estimate, 0.0));
}

#[test]
fn packages_are_measured_and_may_begin_anew() {
    let machine = Machine::new(&PACKAGE);
    // Parts of a package are counted with it.
    machine.write("intel-rapl:0:0/name", "core\n");
    machine.write("intel-rapl:0:0/energy_uj", "999\n");
    let meter = machine.meter(|| machine.write("intel-rapl:0/energy_uj", "100000\n"));
    let before = meter.read(0);
    assert_eq!(before.method, Method::Rapl);
    machine.write("intel-rapl:0/energy_uj", "900000\n");
    assert!((meter.read(0).joules - before.joules - 0.8).abs() < 1e-9);
    machine.write("intel-rapl:0/energy_uj", "100000\n");
    assert!((meter.read(0).joules - before.joules - 1.0).abs() < 1e-9, "it began anew at a million");
    machine.write("intel-rapl:0/energy_uj", "rubbish\n");
    assert!((meter.read(0).joules - before.joules - 1.0).abs() < 1e-9, "what is no number is no energy");
}

#[test]
fn joules_per_announce_are_those_of_the_last_minute() {
    let machine = Machine::new(&[("stat", STAT)]);
    let meter = machine.meter(|| ());
    assert_eq!(meter.read(1000).per_announce, None, "nothing to compare with");
    meter.sample(1000);
    assert_eq!(meter.read(1000).per_announce, None, "no announce");
    machine.write("stat", "cpu  200 0 100 9000 7 10 90 3 0 0\n");
    let per_announce = meter.read(1070).per_announce.expect("70 announces");
    assert!((per_announce - WATTS_PER_CORE / 70.0).abs() < 1e-9, "{per_announce}");
    for _ in 0..SAMPLES {
        meter.sample(1070);
    }
    assert_eq!(meter.read(1070).per_announce, None, "more than a minute ago");
}

#[test]
fn lines_of_proc_stat_are_understood() {
    assert_eq!(busy(STAT), Some(3.0));
    for wrong in ["", "cpu0 1 2 3 4 5 6 7", "cpu  1 2 3 4 5 6", "cpu  1 2 x 4 5 6 7", "intr 1"] {
        assert_eq!(busy(wrong), None, "{wrong}");
    }
    let energy = Meter::open().read(0);
    assert_eq!(energy.method.is_measured(), energy.method != Method::Estimate);
    assert!(["rapl", "perf", "estimate"].contains(&energy.method.label()));
}
