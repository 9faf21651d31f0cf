//! The benchmark's XDP programs in the kernel, and their maps.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
};

use anyhow::{Context as _, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader, Pod, VerifierLogLevel,
    maps::{
        Array, Map, MapData, PerCpuArray, ProgramArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{ProgramFd, Xdp, XdpMode},
    util::nr_cpus,
};
use bench_ebpf::{Client, LATENCY_BUCKETS, LISTED_NETWORKS, Load, PAGE_WORDS, Progress, Replies, Visit};

use tracker_tests::workspace;

/// A record of the maps: plain integers without padding.
pub trait Record: Copy + 'static {}
impl Record for Client {}
impl Record for Load {}
impl Record for Progress {}
impl Record for Replies {}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

// SAFETY: `Record`s consist of integers without padding between them, so every byte of them may be
// read and copied.
unsafe impl<T: Record> Pod for Plain<T> {}

/// The programs and maps of one end of a testbed.
pub struct Object {
    pub programs: Programs,
    pub maps: Maps,
}

/// The programs; loaded when they are first used, detached when this goes away.
pub struct Programs(Ebpf);

/// The maps.
pub struct Maps {
    load: Array<MapData, Plain<Load>>,
    clients: Array<MapData, Plain<Client>>,
    progress: PerCpuArray<MapData, Plain<Progress>>,
    replies: PerCpuArray<MapData, Plain<Replies>>,
    latency: PerCpuArray<MapData, u64>,
    target: ProgramArray<MapData>,
    networks: LpmTrie<MapData, u32, u32>,
    pages: Array<MapData, u64>,
    address: Array<MapData, u64>,
    population: Population,
}

impl Object {
    /// Creates the maps, for so many source addresses and peers.
    pub fn load(clients: u32, visits: u32) -> anyhow::Result<Self> {
        let path = workspace::root().join("bench/bpf/bench.bpf.o");
        let object = fs::read(&path)
            .with_context(|| format!("cannot read {} (cargo xtask build-ebpf makes it)", workspace::display(&path)))?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("CLIENTS", clients.max(1))
            .map_max_entries("POPULATION", visits.max(1))
            .verifier_log_level(VerifierLogLevel::STATS)
            .load(&object)
            .context("cannot create the benchmark's BPF maps (run as root)")?;
        let mut take =
            |name: &str| ebpf.take_map(name).with_context(|| format!("the benchmark's object has no map {name}"));
        let Map::Array(population) = take("POPULATION")? else { bail!("the map POPULATION is not an array") };
        let population = Population::map(population).context("cannot map the population into memory")?;
        let maps = Maps {
            load: take("LOAD")?.try_into()?,
            clients: take("CLIENTS")?.try_into()?,
            progress: take("PROGRESS")?.try_into()?,
            replies: take("REPLIES")?.try_into()?,
            latency: take("LATENCY")?.try_into()?,
            target: take("TARGET")?.try_into()?,
            networks: take("NETWORKS")?.try_into()?,
            pages: take("PAGES")?.try_into()?,
            address: take("ADDRESS")?.try_into()?,
            population,
        };
        Ok(Self { programs: Programs(ebpf), maps })
    }
}

impl Programs {
    /// A program, loaded by now.
    pub fn get(&mut self, name: &str) -> anyhow::Result<&mut Xdp> {
        let program =
            self.0.program_mut(name).with_context(|| format!("the benchmark's object has no program {name}"))?;
        let program: &mut Xdp = program.try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("the kernel does not accept the benchmark's program {name}"))?;
        }
        Ok(program)
    }

    /// Attaches a program to an interface of the namespace the thread is in.
    pub fn attach(&mut self, name: &str, interface: &str) -> anyhow::Result<()> {
        self.get(name)?
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("cannot attach the program {name} to {interface}"))?;
        Ok(())
    }
}

impl Maps {
    pub fn set_load(&mut self, load: &Load) -> anyhow::Result<()> {
        self.load.set(0, Plain(*load), 0).context("cannot write the map LOAD")
    }

    pub fn set_clients(&mut self, clients: &[Client]) -> anyhow::Result<()> {
        for (number, client) in (0..).zip(clients) {
            self.clients.set(number, Plain(*client), 0).context("cannot write the map CLIENTS")?;
        }
        Ok(())
    }

    /// The peers that announce, in the order in which they do; memory shared with the programs.
    pub fn population(&mut self) -> &mut [Visit] {
        let Population { start, length, .. } = self.population;
        // SAFETY: the mapping is as long as the map and lives as long as `self`; the programs only
        // read it, and not while the benchmark writes.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }

    /// Sets the progress of every CPU, given its number.
    pub fn set_progress(&mut self, progress: impl Fn(usize) -> Progress) -> anyhow::Result<()> {
        let cpus = nr_cpus().map_err(|(path, error)| anyhow!("cannot read {path}: {error}"))?;
        let values: Vec<_> = (0..cpus).map(|cpu| Plain(progress(cpu))).collect();
        self.progress.set(0, values.try_into()?, 0).context("cannot write the map PROGRESS")
    }

    /// The progress of one CPU.
    pub fn progress(&self, cpu: usize) -> anyhow::Result<Progress> {
        Ok(self.progress.get(&0, 0).context("cannot read the map PROGRESS")?[cpu].0)
    }

    /// The replies that one CPU has validated.
    pub fn replies(&self, cpu: usize) -> anyhow::Result<Replies> {
        Ok(self.replies.get(&0, 0).context("cannot read the map REPLIES")?[cpu].0)
    }

    /// The latency histogram of one CPU so far.
    pub fn latency(&self, cpu: usize) -> anyhow::Result<Vec<u64>> {
        (0..LATENCY_BUCKETS)
            .map(|bucket| Ok(self.latency.get(&bucket, 0).context("cannot read the map LATENCY")?[cpu]))
            .collect()
    }

    /// Lists networks of 16 addresses, all over IPv4, in both structures for that.
    pub fn list_networks(&mut self) -> anyhow::Result<()> {
        let mut words = vec![0_u64; PAGE_WORDS as usize];
        for number in 0..LISTED_NETWORKS {
            // Odd, so no two numbers meet before they are cut.
            let address = number.wrapping_mul(0x9e37_79b1) & !15;
            self.networks.insert(&Key::new(28, address.to_be()), 1, 0).context("cannot write the map NETWORKS")?;
            words[(address >> 14) as usize] |= 1 << (address >> 8 & 63);
        }
        for (number, word) in (0..).zip(words) {
            self.pages.set(number, word, 0).context("cannot write the map PAGES")?;
        }
        self.address.set(0, 1, 0).context("cannot write the map ADDRESS")
    }

    /// Makes `program` the one that `harness` calls.
    pub fn set_target(&mut self, program: &ProgramFd) -> anyhow::Result<()> {
        self.target.set(0, program, 0).context("cannot put the program into the map TARGET")
    }
}

/// The map POPULATION in this process's memory.
struct Population {
    start: *mut Visit,
    length: usize,
    _map: MapData,
}

impl Population {
    fn map(map: MapData) -> anyhow::Result<Self> {
        let length = map.info()?.max_entries() as usize;
        // SAFETY: a new mapping at an address of the kernel's choice, of a map created with
        // BPF_F_MMAPABLE.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length * size_of::<Visit>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        Ok(Self { start: start.cast(), length, _map: map })
    }
}

impl Drop for Population {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`, to which no reference is left.
        unsafe { libc::munmap(self.start.cast(), self.length * size_of::<Visit>()) };
    }
}
