//! Whether the control group of this process has room for the store.
//!
//! The kernel takes the memory of the maps, and charges it to the control group, when they are
//! made. If the group has no room for them, the kernel kills the process (out of memory) before it
//! can say why. So the limits are read first: those of the group and of all groups around it, in
//! either version of control groups.

use crate::{store::sizes::Sizes, text::human_bytes};
use anyhow::bail;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsmount, fsopen};
use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

/// What loading the program and running the tracker take in addition to the store: the verifier's
/// states, types of the kernel, threads, buffers. While the program is loaded 25 MiB of it were
/// measured.
const OVERHEAD: u64 = 32 << 20;

/// Bytes of a map for which the kernel needs one more byte: a pointer for each page of 4096 bytes,
/// and an entry of the page table that maps it into this process.
const BYTES_PER_MANAGED_BYTE: u64 = 4096 / (8 + 8);

/// Limits from here on are no limits: version 1 has no word for that.
const UNLIMITED: u64 = 1 << 60;

/// A control group that limits memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    /// Its path in the tree of control groups.
    path: String,
    /// Bytes that it allows.
    limit: u64,
    /// Bytes that are in use and cannot be taken back.
    used: u64,
    /// The file that has the limit.
    file: &'static str,
}

/// Names of files and of their lines, which differ between the versions.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` that the kernel can take back.
    reclaimable: &'static [&'static str],
}

const VERSION_1: Version = Version {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: &["total_inactive_file", "total_active_file"],
};

const VERSION_2: Version = Version {
    limit: "memory.max",
    used: "memory.current",
    reclaimable: &["inactive_file", "active_file", "slab_reclaimable"],
};

/// Makes sure that the control group has room for the maps.
///
/// # Errors
/// When it does not: what there is, what it takes, and what to do.
pub fn check(sizes: &Sizes) -> anyhow::Result<()> {
    let overhead = OVERHEAD + sizes.bytes() / BYTES_PER_MANAGED_BYTE;
    let Some(group) = without_room(&groups(), sizes.bytes() + overhead) else { return Ok(()) };
    bail!(
        "the maps of the XDP program take {} at once, and {} more are needed beside them, but {}: the kernel would end this \
         process. Raise the limit to {} MiB at least (MemoryMax= of a service, --memory of a container), or lower --max-torrents \
         and --max-peers (`tracker sizes` shows what they take), or run with --xdp-mode off, which takes memory as it fills",
        human_bytes(sizes.bytes()),
        human_bytes(overhead),
        describe(&group),
        // What is in use varies a little.
        (group.used + sizes.bytes() + overhead).div_ceil(1 << 20) + 4
    )
}

/// Warns if the store cannot fill without the kernel ending this process.
pub fn warn_of_overcommitment(sizes: &Sizes) {
    if let Some(group) = without_room(&groups(), sizes.bytes()) {
        tracing::warn!(
            "the store takes up to {} as it fills, but {}: the kernel will end this process before it is full. Raise the limit, \
             or lower --max-torrents and --max-peers",
            human_bytes(sizes.bytes()),
            describe(&group)
        );
    }
}

fn describe(group: &Group) -> String {
    let Group { path, limit, used, file } = group;
    format!(
        "the control group {path} allows {} ({file}), of which {} are in use",
        human_bytes(*limit),
        human_bytes(*used)
    )
}

/// The group with the least room, if that is less than `needed`.
fn without_room(groups: &[Group], needed: u64) -> Option<Group> {
    let room = |group: &&Group| group.limit.saturating_sub(group.used);
    groups.iter().min_by_key(room).filter(|group| room(group) < needed).cloned()
}

/// The groups that limit the memory of this process, from its own upwards. None if that cannot be
/// found out.
fn groups() -> Vec<Group> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let Some((version, path)) = own_group(&read("/proc/self/cgroup")) else { return Vec::new() };
    if let Some((root, path)) = mounted(&read("/proc/self/mountinfo"), version, &path) {
        return limits(version, &root, &path);
    }
    // `ip netns exec` leaves no control groups mounted.
    match mount(version) {
        Ok(mounted) => limits(version, Path::new(&format!("/proc/self/fd/{}", mounted.as_raw_fd())), &path),
        Err(error) => {
            tracing::debug!("cannot look at the control group {path}: {error}");
            Vec::new()
        }
    }
}

