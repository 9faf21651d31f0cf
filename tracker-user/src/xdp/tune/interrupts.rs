//! Which interrupts a network card has, which cores take them, and which should.

use std::{collections::BTreeSet, fs, io, path::Path};

/// Parts of the names of interrupts that have nothing to do with packets.
const OTHERS: [&str; 7] = ["config", "async", "mgmnt", "ctrl", "misc", "ptp", "control"];

/// Parts of the names of interrupts for packets that are received.
const RECEIVING: [&str; 2] = ["rx", "input"];

/// Numbers of the interrupts of a card. `root` is `/`, or what stands for it in tests.
#[must_use]
pub fn interrupts(root: &Path, interface: &str) -> Vec<u32> {
    // With virtio the interrupts are those of the device behind it.
    let lists = ["device/msi_irqs", "device/../msi_irqs"];
    let lists = lists.map(|list| root.join("sys/class/net").join(interface).join(list));
    let entries = lists.iter().find_map(|list| fs::read_dir(list).ok()).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Numbers of the cores that are online.
#[must_use]
pub fn cores(root: &Path) -> Vec<u32> {
    let text = fs::read_to_string(root.join("sys/devices/system/cpu/online")).unwrap_or_default();
    let cores = list(&text);
    if cores.is_empty() {
        (0..std::thread::available_parallelism().map_or(1, usize::from) as u32).collect()
    } else {
        cores
    }
}

/// Numbers as the kernel lists them: `0-3,8`.
fn list(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            numbers.extend(first..=last.min(first.saturating_add(8192)));
        }
    }
    numbers
}

/// Which core is to take which interrupt: one core for each that is for packets received. `None` if there
/// is nothing to choose, or it is so already.
pub(super) fn plan(root: &Path, interface: &str) -> Option<Vec<(u32, u32)>> {
    let cores = cores(root);
    let names = fs::read_to_string(root.join("proc/interrupts")).unwrap_or_default();
    let mut ours: Vec<_> = interrupts(root, interface)
        .into_iter()
        .map(|number| (number, name(&names, number)))
        .filter(|(_, name)| !OTHERS.iter().any(|other| name.contains(other)))
        .collect();
    let receives = |name: &str| RECEIVING.iter().any(|part| name.contains(part));
    if ours.iter().any(|(_, name)| receives(name)) {
        ours.retain(|(_, name)| receives(name));
    }
    let taken: BTreeSet<_> = ours
        .iter()
        .filter_map(|(number, _)| fs::read_to_string(file(root, *number, "effective_affinity_list")).ok())
        .collect();
    let wanted = cores.len().min(ours.len());
    (wanted > 1 && taken.len() < wanted)
        .then(|| ours.iter().map(|(number, _)| *number).zip(cores.into_iter().cycle()).collect())
}

/// What `/proc/interrupts` calls an interrupt, in small letters.
fn name(interrupts: &str, number: u32) -> String {
    let of = format!("{number}:");
    let line = interrupts.lines().find(|line| line.trim_start().starts_with(&of));
    line.and_then(|line| line.split_whitespace().next_back()).unwrap_or_default().to_lowercase()
}

fn file(root: &Path, number: u32, name: &str) -> std::path::PathBuf {
    root.join("proc/irq").join(number.to_string()).join(name)
}

/// The cores that may take an interrupt, as the kernel lists them.
pub(super) fn affinity(root: &Path, number: u32) -> Option<String> {
    fs::read_to_string(file(root, number, "smp_affinity_list")).ok().map(|text| text.trim().to_owned())
}

/// Sets them.
pub(super) fn set_affinity(root: &Path, number: u32, cores: &str) -> io::Result<()> {
    fs::write(file(root, number, "smp_affinity_list"), cores)
}