/// Which version controls memory, and the path of this process's group, from `/proc/PID/cgroup`.
fn own_group(text: &str) -> Option<(&'static Version, String)> {
    let mut second = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((&VERSION_1, path.to_owned()));
        }
        if number == "0" && controllers.is_empty() {
            second = Some((&VERSION_2, path.to_owned()));
        }
    }
    second
}

/// Where the groups are mounted, and the path of a group below that, from `/proc/PID/mountinfo`.
fn mounted(text: &str, version: &Version, path: &str) -> Option<(PathBuf, String)> {
    text.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let (root, mount_point) = {
            let mut fields = place.split(' ').skip(3);
            (fields.next()?, fields.next()?)
        };
        let mut kind = kind.split(' ');
        let fits = match kind.next()? {
            "cgroup2" => version == &VERSION_2,
            "cgroup" => version == &VERSION_1 && kind.nth(1)?.split(',').any(|option| option == "memory"),
            _ => false,
        };
        // A container may see a part of the tree only: then what it sees begins with its own group
        // or one around it.
        let below = path.strip_prefix(root.trim_end_matches('/')).filter(|below| !below.contains("..")).unwrap_or("");
        fits.then(|| (PathBuf::from(mount_point), below.to_owned()))
    })
}

/// What the group `path` below `root` and those around it allow.
fn limits(version: &Version, root: &Path, path: &str) -> Vec<Group> {
    let own = root.join(path.trim_start_matches('/'));
    let parents = own.ancestors().take_while(|directory| directory.starts_with(root));
    parents.filter_map(|directory| limit(version, root, directory)).collect()
}

fn limit(version: &Version, root: &Path, directory: &Path) -> Option<Group> {
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
    // "max" is no number.
    let limit = read(version.limit)?.trim().parse().ok().filter(|limit| *limit < UNLIMITED)?;
    let used: u64 = read(version.used)?.trim().parse().ok()?;
    let statistics = read("memory.stat").unwrap_or_default();
    let value = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        version.reclaimable.contains(&name).then(|| value.parse::<u64>().ok())?
    };
    let reclaimable: u64 = statistics.lines().filter_map(value).sum();
    let path = directory.strip_prefix(root).ok()?;
    Some(Group {
        path: format!("/{}", path.display()),
        limit,
        used: used.saturating_sub(reclaimable),
        file: if version == &VERSION_1 { VERSION_1.limit } else { VERSION_2.limit },
    })
}