/// Whether a daemon runs that moves interrupts from core to core by itself.
pub(super) fn are_balanced(root: &Path) -> bool {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let processes = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())));
    let mut names = processes.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.any(|name| name.trim() == "irqbalance")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Root(PathBuf);

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tracker-tune-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
            fs::write(path, text).expect("writable");
        }

        /// A machine with so many cores and a card with interrupts: number, name, core.
        fn card(name: &str, cores: &str, interrupts: &[(u32, &str, u32)]) -> Self {
            let root = Self::new(name);
            root.file("sys/devices/system/cpu/online", cores);
            let mut names = String::from("           CPU0       CPU1\n");
            for (number, name, core) in interrupts {
                root.file(&format!("sys/class/net/eth0/device/msi_irqs/{number}"), "msix");
                root.file(&format!("proc/irq/{number}/effective_affinity_list"), &format!("{core}\n"));
                root.file(&format!("proc/irq/{number}/smp_affinity_list"), "0-3\n");
                names += &format!(" {number}:   0   7  PCI-MSIX-0000:00:04.0   {number}-edge      {name}\n");
            }
            root.file("proc/interrupts", &names);
            root
        }
    }

    #[test]
    fn numbers_are_read_as_the_kernel_lists_them() {
        let rows: [(&str, &[u32]); 6] = [
            ("0-3\n", &[0, 1, 2, 3]),
            ("0", &[0]),
            ("0,2-3,9\n", &[0, 2, 3, 9]),
            ("", &[]),
            ("x,1", &[1]),
            ("3-1", &[]),
        ];
        for (text, expected) in rows {
            assert_eq!(list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn interrupts_for_packets_received_get_a_core_each() {
        type Row<'a> = (&'a str, &'a str, &'a [(u32, &'a str, u32)], Option<&'a [(u32, u32)]>);
        let rows: [Row<'_>; 7] = [
            (
                "virtio",
                "0-1",
                &[
                    (24, "virtio0-config", 0),
                    (25, "virtio0-input.0", 0),
                    (26, "virtio0-output.0", 1),
                    (27, "virtio0-input.1", 0),
                ],
                Some(&[(25, 0), (27, 1)]),
            ),
            (
                "shared",
                "0,2",
                &[(7, "eth0-TxRx-0", 0), (8, "eth0-TxRx-1", 0), (9, "eth0-TxRx-2", 0)],
                Some(&[(7, 0), (8, 2), (9, 0)]),
            ),
            (
                "nameless",
                "0-1",
                &[(7, "mlx5_async0@pci", 0), (8, "mlx5_comp0@pci", 1), (9, "mlx5_comp1@pci", 1)],
                Some(&[(8, 0), (9, 1)]),
            ),
            ("spread", "0-1", &[(7, "eth0-rx-0", 1), (8, "eth0-rx-1", 0)], None),
            ("one core", "0", &[(7, "eth0-rx-0", 0), (8, "eth0-rx-1", 0)], None),
            ("one queue", "0-1", &[(7, "eth0-rx-0", 0), (8, "eth0-tx-0", 0)], None),
            ("none", "0-1", &[], None),
        ];
        for (name, cores, interrupts, expected) in rows {
            let root = Root::card(&name.replace(' ', "-"), cores, interrupts);
            assert_eq!(plan(&root.0, "eth0").as_deref(), expected, "{name}");
            assert_eq!(plan(&root.0, "eth1"), None, "{name}: another card");
        }
    }

    #[test]
    fn affinity_is_set_where_it_is_read() {
        let root = Root::card("affinity", "0-1", &[(7, "eth0-rx-0", 0)]);
        assert_eq!(affinity(&root.0, 7).as_deref(), Some("0-3"));
        set_affinity(&root.0, 7, "1").expect("a file");
        assert_eq!((affinity(&root.0, 7).as_deref(), affinity(&root.0, 8)), (Some("1"), None));
        assert!(set_affinity(&root.0, 8, "1").is_err());
    }

    #[test]
    fn who_moves_interrupts_is_known_by_its_name() {
        let root = Root::new("balanced");
        root.file("proc/1/comm", "systemd\n");
        root.file("proc/irqbalance/comm", "irqbalance\n");
        assert!(!are_balanced(&root.0));
        root.file("proc/812/comm", "irqbalance\n");
        assert!(are_balanced(&root.0));
    }
}