/// Mounts the tree of control groups at no path: it can be reached through the descriptor only, and
/// is unmounted when that is closed.
fn mount(version: &Version) -> io::Result<OwnedFd> {
    let kind = if version == &VERSION_1 { c"cgroup" } else { c"cgroup2" };
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if version == &VERSION_1 {
        fsconfig_set_flag(&context, c"memory")?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_that_controls_memory_is_found() {
        for (text, expected) in [
            ("0::/system.slice/tracker.service\n", Some((&VERSION_2, "/system.slice/tracker.service"))),
            ("0::/\n", Some((&VERSION_2, "/"))),
            ("0::/a\n4:memory:/b\n3:cpu,cpuacct:/c\n", Some((&VERSION_1, "/b"))),
            ("5:cpu,memory:/d:e\n0::/\n", Some((&VERSION_1, "/d:e"))),
            ("3:cpu:/c\n", None),
            ("", None),
        ] {
            let found = own_group(text);
            assert_eq!(found.as_ref().map(|(version, path)| (*version, path.as_str())), expected, "{text:?}");
        }
    }

    #[test]
    fn group_is_found_below_its_mount() {
        let v1 = "23 1 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                  35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let part = "35 31 0:32 /docker/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        for (text, version, path, expected) in [
            (v1, &VERSION_1, "/a/b", Some(("/sys/fs/cgroup/memory", "/a/b"))),
            (v1, &VERSION_2, "/a/b", None),
            (v2, &VERSION_2, "/a", Some(("/sys/fs/cgroup", "/a"))),
            (v2, &VERSION_1, "/a", None),
            (v2, &VERSION_2, "/../a", Some(("/sys/fs/cgroup", ""))),
            (part, &VERSION_1, "/docker/a", Some(("/sys/fs/cgroup/memory", ""))),
            (part, &VERSION_1, "/docker/a/b", Some(("/sys/fs/cgroup/memory", "/b"))),
            (part, &VERSION_1, "/elsewhere", Some(("/sys/fs/cgroup/memory", ""))),
            ("", &VERSION_2, "/", None),
        ] {
            let found = mounted(text, version, path);
            let expected = expected.map(|(root, path)| (PathBuf::from(root), path.to_owned()));
            assert_eq!(found, expected, "{path} of {text}");
        }
    }

    /// A tree of control groups of three levels, of files.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, version: &Version, levels: [(&str, u64, u64); 3]) -> Self {
            let root = std::env::temp_dir().join(format!("tracker-groups-{}-{name}", std::process::id()));
            let mut directory = root.clone();
            for (level, (limit, used, reclaimable)) in ["", "a", "b"].iter().zip(levels) {
                directory.push(level);
                fs::create_dir_all(&directory).expect("writable");
                let statistics = format!("anon 5\n{} {reclaimable}\nkernel 7\n", version.reclaimable[0]);
                for (file, text) in [
                    (version.limit, format!("{limit}\n")),
                    (version.used, format!("{used}\n")),
                    ("memory.stat", statistics),
                ] {
                    fs::write(directory.join(file), text).expect("writable");
                }
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("made here");
        }
    }

    #[test]
    fn tightest_of_all_groups_around_decides() {
        let none = "max";
        let none_v1 = "9223372036854771712";
        for (name, version, levels, needed, short) in [
            ("free", &VERSION_2, [(none, 9, 0), (none, 9, 0), (none, 9, 0)], 1 << 50, None),
            ("free_v1", &VERSION_1, [(none_v1, 9, 0), (none_v1, 9, 0), (none_v1, 9, 0)], 1 << 50, None),
            ("own", &VERSION_2, [(none, 0, 0), (none, 0, 0), ("1000", 100, 0)], 901, Some("/a/b")),
            ("own_v1", &VERSION_1, [(none_v1, 0, 0), (none_v1, 0, 0), ("1000", 100, 0)], 901, Some("/a/b")),
            ("just", &VERSION_2, [(none, 0, 0), (none, 0, 0), ("1000", 100, 0)], 900, None),
            ("above", &VERSION_2, [(none, 0, 0), ("500", 0, 0), ("1000", 0, 0)], 501, Some("/a")),
            ("top", &VERSION_2, [("500", 0, 0), (none, 0, 0), ("1000", 0, 0)], 501, Some("/")),
            ("others", &VERSION_2, [(none, 0, 0), ("2000", 1500, 0), ("1000", 0, 0)], 501, Some("/a")),
            ("cache", &VERSION_2, [(none, 0, 0), (none, 0, 0), ("1000", 900, 800)], 900, None),
            ("cache_v1", &VERSION_1, [(none_v1, 0, 0), (none_v1, 0, 0), ("1000", 900, 800)], 900, None),
            ("over", &VERSION_2, [(none, 0, 0), (none, 0, 0), ("1000", 2000, 0)], 1, Some("/a/b")),
        ] {
            let tree = Tree::new(name, version, levels);
            let found = without_room(&limits(version, &tree.0, "/a/b"), needed);
            assert_eq!(found.map(|group| group.path).as_deref(), short, "{name}");
        }
        assert_eq!(limits(&VERSION_2, Path::new("/nonexistent"), "/a"), []);
    }
}
